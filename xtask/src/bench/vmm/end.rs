//! What whoever ends a machine waits for: goal 25.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

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
    let control = UnixStream::connect(state.join("control.sock")).context("no control socket")?;
    let mut control = BufReader::new(control);
    let begun = Instant::now();
    control.get_mut().write_all(b"{\"request\":\"shut_down\"}\n")?;
    let mut reply = String::new();
    control.read_line(&mut reply)?;
    if !reply.contains("done") {
        bail!("shutting down was answered with {reply:?}");
    }
    measured.reply.add(begun.elapsed());
    while !state.join("exit.json").exists() {
        if begun.elapsed() > DEADLINE {
            bail!("no exit.json appeared");
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    measured.exit_file.add(begun.elapsed());
    machine.wait()?;
    measured.process.add(begun.elapsed());
    Ok(())
}
