//! `berth system prune`: remove stopped containers, the images that nobody needs, and if wanted the volumes.

use clap::Args;

use crate::client::Client;
use crate::commands::{consent, container, image, volume};
use crate::outcome::{Failure, Outcome};
use crate::output::print;
use crate::quantity::decimal_size;

/// Remove unused data
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth system prune
  berth system prune -af
  berth system prune --volumes     Anonymous volumes that no container has, too")]
pub(crate) struct Arguments {
    /// Remove all unused images not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. "label=<key>=<value>")
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
    /// Prune anonymous volumes
    #[arg(long)]
    volumes: bool,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let images =
        if arguments.all { "all images without at least one container" } else { "all dangling images" };
    let volumes =
        if arguments.volumes { "  - all anonymous volumes not used by at least one container\n" } else { "" };
    let warning = format!("This will remove:\n  - all stopped containers\n{volumes}  - {images}\n");
    if !arguments.force && !consent::given(&warning)? {
        return Err(Failure::Usage("system prune has been cancelled".to_owned()));
    }
    let containers_bytes = container::prune::prune(client, &arguments.filter).await?;
    let volumes_bytes =
        if arguments.volumes { volume::prune::prune(client, &arguments.filter).await? } else { 0 };
    let images_bytes = image::prune::prune(client, arguments.all, &arguments.filter).await?;
    let reclaimed_bytes = containers_bytes + volumes_bytes + images_bytes;
    print(&format!("Total reclaimed space: {}\n", decimal_size(reclaimed_bytes)))?;
    Ok(0)
}
