//! `bench api`: what clients of the Engine API wait for, and what it costs the host; beside dockerd.
//!
//! Both daemons are asked by the same client on one connection that stays open, for containers of the same image without
//! a network. What the docker CLI adds is measured in one row of its own.

mod execs;

mod lives;

mod memory;

mod output;

mod quick;

mod http;
mod pair;
mod processes;
mod report;
mod side;

use anyhow::Context;

use crate::daemon::Daemon;
use crate::workspace::Workspace;
use crate::{build, images};

use side::{IMAGE, Side};

pub(crate) use report::Format;

/// Moving megabytes takes seconds: of all rounds, so many are made of it.
const OUTPUT_SHARE: u32 = 4;

/// Everything that was measured.
struct Measured {
    memory: memory::Measured,
    quick: quick::Measured,
    lives: lives::Measured,
    execs: execs::Measured,
    output: output::Measured,
}

pub(super) fn run(
    workspace: &Workspace,
    rounds: u32,
    dockerd: &str,
    namespace: Option<&str>,
    format: Format,
) -> anyhow::Result<()> {
    let products = build::ensure(workspace)?;
    let archive = images::ensure(workspace)?.join(format!("{IMAGE}.tar"));
    let directory =
        tempfile::Builder::new().prefix("berth-bench-").tempdir().context("no temporary directory")?;
    let mut daemon = Daemon::start_in(&products, directory.path(), namespace)?;
    let mut sides = vec![Side::ours(&daemon)?];
    sides.extend(Side::peer(dockerd)?);
    sides.iter().try_for_each(|side| side.load(&archive))?;
    let measured = Measured {
        // First, while the daemon has done nothing yet that would be kept in memory.
        memory: memory::measure(&sides)?,
        quick: quick::measure(rounds, &sides)?,
        lives: lives::measure(rounds, &sides)?,
        execs: execs::measure(rounds, &sides)?,
        output: output::measure(rounds.div_ceil(OUTPUT_SHARE), &sides)?,
    };
    daemon.stop()?;
    report::write(workspace, rounds, &sides, measured, format)
}
