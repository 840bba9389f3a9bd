//! `berth rmi`: remove images.

use clap::Args;

use crate::client::Client;
use crate::outcome::{Failure, Outcome};
use crate::output::{note, print};

/// Remove one or more images
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth rmi busybox
  berth rmi -f $(berth images -q)    Every image, names and all")]
pub(crate) struct Arguments {
    /// Force removal of the image
    #[arg(short, long)]
    force: bool,
    /// Do not delete untagged parents
    #[arg(long)]
    no_prune: bool,
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// One image after the other: the last name of an image takes the image with it, so the order matters.
pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let mut failures = Vec::new();
    for image in &arguments.images {
        match client.remove_image(image, arguments.force, arguments.no_prune).await {
            Ok(steps) => {
                for step in steps {
                    let untagged = step.untagged.map(|name| format!("Untagged: {name}\n"));
                    let deleted = step.deleted.map(|id| format!("Deleted: {id}\n"));
                    print(&(untagged.unwrap_or_default() + &deleted.unwrap_or_default()))?;
                }
            }
            Err(error) if arguments.force && error.is_not_found() => note(&error.to_string()),
            Err(error) => failures.push(error.to_string()),
        }
    }
    if failures.is_empty() { Ok(0) } else { Err(Failure::Several(failures)) }
}
