//! The verb ReadChanges: what a container has changed, as a list or as a layer, whether something runs in it or not.
//!
//! Read where it was written, from the scratch disk's upper directory. What was put into the root so that a container can run
//! in it is not the container's change: a list of what has run and written nothing is empty.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;

use berth_protocol::agent::{self, ChangeList, ChangesForm, ReadChanges};
use prost::Message;

use super::disks::Disks;
use super::identity_files;
use super::read_archive::Archive;
use crate::agent::Agent;
use crate::archive::{Change, ChangeKind, Furnishing, Overlay, Scope, Visit};
use crate::failure::Failure;
use crate::stage;

/// Begins to read. The container stays until the reading has ended.
///
/// # Errors
/// NO_SUCH_CONTAINER, INVALID_REQUEST for a form that is not known.
pub(crate) async fn open(agent: &Agent, request: &ReadChanges) -> Result<Archive, Failure> {
    let form = request.form();
    if form == ChangesForm::Unset {
        return Err(Failure::invalid("the form of the changes is missing"));
    }
    Archive::read(agent, &request.container_id, move |disks, target| write(disks, form, target)).await
}

fn write(disks: &Disks, form: ChangesForm, target: &mut impl Write) -> io::Result<()> {
    let (upper, lower) = (File::open(disks.upper())?, File::open(disks.lower())?);
    let furnishings = furnishings();
    let overlay = Overlay { upper: upper.as_fd(), lower: lower.as_fd(), furnishings: &furnishings };
    if form == ChangesForm::Layer {
        return overlay.write_layer(target);
    }
    overlay.changes(Scope::Seen, &mut List { target })?;
    target.flush()
}

/// Where something is mounted in every container, and the directories on the way there.
fn furnishings() -> Vec<Furnishing> {
    let targets = stage::standard_mount_targets().chain(["/etc"]);
    let directories = targets.flat_map(|target| Path::new(target).ancestors());
    let directories = directories.filter_map(|path| path.to_str()?.strip_prefix('/'));
    let directories = directories.filter(|path| !path.is_empty()).map(Furnishing::Directory);
    directories.chain(identity_files::PATHS.map(Furnishing::File)).collect()
}

/// Writes each change as a list of one: lists that follow each other are one list.
struct List<'a, W> {
    target: &'a mut W,
}

impl<W: Write> Visit for List<'_, W> {
    fn visit(&mut self, change: &Change<'_>) -> io::Result<()> {
        let kind = match change.kind {
            ChangeKind::Modified => agent::ChangeKind::Modified,
            ChangeKind::Added => agent::ChangeKind::Added,
            ChangeKind::Deleted => agent::ChangeKind::Deleted,
        };
        let path = [b"/", change.path].concat();
        let list = ChangeList { changes: vec![agent::Change { path, kind: kind.into() }] };
        self.target.write_all(&list.encode_to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mount_and_every_file_of_an_identity_has_its_place() {
        let found = furnishings();
        for directory in ["proc", "dev", "dev/pts", "dev/shm", "sys", "sys/fs", "sys/fs/cgroup", "etc"] {
            assert!(found.contains(&Furnishing::Directory(directory)), "{directory}");
        }
        for (name, path) in identity_files::NAMES.into_iter().zip(identity_files::PATHS) {
            assert_eq!(path, format!("etc/{name}"));
            assert!(found.contains(&Furnishing::File(path)), "{path}");
        }
    }

    #[test]
    fn lists_that_follow_each_other_are_one() {
        let mut bytes = Vec::new();
        let mut list = List { target: &mut bytes };
        for (path, kind) in [(&b"a"[..], ChangeKind::Added), (b"\xff", ChangeKind::Deleted)] {
            list.visit(&Change { path, kind, with_all_below: false, file: None }).unwrap();
        }
        let list = ChangeList::decode(bytes.as_slice()).unwrap();
        let paths: Vec<_> = list.changes.iter().map(|change| change.path.as_slice()).collect();
        assert_eq!(paths, [&b"/a"[..], b"/\xff"]);
        let kinds: Vec<_> = list.changes.iter().map(agent::Change::kind).collect();
        assert_eq!(kinds, [agent::ChangeKind::Added, agent::ChangeKind::Deleted]);
    }
}
