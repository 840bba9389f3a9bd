//! `berth network disconnect`: let a container leave a network.

use clap::Args;

use crate::client::Client;
use crate::outcome::Outcome;

/// Disconnect a container from a network
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth network disconnect backend web
  berth network disconnect --force removed-network web")]
pub(crate) struct Arguments {
    /// Force the container to disconnect from a network
    #[arg(short, long)]
    force: bool,
    #[arg(value_name = "NETWORK")]
    network: String,
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    client.disconnect_network(&arguments.network, &arguments.container, arguments.force).await?;
    Ok(0)
}
