//! `berth rename`: give a container another name.

use clap::Args;

use crate::client::Client;
use crate::outcome::Outcome;

/// Rename a container
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth rename web old-web")]
pub(crate) struct Arguments {
    container: String,
    new_name: String,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    client.rename(&arguments.container, &arguments.new_name).await?;
    Ok(0)
}
