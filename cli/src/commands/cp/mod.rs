//! `berth cp`: files between a container and here, with `docker cp`'s rules for what comes to lie where.

mod endpoint;
mod placement;

mod from_container;
mod to_container;

mod pack;
mod unpack;

use clap::Args;

use self::endpoint::Endpoint;
use crate::client::Client;
use crate::outcome::{Failure, Outcome};

/// Copy files/folders between a container and the local filesystem
#[derive(Args, Debug)]
#[command(
    after_help = "Use '-' as the source to read a tar archive from stdin and extract it to a directory \
destination in a container.
Use '-' as the destination to stream a tar archive of a container source to stdout.

Examples:
  berth cp web:/etc/nginx ./nginx
  berth cp ./site/. web:/usr/share/nginx/html
  berth cp web:/var/log - | tar t"
)]
pub(crate) struct Arguments {
    /// Archive mode: what comes into a container belongs to its user
    #[arg(short, long)]
    archive: bool,
    /// Always follow symbolic links in SRC_PATH
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Suppress progress output during copy
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "[CONTAINER:]SRC_PATH|-")]
    source: String,
    #[arg(value_name = "[CONTAINER:]DEST_PATH|-")]
    destination: String,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let usage = |text: &str| Err(Failure::Usage(text.to_owned()));
    match (Endpoint::parse(&arguments.source), Endpoint::parse(&arguments.destination)) {
        (Endpoint::Local(""), _) => usage("source can not be empty"),
        (_, Endpoint::Local("")) => usage("destination can not be empty"),
        (Endpoint::InContainer { container, path }, Endpoint::Local(here)) => {
            from_container::copy(arguments, client, container, path, here).await
        }
        (Endpoint::Local(here), Endpoint::InContainer { container, path }) => {
            to_container::copy(arguments, client, here, container, path).await
        }
        (Endpoint::InContainer { .. }, Endpoint::InContainer { .. }) => {
            usage("copying between containers is not supported")
        }
        (Endpoint::Local(_), Endpoint::Local(_)) => usage("must specify at least one container source"),
    }
}
