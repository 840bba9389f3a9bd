//! `berth restart`: stop containers and start them again.

use clap::Args;

use super::each::{Missing, for_each};
use crate::client::Client;
use crate::outcome::Outcome;

/// Restart one or more containers
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth restart web
  berth restart -t 0 web    Without waiting for it to end by itself")]
pub(crate) struct Arguments {
    /// Signal to send to the container
    #[arg(short, long)]
    signal: Option<String>,
    /// Seconds to wait before killing the container
    #[arg(short, long, alias = "time", value_name = "SECONDS", allow_negative_numbers = true)]
    timeout: Option<i64>,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    for_each(&arguments.containers, Missing::Fails, |container| {
        client.restart(container, arguments.signal.as_deref(), arguments.timeout)
    })
    .await
}
