//! `berth unpause`: let the processes of paused containers go on.

use clap::Args;

use super::each::{Missing, for_each};
use crate::client::Client;
use crate::outcome::Outcome;

/// Unpause all processes within one or more containers
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    for_each(&arguments.containers, Missing::Fails, |container| client.unpause(container)).await
}
