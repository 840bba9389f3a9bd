//! `berth network inspect`: everything the daemon says about networks.

use clap::Args;

use crate::client::Client;
use crate::commands::inspect;
use crate::outcome::Outcome;

/// Display detailed information on one or more networks
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Format output: 'json' or a template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let networks = inspect::Arguments::of_networks(arguments.format.clone(), arguments.networks.clone());
    inspect::execute(&networks, client).await
}
