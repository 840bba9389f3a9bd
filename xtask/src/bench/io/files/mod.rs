//! Files: a directory of the host's that a container has, a container's own files, and those of its image; by the same
//! programs in containers of both daemons and on the host.

mod disk;

mod share;

mod jobs;
mod requests;
mod runner;
mod tree;

use std::fs;

use anyhow::Context;

use super::report::Report;
use super::side::Side;
use super::table::{Place, Row, Table, Unit};
use super::{Bench, Part};
use crate::images::{self, workload};

use runner::{HostRoot, Runner};

pub(super) fn run(bench: &Bench<'_>) -> anyhow::Result<()> {
    let archive = images::ensure_workload(bench.workspace)?;
    let directory = bench.directory.path().join("files");
    fs::create_dir(&directory).context("no directory for a daemon")?;
    let host = HostRoot::ensure(&archive)?;
    let namespace = bench.options.network_namespace.as_deref();
    let mut daemon = bench.options.daemon(&bench.products, &directory, namespace, &["--bridge", "none"])?;
    let ours = Side::ours(&daemon, namespace)?;
    let accelerator = ours.accelerator.clone().unwrap_or_default();
    let sides: Vec<&Side> = [Some(&ours), bench.peer.as_ref()].into_iter().flatten().collect();
    sides.iter().try_for_each(|side| side.load(&archive))?;
    if bench.options.wants(Part::Share) {
        let shared = tree::ensure(bench.workspace, &host)?;
        let mut tables = share::measure(bench, &sides, &host, &shared)?;
        tables.push(requests::measure(bench, &archive, &directory, &shared)?);
        Report { part: Part::Share, accelerator: accelerator.clone(), tables }.write(bench)?;
    }
    if bench.options.wants(Part::Disk) {
        let tables = disk::measure(bench, &sides, &host)?;
        Report { part: Part::Disk, accelerator, tables }.write(bench)?;
    }
    daemon.stop()
}

/// A container of the workload's image that waits to be told what to do, with these options.
fn idle<'a>(side: &'a Side, options: &[&str]) -> anyhow::Result<Runner<'a>> {
    // So that the guest can be told to forget; a peer's is never told so.
    let privileged: &[&str] = if side.place == Place::Berth { &["--privileged"] } else { &[] };
    let command = [workload::NAME, "sleep", "infinity"];
    let container = side.run(&[&["--network", "none"], privileged, options, &command[..]].concat())?;
    Ok(Runner::Container { side, container })
}

/// Each in turn, never the same first twice.
fn interleaved(
    rounds: u32,
    runners: &[Runner<'_>],
    mut work: impl FnMut(&Runner<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for round in 0..rounds {
        let mut order: Vec<&Runner<'_>> = runners.iter().collect();
        if round % 2 == 1 {
            order.reverse();
        }
        order.into_iter().try_for_each(&mut work)?;
    }
    Ok(())
}
