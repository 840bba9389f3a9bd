//! `cargo xtask bench`: measures a promise beside a peer in the same run, and writes `docs/benchmarks.md`.
//!
//! A benchmark is no test: it asserts nothing, it reports. Ours and the peer's runs are interleaved (A B B A), so that
//! whatever else the host does weighs on both alike.

mod account;
mod figures;
mod peer;
mod smaps;

mod api;

mod images;

mod io;

mod report;

mod start;

mod vmm;

use clap::Subcommand;

use crate::workspace::Workspace;

#[derive(Subcommand)]
pub(crate) enum Subject {
    /// What clients of the API wait for and what it costs the host; beside dockerd
    Api {
        /// How many rounds; what takes little time is measured several times in each
        #[arg(long, default_value_t = 20)]
        runs: u32,
        /// The peer's address; its images and containers are only added to and removed again
        #[arg(long, env = "BERTH_BENCH_DOCKERD", default_value = "unix:///var/run/docker.sock")]
        dockerd: String,
        /// The network namespace that the peer lives in: our daemon is started there too
        #[arg(long, env = "BERTH_BENCH_NETNS", value_name = "NAME")]
        network_namespace: Option<String>,
        /// What goes to standard output
        #[arg(long, value_enum, default_value = "table")]
        format: api::Format,
    },
    /// Cold `run --rm busybox true`, with the phases of the start; beside dockerd where one answers
    Start {
        /// How many runs of each
        #[arg(long, default_value_t = 20)]
        runs: u32,
        /// The peer's address; its images and containers are only added to and removed again
        #[arg(long, env = "BERTH_BENCH_DOCKERD", default_value = "unix:///var/run/docker.sock")]
        dockerd: String,
    },
    /// Pull and unpack from a docker-registry of the bench's own, and what a container then reads; beside dockerd
    Images {
        /// How many pulls of each image
        #[arg(long, default_value_t = 10)]
        runs: u32,
        /// The peer's address; its images and containers are only added to and removed again
        #[arg(long, env = "BERTH_BENCH_DOCKERD", default_value = "unix:///var/run/docker.sock")]
        dockerd: String,
        /// The network namespace that the peer lives in: the registry and our daemon are started there too
        #[arg(long, env = "BERTH_BENCH_NETNS", value_name = "NAME")]
        network_namespace: Option<String>,
    },
    /// Networks, shares and disks: what goes through them, how long it takes and what it costs the host; beside dockerd
    Io(io::Options),
    /// One machine on /dev/kvm: start, cost, end, devices; beside QEMU's microvm and fio
    Vmm {
        /// How many runs of each
        #[arg(long, default_value_t = 20)]
        runs: u32,
    },
}

pub(crate) fn run(workspace: &Workspace, subject: &Subject) -> anyhow::Result<()> {
    match subject {
        Subject::Api { runs, dockerd, network_namespace, format } => {
            api::run(workspace, *runs, dockerd, network_namespace.as_deref(), *format)
        }
        Subject::Start { runs, dockerd } => start::run(workspace, *runs, dockerd),
        Subject::Images { runs, dockerd, network_namespace } => {
            images::run(workspace, *runs, dockerd, network_namespace.as_deref())
        }
        Subject::Io(options) => io::run(workspace, options),
        Subject::Vmm { runs } => vmm::run(workspace, *runs),
    }
}
