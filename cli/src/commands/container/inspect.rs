//! `berth container inspect`: everything the daemon says about containers.

use clap::Args;

use crate::client::Client;
use crate::commands::inspect;
use crate::outcome::Outcome;

/// Display detailed information on one or more containers
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Format output: 'json' or a template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let (format, names) = (arguments.format.clone(), arguments.containers.clone());
    inspect::execute(&inspect::Arguments::of_containers(format, arguments.size, names), client).await
}
