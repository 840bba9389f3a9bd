//! `berth import`: make an image of a file system's archive.

use std::path::Path;

use clap::Args;

use super::archive::{open_file, standard_input};
use super::progress::{Lines, Progress};
use crate::client::{Client, ImportRequest};
use crate::outcome::{Failure, Outcome};
use crate::reference::Reference;

/// Import the contents from a tarball to create a filesystem image
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth import root.tar.gz team/root:1
  berth export web | berth import -c 'CMD [\"nginx\"]' -m 'as it ran' - web:snapshot")]
pub(crate) struct Arguments {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long)]
    message: Option<String>,
    /// Set platform of the image
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// The archive: a file, or - for STDIN
    #[arg(value_name = "FILE|-")]
    source: String,
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    if arguments.source.starts_with("http://") || arguments.source.starts_with("https://") {
        let text = "importing from a URL is not supported: download the file and import it";
        return Err(Failure::Usage(text.to_owned()));
    }
    let progress = Progress::new(Lines::Stdout);
    let (archive, bar) = match arguments.source.as_str() {
        "-" => standard_input(),
        path => open_file(Path::new(path), &progress).await?,
    };
    let name = arguments.name.as_deref().map(Reference::parse);
    let request = ImportRequest {
        repository: name.as_ref().map(|name| name.name),
        tag: name.as_ref().and_then(Reference::tag_or_latest),
        message: arguments.message.as_deref(),
        changes: &arguments.change,
        platform: arguments.platform.as_deref(),
    };
    let reports = client.import(&request, archive).await?;
    let shown = progress.show(reports).await;
    bar.finish_and_clear();
    shown.map(|()| 0)
}
