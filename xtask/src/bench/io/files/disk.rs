//! A container's own files, and those of its image: for ours, the scratch disk and the image disk.

use std::time::Duration;

use super::jobs::{self, Job, Order};
use super::runner::{HostRoot, Runner};
use super::{Bench, Place, Side, Table, idle, interleaved, workload};
use crate::progress;

const SCRATCH_FILE: &str = "/root/workload";

const OF_THE_IMAGE: [Job; 2] = [
    Job {
        what: "sequential reads of 128 KiB",
        order: Order::Sequential,
        arguments: "--rw=read --bs=128k --readonly",
        bytes: workload::DATA_BYTES,
    },
    Job {
        what: "random reads of 4 KiB",
        order: Order::Random,
        arguments: "--rw=randread --bs=4k --readonly",
        bytes: workload::DATA_BYTES,
    },
];

pub(super) fn measure(bench: &Bench<'_>, sides: &[&Side], host: &HostRoot) -> anyhow::Result<Vec<Table>> {
    let mut runners = Vec::new();
    for side in sides {
        runners.push(idle(side, &[])?);
    }
    runners.push(Runner::Host { root: host, mount: None });
    let rounds = bench.options.runs;
    let data = format!("/{}", workload::DATA);
    let of_the_image: Vec<&Job> = OF_THE_IMAGE.iter().collect();
    Ok(vec![
        table("a file of the container's own", rounds, &runners, &jobs::ON_A_NEW_FILE, SCRATCH_FILE)?,
        table("a file of the image", rounds, &runners, &of_the_image, &data)?,
    ])
}

pub(super) fn table(
    what: &str,
    rounds: u32,
    runners: &[Runner<'_>],
    jobs: &[&Job],
    file: &str,
) -> anyhow::Result<Table> {
    progress::heading(format_args!("{rounds} times: fio, {what}"));
    let mut rows: Vec<_> = jobs.iter().map(|job| job.rows()).collect();
    interleaved(rounds, runners, |runner| {
        let mut start = Duration::ZERO;
        for (index, (job, rows)) in jobs.iter().zip(&mut rows).enumerate() {
            if index == 0 {
                // The file, and fio's own in the guest's memory.
                if !is_there(runner, file) {
                    runner.run(&format!("head -c {} /dev/zero > {file}", job.bytes))?;
                }
                runner.forget()?;
                start = jobs::start(runner, file)?;
            }
            job.run(runner, file, start, rows)?;
        }
        Ok(())
    })?;
    let rows = rows.into_iter().flat_map(jobs::Rows::into_rows).collect();
    Ok(Table { what: what.to_owned(), reference: Some(Place::Host), rows })
}

fn is_there(runner: &Runner<'_>, file: &str) -> bool {
    runner.run(&format!("test -s {file}")).is_ok()
}
