//! `berth network prune`: remove the networks that nobody is on.

use clap::Args;

use crate::client::Client;
use crate::commands::{consent, filters};
use crate::outcome::{Failure, Outcome};
use crate::output::print;

/// Remove all unused networks
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth network prune
  berth network prune -f --filter until=24h")]
pub(crate) struct Arguments {
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let warning = "This will remove all custom networks not used by at least one container.";
    if !arguments.force && !consent::given(warning)? {
        return Err(Failure::Usage("network prune has been cancelled".to_owned()));
    }
    let names = client.prune_networks(filters::encode(&arguments.filter)?.as_deref()).await?;
    if !names.is_empty() {
        print(&format!("Deleted Networks:\n{}\n\n", names.join("\n")))?;
    }
    Ok(0)
}
