//! `bench io`: what goes through a machine's networks, shares and disks, how long it takes, and what it costs the host;
//! beside dockerd, and beside the host itself where that does the same.
//!
//! Everything is measured by programs of the image inside the container, which the host runs too. Where the accelerator
//! is `tcg` they are interpreted there, so what the host's processors do for a byte stands beside what came of it.

mod network;

mod files;

mod report;
mod side;
mod table;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::api::Format;
use crate::build::{self, Products};
use crate::daemon::Daemon;
use crate::packages;
use crate::workspace::Workspace;

use side::Side;

#[derive(Args)]
pub(crate) struct Options {
    /// How many rounds
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// One part of it; the others' figures stay on the page
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// What executes the guests; by default what the daemon chooses
    #[arg(long, value_name = "NAME")]
    accelerator: Option<String>,
    /// The peer's address; its networks, images and containers are only added to and removed again
    #[arg(long, env = "BERTH_BENCH_DOCKERD", default_value = "unix:///var/run/docker.sock")]
    dockerd: String,
    /// The network namespace that the peer lives in: our daemon is started there too
    #[arg(long, env = "BERTH_BENCH_NETNS", value_name = "NAME")]
    network_namespace: Option<String>,
    /// Programs that were built earlier, as in `target/release`, instead of today's
    #[arg(long, value_name = "DIRECTORY")]
    programs: Option<PathBuf>,
    /// What goes to standard output
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Between containers, to the host, and by a published port
    Network,
    /// A directory of the host's
    Share,
    /// A container's own files, and its image's
    Disk,
}

impl Part {
    /// The marks of its part of the page.
    fn section(self) -> &'static str {
        match self {
            Self::Network => "io --only network",
            Self::Share => "io --only share",
            Self::Disk => "io --only disk",
        }
    }
}

impl Options {
    fn wants(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }

    /// A daemon of ours in that namespace, below that directory.
    fn daemon(
        &self,
        products: &Products,
        directory: &Path,
        namespace: Option<&str>,
        flags: &[&str],
    ) -> anyhow::Result<Daemon> {
        let accelerator = self.accelerator.as_deref().map(|name| ["--accelerator", name]);
        let flags = [flags, accelerator.as_ref().map_or(&[], |flags| flags.as_slice())].concat();
        Daemon::start_with(products, directory, namespace, &flags)
    }
}

pub(super) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    packages::ensure_for_benchmarks()?;
    let products = match &options.programs {
        Some(directory) => Products::in_directory(directory)?,
        None => build::ensure(workspace)?,
    };
    let peer = Side::peer(&options.dockerd, options.network_namespace.as_deref())?;
    let directory =
        tempfile::Builder::new().prefix("berth-bench-").tempdir().context("no temporary directory")?;
    let bench = Bench { workspace, options, products, peer, directory };
    if options.wants(Part::Network) {
        network::run(&bench)?;
    }
    if options.wants(Part::Share) || options.wants(Part::Disk) {
        files::run(&bench)?;
    }
    Ok(())
}

/// What all parts have.
struct Bench<'a> {
    workspace: &'a Workspace,
    options: &'a Options,
    products: Products,
    peer: Option<Side>,
    directory: tempfile::TempDir,
}
