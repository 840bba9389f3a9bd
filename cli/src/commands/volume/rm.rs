//! `berth volume rm`: remove volumes and all that is in them.

use clap::Args;

use crate::client::Client;
use crate::commands::each::{Missing, for_each};
use crate::outcome::Outcome;

/// Remove one or more volumes
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth volume rm data
  berth volume rm -f data cache    Volumes that are not there are no error")]
pub(crate) struct Arguments {
    /// Do not error if the volume does not exist
    #[arg(short, long)]
    force: bool,
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<String>,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let remove = |volume| client.remove_volume(volume, arguments.force);
    for_each(&arguments.volumes, Missing::Fails, remove).await
}
