//! `berth save`: have images as one archive.

use std::path::PathBuf;

use clap::Args;

use super::archive::Destination;
use crate::client::Client;
use crate::outcome::Outcome;

/// Save one or more images to a tar archive (streamed to STDOUT by default)
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth save -o busybox.tar busybox
  berth save busybox debian | zstd > images.tar.zst")]
pub(crate) struct Arguments {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Save only the given platform variant
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let destination = Destination::new(arguments.output.as_deref(), "save")?;
    let archive = client.save(&arguments.images, arguments.platform.as_deref()).await?;
    destination.receive(archive).await?;
    Ok(0)
}
