//! Files of a container to here.

use std::fs;
use std::io::IsTerminal;
use std::path::Path;

use indicatif::{HumanBytes, ProgressBar};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::Arguments;
use super::placement::{Placement, Target, base, split};
use super::unpack::{PieceReader, Unpacking, unpack};
use crate::client::{Client, Download};
use crate::commands::progress::{Lines, Progress};
use crate::outcome::{Failure, Outcome};
use crate::output::note;

/// Pieces that wait for our disk.
const WAITING_PIECES: usize = 4;

pub(super) async fn copy(
    arguments: &Arguments,
    client: &Client,
    container: &str,
    path: &str,
    here: &str,
) -> Outcome {
    check_destination(here)?;
    let name = base(path).to_owned();
    let path = source(arguments, client, container, path).await?;
    let (stat, archive) = client.get_archive(container, &path).await?;
    if here == "-" {
        to_standard_output(archive).await?;
        return Ok(0);
    }
    let placement = Placement::new(&name, stat.is_directory(), here, target(here))
        .map_err(|misplaced| Failure::Usage(misplaced.to_string()))?;
    let unpacking = Unpacking {
        // The root's names begin with nothing.
        name_in_archive: if base(&path) == "/" { String::new() } else { base(&path).to_owned() },
        directory: placement.directory.into(),
        name: if placement.name == "/" { ".".to_owned() } else { placement.name },
    };
    let quiet = arguments.quiet || !std::io::stdout().is_terminal();
    let bar =
        Progress::new(if quiet { Lines::Nowhere } else { Lines::Stderr }).counter("Copying from container");
    let received_bytes = receive(archive, unpacking, &bar).await?;
    if !quiet {
        note(&format!("Successfully copied {} to {here}", HumanBytes(received_bytes)));
    }
    Ok(0)
}

/// With `-L`, what a link leads to, which keeps the link's name.
async fn source(
    arguments: &Arguments,
    client: &Client,
    container: &str,
    path: &str,
) -> Result<String, Failure> {
    if arguments.follow_link {
        // What is not there is said to be by the copy itself.
        if let Ok(stat) = client.stat_path(container, path).await
            && stat.is_link()
        {
            return Ok(stat.link_target);
        }
    }
    Ok(if path.is_empty() { "/".to_owned() } else { path.to_owned() })
}

fn target(here: &str) -> Target {
    match fs::metadata(here) {
        Ok(metadata) if metadata.is_dir() => Target::Directory,
        Ok(_) => Target::File,
        Err(_) => Target::Nothing,
    }
}

/// Looked at before the daemon is asked.
fn check_destination(here: &str) -> Result<(), Failure> {
    if here == "-" || fs::metadata(here).is_ok_and(|metadata| metadata.is_dir() || metadata.is_file()) {
        return Ok(());
    }
    if Path::new(here).exists() {
        let text = format!("invalid output path: \"{here}\" must be a directory or a regular file");
        return Err(Failure::Usage(text));
    }
    let (directory, _name) = split(here);
    if Path::new(directory).is_dir() {
        return Ok(());
    }
    Err(Failure::Usage(format!("invalid output path: directory \"{directory}\" does not exist")))
}

async fn to_standard_output(mut archive: Download) -> Result<(), Failure> {
    let mut output = tokio::io::stdout();
    while let Some(piece) = archive.next().await? {
        output.write_all(&piece).await.map_err(Failure::Output)?;
    }
    output.flush().await.map_err(Failure::Output)
}

/// Feeds a thread that writes. Says how many bytes came.
async fn receive(mut archive: Download, unpacking: Unpacking, bar: &ProgressBar) -> Result<u64, Failure> {
    let (sender, pieces) = mpsc::channel(WAITING_PIECES);
    let writing = tokio::task::spawn_blocking(move || unpack(PieceReader::new(pieces), &unpacking));
    let mut received_bytes = 0;
    let mut broken = None;
    loop {
        match archive.next().await {
            Ok(Some(piece)) => {
                received_bytes += piece.len() as u64;
                bar.set_position(received_bytes);
                if sender.send(Ok(piece)).await.is_err() {
                    break;
                }
            }
            Ok(None) => break,
            Err(error) => {
                // The thread must not take what came for the whole. It may have failed already.
                let _gone = sender.send(Err(std::io::ErrorKind::UnexpectedEof.into())).await;
                broken = Some(error);
                break;
            }
        }
    }
    drop(sender);
    let written = writing.await;
    if let Some(error) = broken {
        return Err(error.into());
    }
    let failed = |source| Failure::File { object: "writing files".to_owned(), source };
    written.map_err(|panicked| failed(std::io::Error::other(panicked)))??;
    Ok(received_bytes)
}
