//! `cargo xtask bench`: measures a promise beside a peer in the same run, and writes `docs/benchmarks.md`.
//!
//! A benchmark is no test: it asserts nothing, it reports. Ours and the peer's runs are interleaved (A B B A), so that
//! whatever else the host does weighs on both alike.

mod figures;

mod report;

mod start;

mod vmm;

use clap::Subcommand;

use crate::workspace::Workspace;

#[derive(Subcommand)]
pub(crate) enum Subject {
    /// Cold `run --rm busybox true`, with the phases of the start; beside dockerd where one answers
    Start {
        /// How many runs of each
        #[arg(long, default_value_t = 20)]
        runs: u32,
        /// The peer's address; its images and containers are only added to and removed again
        #[arg(long, env = "BERTH_BENCH_DOCKERD", default_value = "unix:///var/run/docker.sock")]
        dockerd: String,
    },
    /// One machine on /dev/kvm: start, cost, end, devices; beside QEMU's microvm and fio
    Vmm {
        /// How many runs of each
        #[arg(long, default_value_t = 20)]
        runs: u32,
    },
}

pub(crate) fn run(workspace: &Workspace, subject: &Subject) -> anyhow::Result<()> {
    match subject {
        Subject::Start { runs, dockerd } => start::run(workspace, *runs, dockerd),
        Subject::Vmm { runs } => vmm::run(workspace, *runs),
    }
}
