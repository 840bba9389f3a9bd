//! What whoever ends a machine waits for: goal 25.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::json;

use super::super::figures::Figures;
use super::monitor::{Guest, Host, Side};
use crate::progress;

const POLL_INTERVAL: Duration = Duration::from_micros(100);
const DEADLINE: Duration = Duration::from_secs(10);

/// Counted from the request to shut down.
#[derive(Default)]
pub(super) struct Measured {
    pub(super) reply: Figures,
    /// `exit.json` says how the machine ended.
    pub(super) exit_file: Figures,
    /// The process is gone, and with it the machine's last resources.
    pub(super) process: Figures,
}

pub(super) fn measure(host: &Host, runs: u32) -> anyhow::Result<Measured> {
    progress::heading(format_args!("{runs} ends of machines"));
    let mut measured = Measured::default();
    for _ in 0..runs {
        one(host, &mut measured)?;
    }
    Ok(measured)
}

fn one(host: &Host, measured: &mut Measured) -> anyhow::Result<()> {
    let machine = host.start(Side::Ours, Guest::Stub)?;
    let state = machine.state().context("ours has a directory")?.to_path_buf();
    let begun = Instant::now();
    machine.ask(&json!({ "request": "shut_down" }))?;
    measured.reply.add(begun.elapsed());
    // It is made when the machine starts, and written when it ends.
    while fs::metadata(state.join("exit.json"))?.len() == 0 {
        if begun.elapsed() > DEADLINE {
            bail!("exit.json stays empty");
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    measured.exit_file.add(begun.elapsed());
    machine.wait()?;
    measured.process.add(begun.elapsed());
    Ok(())
}
