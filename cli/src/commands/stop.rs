//! `berth stop`: ask containers to end, then end them.

use clap::Args;

use super::each::{Missing, for_each};
use crate::client::Client;
use crate::outcome::Outcome;

/// Stop one or more running containers
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth stop web                 SIGTERM, and SIGKILL after ten seconds
  berth stop -t 60 -s INT web    SIGINT, and SIGKILL after a minute
  berth stop -t -1 web           Wait as long as it takes")]
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
        client.stop(container, arguments.signal.as_deref(), arguments.timeout)
    })
    .await
}
