//! `berth kill`: send containers a signal.

use clap::Args;

use super::each::{Missing, for_each};
use crate::client::Client;
use crate::outcome::Outcome;

/// Kill one or more running containers
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth kill web           SIGKILL
  berth kill -s HUP web    Any other signal, by name or number")]
pub(crate) struct Arguments {
    /// Signal to send to the container
    #[arg(short, long)]
    signal: Option<String>,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    for_each(&arguments.containers, Missing::Fails, |container| {
        client.kill(container, arguments.signal.as_deref())
    })
    .await
}
