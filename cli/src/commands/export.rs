//! `berth export`: have a container's file system as an archive.

use std::path::PathBuf;

use clap::Args;

use super::archive::Destination;
use crate::client::Client;
use crate::outcome::Outcome;

/// Export a container's filesystem as a tar archive
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth export -o web.tar web
  berth export web | berth import - web:snapshot")]
pub(crate) struct Arguments {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let destination = Destination::new(arguments.output.as_deref(), "export")?;
    destination.receive(client.export(&arguments.container).await?).await?;
    Ok(0)
}
