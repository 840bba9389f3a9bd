//! `berth rm`: remove containers.

use clap::Args;

use super::each::{Missing, for_each};
use crate::client::Client;
use crate::outcome::Outcome;

/// Remove one or more containers
#[derive(Args, Debug)]
#[command(
    visible_alias = "remove",
    after_help = "Examples:
  berth rm old
  berth rm -f $(berth ps -aq)    Every container, running or not"
)]
pub(crate) struct Arguments {
    /// Force the removal of a running container (uses SIGKILL)
    #[arg(short, long)]
    force: bool,
    /// Remove anonymous volumes associated with the container
    #[arg(short, long)]
    volumes: bool,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let missing = if arguments.force { Missing::IsTold } else { Missing::Fails };
    for_each(&arguments.containers, missing, |container| {
        client.remove_container(container, arguments.force, arguments.volumes)
    })
    .await
}
