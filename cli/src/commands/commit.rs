//! `berth commit`: make an image of what a container has become.

use clap::{ArgAction, Args};

use crate::client::{Client, CommitRequest};
use crate::outcome::{Failure, Outcome};
use crate::output::print;
use crate::reference::Reference;

/// Create a new image from a container's changes
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth commit web team/web:patched
  berth commit -m 'with certificates' -c 'CMD [\"nginx\"]' -c 'ENV A=1' web")]
pub(crate) struct Arguments {
    /// Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
    #[arg(short, long)]
    author: Option<String>,
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Commit message
    #[arg(short, long)]
    message: Option<String>,
    /// Pause container during commit
    #[arg(short, long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pause: bool,
    #[arg(value_name = "CONTAINER")]
    container: String,
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let name = arguments.name.as_deref().map(Reference::parse);
    if name.as_ref().is_some_and(|name| name.digest.is_some()) {
        return Err(Failure::Usage("refusing to create a tag with a digest reference".to_owned()));
    }
    let request = CommitRequest {
        container: &arguments.container,
        repository: name.as_ref().map(|name| name.name),
        tag: name.as_ref().and_then(Reference::tag_or_latest),
        author: arguments.author.as_deref(),
        message: arguments.message.as_deref(),
        changes: &arguments.change,
        pause: arguments.pause,
    };
    let id = client.commit(&request).await?;
    print(&format!("{id}\n"))?;
    Ok(0)
}
