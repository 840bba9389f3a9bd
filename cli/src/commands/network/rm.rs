//! `berth network rm`: remove networks.

use clap::Args;

use crate::client::Client;
use crate::commands::each::{Missing, for_each};
use crate::outcome::Outcome;

/// Remove one or more networks
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth network rm web
  berth network rm -f web db    Networks that are not there are no error")]
pub(crate) struct Arguments {
    /// Do not error if the network does not exist
    #[arg(short, long)]
    force: bool,
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let missing = if arguments.force { Missing::IsTold } else { Missing::Fails };
    for_each(&arguments.networks, missing, |network| client.remove_network(network)).await
}
