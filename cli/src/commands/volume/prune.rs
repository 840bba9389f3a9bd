//! `berth volume prune`: remove the volumes that no container has.

use clap::Args;

use crate::client::Client;
use crate::commands::{consent, filters};
use crate::outcome::{Failure, Outcome};
use crate::output::print;
use crate::quantity::decimal_size;

/// Remove unused local volumes
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth volume prune                          Anonymous volumes that no container has
  berth volume prune -af --filter label!=keep")]
pub(crate) struct Arguments {
    /// Remove all unused volumes, not just anonymous ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. "label=<label>")
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let which = if arguments.all { "all local volumes" } else { "anonymous local volumes" };
    let warning = format!("This will remove {which} not used by at least one container.");
    if !arguments.force && !consent::given(&warning)? {
        return Err(Failure::Usage("volume prune has been cancelled".to_owned()));
    }
    let mut wanted = arguments.filter.clone();
    wanted.extend(arguments.all.then(|| "all=true".to_owned()));
    let reclaimed_bytes = prune(client, &wanted).await?;
    print(&format!("Total reclaimed space: {}\n", decimal_size(reclaimed_bytes)))?;
    Ok(0)
}

/// Prunes, prints what went, and says how much the host got back.
pub(in crate::commands) async fn prune(client: &Client, filter: &[String]) -> Result<u64, Failure> {
    let pruned = client.prune_volumes(filters::encode(filter)?.as_deref()).await?;
    let deleted = pruned.volumes_deleted.unwrap_or_default();
    if !deleted.is_empty() {
        print(&format!("Deleted Volumes:\n{}\n\n", deleted.join("\n")))?;
    }
    Ok(pruned.space_reclaimed)
}
