//! `berth tag`: give an image one more name.

use clap::Args;

use crate::client::Client;
use crate::outcome::{Failure, Outcome};
use crate::reference::Reference;

/// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth tag busybox localhost:5000/team/busybox:1
  berth tag 0e5574283393 httpd:version1.0")]
pub(crate) struct Arguments {
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    source: String,
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    target: String,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let target = Reference::parse(&arguments.target);
    if target.digest.is_some() {
        return Err(Failure::Usage("refusing to create a tag with a digest reference".to_owned()));
    }
    client.tag(&arguments.source, target.name, target.tag_or_latest()).await?;
    Ok(0)
}
