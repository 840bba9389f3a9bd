//! `berth load`: give the daemon an image from an archive.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::Args;

use super::archive::{open_file, standard_input};
use super::progress::{Lines, Progress};
use crate::client::Client;
use crate::outcome::{Failure, Outcome};

/// Load an image from a tar archive or STDIN
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth load -i busybox.tar
  docker save busybox | berth load")]
pub(crate) struct Arguments {
    /// Read from tar archive file, instead of STDIN
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Suppress the load output
    #[arg(short, long)]
    quiet: bool,
    /// Load only the given platform variant
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let progress = Progress::new(if arguments.quiet { Lines::Nowhere } else { Lines::Stdout });
    let (archive, bar) = match &arguments.input {
        Some(path) => open_file(path, &progress).await?,
        None if io::stdin().is_terminal() => {
            return Err(Failure::Usage("requested load from stdin, but stdin is empty".to_owned()));
        }
        None => standard_input(),
    };
    let reports = client.load(archive, arguments.quiet, arguments.platform.as_deref()).await?;
    let shown = progress.show(reports).await;
    bar.finish_and_clear();
    shown.map(|()| 0)
}
