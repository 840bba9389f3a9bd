//! `cargo xtask`: everything that building and testing Berth takes beyond cargo itself.
//!
//! This file is the table of verbs; each verb is one module of the same name, and does its work in `run`.

mod packages;

mod kernel;

mod virtiofsd;

mod agent;

mod heard;
mod images;

mod python;

mod compose;

mod build;

mod demo;

mod test;

mod soak;

mod bench;

mod tidy;

mod apt;
mod cache;
mod cpio;
mod daemon;
mod products;
mod program;
mod progress;
mod transcript;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds and tests Berth", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install the Debian packages that are needed, or print the command that does
    Packages,
    /// Build the guest kernel (or find it in the cache) and print its path
    Kernel,
    /// Build the server of shares (or find it in the cache) and print its path
    Virtiofsd,
    /// Build the guest agent and its initramfs, and print the initramfs' path
    Agent,
    /// Build the demo images as archives, and print their directory
    Images,
    /// Install the Python clients that the tests drive, and print their interpreter
    Python,
    /// Unpack both generations of `docker compose` for the tests, and print where they are
    Compose,
    /// Build all products in release mode and print where they are
    Build,
    /// Build everything, run containers in machines of their own, and leave nothing behind
    Demo,
    /// Run every check: format, clippy, tidy, unit, integration and end-to-end tests
    Test,
    /// Let clients and containers come and go for minutes, and look for what they leave
    Soak {
        /// How long each of the tests runs
        #[arg(long, value_name = "SECONDS", default_value_t = 300)]
        seconds: u32,
    },
    /// Measure a promise beside a peer, and write docs/benchmarks.md
    Bench {
        #[command(subcommand)]
        subject: bench::Subject,
    },
    /// Check the rules of this code base that rustfmt and clippy do not know
    Tidy,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match perform(&arguments.verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::failure(&error);
            ExitCode::FAILURE
        }
    }
}

fn perform(verb: &Verb) -> anyhow::Result<()> {
    let workspace = Workspace::locate()?;
    match verb {
        Verb::Packages => packages::run(),
        Verb::Kernel => kernel::run(&workspace),
        Verb::Virtiofsd => virtiofsd::run(&workspace),
        Verb::Agent => agent::run(&workspace),
        Verb::Images => images::run(&workspace),
        Verb::Python => python::run(&workspace),
        Verb::Compose => compose::run(&workspace),
        Verb::Build => build::run(&workspace),
        Verb::Demo => demo::run(&workspace),
        Verb::Test => test::run(&workspace),
        Verb::Soak { seconds } => soak::run(&workspace, *seconds),
        Verb::Bench { subject } => bench::run(&workspace, subject),
        Verb::Tidy => tidy::run(&workspace),
    }
}
