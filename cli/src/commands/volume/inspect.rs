//! `berth volume inspect`: everything the daemon says about volumes.

use clap::Args;

use crate::client::Client;
use crate::commands::inspect;
use crate::outcome::Outcome;

/// Display detailed information on one or more volumes
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth volume inspect data
  berth volume inspect -f '{{.Mountpoint}}' data")]
pub(crate) struct Arguments {
    /// Format output: 'json' or a template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<String>,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let volumes = inspect::Arguments::of_volumes(arguments.format.clone(), arguments.volumes.clone());
    inspect::execute(&volumes, client).await
}
