//! `berth container prune`: remove the containers that do not run.

use clap::Args;

use crate::client::Client;
use crate::commands::{consent, filters};
use crate::outcome::{Failure, Outcome};
use crate::output::print;
use crate::quantity::decimal_size;

/// Remove all stopped containers
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth container prune
  berth container prune -f --filter until=24h")]
pub(crate) struct Arguments {
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    if !arguments.force && !consent::given("This will remove all stopped containers.")? {
        return Err(Failure::Usage("container prune has been cancelled".to_owned()));
    }
    let reclaimed_bytes = prune(client, &arguments.filter).await?;
    print(&format!("Total reclaimed space: {}\n", decimal_size(reclaimed_bytes)))?;
    Ok(0)
}

/// Prunes, prints what went, and says how much the host got back.
pub(in crate::commands) async fn prune(client: &Client, filter: &[String]) -> Result<u64, Failure> {
    let pruned = client.prune_containers(filters::encode(filter)?.as_deref()).await?;
    let deleted = pruned.containers_deleted.unwrap_or_default();
    if !deleted.is_empty() {
        print(&format!("Deleted Containers:\n{}\n\n", deleted.join("\n")))?;
    }
    Ok(pruned.space_reclaimed)
}
