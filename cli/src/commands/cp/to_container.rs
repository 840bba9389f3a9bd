//! Files of ours into a container.

use std::io::IsTerminal;
use std::path::Path;

use indicatif::HumanBytes;

use super::pack::Packing;
use super::placement::{Placement, Target, base};
use super::{Arguments, pack};
use crate::client::{Client, ClientError, PutRequest};
use crate::commands::archive::standard_input;
use crate::commands::progress::{Lines, Progress};
use crate::outcome::{Failure, Outcome};
use crate::output::note;

pub(super) async fn copy(
    arguments: &Arguments,
    client: &Client,
    source: &str,
    container: &str,
    path: &str,
) -> Outcome {
    let (path, target) = destination(client, container, path).await?;
    if source == "-" {
        if target != Target::Directory {
            return Err(Failure::Usage(format!("destination \"{container}:{path}\" must be a directory")));
        }
        let (body, _hidden) = standard_input();
        let put = PutRequest { directory: &path, owned_by_user: arguments.archive };
        client.put_archive(container, &put, body).await?;
        return Ok(0);
    }
    let local = pack::Source::open(source, arguments.follow_link)?;
    let placement = Placement::new(&local.name, local.is_directory, &path, target)
        .map_err(|misplaced| Failure::Usage(misplaced.to_string()))?;
    let quiet = arguments.quiet || !std::io::stdout().is_terminal();
    let bar =
        Progress::new(if quiet { Lines::Nowhere } else { Lines::Stderr }).counter("Copying to container");
    let (packing, body) = Packing::begin(local, placement.name, bar);
    let put = PutRequest { directory: &placement.directory, owned_by_user: arguments.archive };
    let sent = client.put_archive(container, &put, body).await;
    // What could not be read here broke the request: it is the reason, not the broken request.
    let packed_bytes = match (sent, packing.outcome().await) {
        (Err(ClientError::Broken { .. }), Err(failure)) => return Err(failure),
        (sent, packed) => {
            sent?;
            packed?
        }
    };
    if !quiet {
        note(&format!("Successfully copied {} to {container}:{path}", HumanBytes(packed_bytes)));
    }
    Ok(0)
}

/// Where it leads to, and what is there. A daemon that cannot say will say so when it is to write there.
async fn destination(client: &Client, container: &str, path: &str) -> Result<(String, Target), Failure> {
    let path = if path.is_empty() { "/" } else { path };
    let Ok(mut stat) = client.stat_path(container, path).await else {
        return Ok((path.to_owned(), Target::Nothing));
    };
    let mut path = path.to_owned();
    if stat.is_link() {
        path = stat.link_target;
        match client.stat_path(container, &path).await {
            Ok(target) => stat = target,
            Err(_) => return Ok((path, Target::Nothing)),
        }
    }
    if stat.is_device() {
        let text =
            format!("destination \"{container}:{path}\" must be a directory or a regular file: got a device");
        return Err(Failure::Usage(text));
    }
    Ok((path, if stat.is_directory() { Target::Directory } else { Target::File }))
}

/// What a file of ours is called, whatever its path says: ".." and "." are asked of the system.
pub(super) fn name_of(path: &str) -> std::io::Result<String> {
    match base(path) {
        ".." => {
            let path = Path::new(path).canonicalize()?;
            Ok(path.file_name().unwrap_or_default().to_string_lossy().into_owned())
        }
        name => Ok(name.to_owned()),
    }
}
