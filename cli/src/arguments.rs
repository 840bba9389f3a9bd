//! The command line as a whole: the options before the verb, and what a wrong one is answered with.

use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::client::Client;
use crate::commands::Command;
use crate::host::{Environment, Host};
use crate::outcome::Outcome;

/// Docker's status for a flag that it does not know.
const UNKNOWN_FLAG: u8 = 125;

/// Containers, each in a small virtual machine of its own.
#[derive(Parser, Debug)]
#[command(
    name = "berth",
    version,
    disable_help_subcommand = true,
    after_help = "Examples:
  berth run --rm hello-world          Run a container and remove it when it ends
  berth run -it busybox sh            A shell in a container of its own
  berth -H unix:///tmp/b.sock ps      Ask a particular daemon
  berth doctor                        See what this host can do, and what is missing

The daemon is taken from -H, then BERTH_HOST, then DOCKER_HOST, then unix:///run/berth/berthd.sock."
)]
pub(crate) struct Arguments {
    /// Daemon to talk to: unix:///PATH or tcp://127.0.0.1:PORT
    #[arg(short = 'H', long, value_name = "ADDRESS")]
    host: Option<String>,
    #[command(subcommand)]
    command: Command,
}

impl Arguments {
    pub(crate) async fn execute(self) -> Outcome {
        let client = Host::choose(self.host.as_deref(), &Environment::of_process()).map(Client::new);
        self.command.execute(client).await
    }
}

/// Prints clap's answer (help, version or a complaint) and says with which status to exit.
pub(crate) fn explain(error: &clap::Error) -> ExitCode {
    // Nothing can be reported when the stream for reports is closed.
    drop(error.print());
    let is_flag = matches!(
        error.get(ContextKind::InvalidArg),
        Some(ContextValue::String(argument)) if argument.starts_with('-')
    );
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        ErrorKind::MissingRequiredArgument
        | ErrorKind::InvalidSubcommand
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => ExitCode::FAILURE,
        // A value too many is a mistake of another kind than a flag that does not exist.
        ErrorKind::UnknownArgument if !is_flag => ExitCode::FAILURE,
        _ => ExitCode::from(UNKNOWN_FLAG),
    }
}
