//! `berth image prune`: remove the images that nobody needs.

use clap::Args;

use crate::client::Client;
use crate::commands::{consent, filters};
use crate::outcome::{Failure, Outcome};
use crate::output::print;
use crate::quantity::decimal_size;

const DANGLING: &str = "This will remove all dangling images.";
const UNUSED: &str = "This will remove all images without at least one container associated to them.";

/// Remove unused images
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth image prune
  berth image prune -af --filter until=24h")]
pub(crate) struct Arguments {
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let warning = if arguments.all { UNUSED } else { DANGLING };
    if !arguments.force && !consent::given(warning)? {
        return Err(Failure::Usage("image prune has been cancelled".to_owned()));
    }
    let reclaimed_bytes = prune(client, arguments.all, &arguments.filter).await?;
    print(&format!("Total reclaimed space: {}\n", decimal_size(reclaimed_bytes)))?;
    Ok(0)
}

/// Prunes, prints what went, and says how much the host got back.
pub(in crate::commands) async fn prune(client: &Client, all: bool, given: &[String]) -> Result<u64, Failure> {
    let mut conditions = given.to_vec();
    conditions.push(format!("dangling={}", !all));
    let pruned = client.prune_images(filters::encode(&conditions)?.as_deref()).await?;
    let steps = pruned.images_deleted.unwrap_or_default();
    if !steps.is_empty() {
        let lines = steps.iter().map(|step| {
            let untagged = step.untagged.iter().map(|name| format!("untagged: {name}\n"));
            let deleted = step.deleted.iter().map(|id| format!("deleted: {id}\n"));
            untagged.chain(deleted).collect::<String>()
        });
        print(&format!("Deleted Images:\n{}\n", lines.collect::<String>()))?;
    }
    Ok(pruned.space_reclaimed)
}
