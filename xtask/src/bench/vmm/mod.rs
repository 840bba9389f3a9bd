//! `bench vmm`: what one machine costs on `/dev/kvm`, beside QEMU's microvm and fio in the same run.
//!
//! Starting machines is measured from outside, with the release program: [`start`], [`agent`], [`cost`], [`rate`], [`end`],
//! [`restore`]. The devices [`block`] and [`vsock`] are measured through their own queues, by synthetic [`drivers`] inside
//! the monitor's crate; these measure restored memory ([`touch`]), too.

mod agent;
mod block;
mod cost;
mod drivers;
mod end;
mod monitor;
mod rate;
mod report;
mod restore;
mod start;
mod stub;
mod touch;
mod vsock;

use anyhow::{Context, bail};

use crate::workspace::Workspace;
use crate::{build, kernel, packages, progress};

use self::drivers::Drivers;
use self::monitor::Host;

/// Everything that was measured, in the order of the page.
struct Measured {
    start: start::Measured,
    boot: Option<agent::Boot>,
    cost: cost::Measured,
    rate: rate::Measured,
    end: end::Measured,
    restore: Vec<restore::Restored>,
    touch: Vec<touch::Touched>,
    block: Vec<block::Reads>,
    vsock: vsock::Measured,
}

pub(super) fn run(workspace: &Workspace, runs: u32) -> anyhow::Result<()> {
    if let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        bail!("/dev/kvm does not open ({error}): there is nothing to measure here");
    }
    if let Err(error) = packages::ensure_for_benchmarks() {
        progress::note(format_args!("measuring without what is missing: {error:#}"));
    }
    let directory =
        tempfile::Builder::new().prefix("berth-bench-").tempdir().context("no temporary directory")?;
    let stub = directory.path().join("stub");
    stub::write(&stub)?;
    let talker = directory.path().join("talker");
    stub::write_talker(&talker)?;
    let kernel = kernel::cached(workspace)?;
    let large_stub = kernel.as_ref().map(|_| directory.path().join("large-stub"));
    if let (Some(kernel), Some(path)) = (&kernel, &large_stub) {
        stub::write_into(kernel, path)?;
    }
    let initramfs = kernel.as_ref().map(|_| crate::agent::ensure(workspace)).transpose()?;
    progress::heading("berth-vmm, in release mode");
    let monitor = build::monitor(workspace)?;
    let host = Host {
        cpuid: monitor::host_cpuid(&monitor)?,
        monitor,
        directory: directory.path().to_path_buf(),
        stub,
        kernel,
        large_stub,
        initramfs,
        talker,
    };
    let drivers = Drivers::build(workspace)?;
    let measured = Measured {
        start: start::measure(&host, runs)?,
        boot: agent::measure(&host)?,
        cost: cost::measure(&host)?,
        rate: rate::measure(&host)?,
        end: end::measure(&host, runs)?,
        restore: restore::measure(&host, runs)?,
        touch: touch::measure(&drivers)?,
        block: block::measure(&drivers, workspace)?,
        vsock: vsock::measure(&drivers, directory.path())?,
    };
    report::write(workspace, &measured)
}
