//! An archive of a container's files becomes files of ours. The container is not trusted: no entry comes to lie outside
//! of the directory that the user named, whatever its name is, and whatever links came before it.

use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use bytes::{Buf, Bytes};
use tar::{Archive, Entry, EntryType};
use tokio::sync::mpsc;

use crate::outcome::Failure;

/// Where an archive's entries go.
#[derive(Debug)]
pub(super) struct Unpacking {
    /// What their names begin with.
    pub(super) name_in_archive: String,
    pub(super) directory: PathBuf,
    /// What stands in its place.
    pub(super) name: String,
}

/// A directory whose mode and times are set when everything is in it.
struct Finished {
    path: PathBuf,
    mode: u32,
    seconds: u64,
}

/// Blocks until the archive is whole.
///
/// # Errors
/// Names the file.
pub(super) fn unpack(archive: impl Read, unpacking: &Unpacking) -> Result<(), Failure> {
    let failed = |source| Failure::File { object: "reading the archive".to_owned(), source };
    let root = unpacking.directory.canonicalize();
    let root =
        root.map_err(|source| Failure::File { object: unpacking.directory.display().to_string(), source })?;
    let mut directories = Vec::new();
    let mut archive = Archive::new(archive);
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        write(&mut entry, &root, unpacking, &mut directories)
            .map_err(|source| Failure::File { object: name, source })?;
    }
    for directory in directories.iter().rev() {
        finish(directory)
            .map_err(|source| Failure::File { object: directory.path.display().to_string(), source })?;
    }
    // What broke after the archive's end broke it, too.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(failed)?;
    Ok(())
}

fn write(
    entry: &mut Entry<'_, impl Read>,
    root: &Path,
    unpacking: &Unpacking,
    directories: &mut Vec<Finished>,
) -> io::Result<()> {
    let path = place(&entry.path()?, root, unpacking)?;
    let kind = entry.header().entry_type();
    make_room(&path, root, kind == EntryType::Directory)?;
    match kind {
        EntryType::Directory => {
            if !path.is_dir() {
                fs::create_dir(&path)?;
            }
            let (mode, seconds) = (entry.header().mode()?, entry.header().mtime()?);
            directories.push(Finished { path, mode, seconds });
            Ok(())
        }
        EntryType::Link => {
            let target = entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?;
            fs::hard_link(place(&target, root, unpacking)?, &path)
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse | EntryType::Symlink => {
            entry.set_preserve_permissions(true);
            entry.unpack(&path).map(drop)
        }
        EntryType::Fifo | EntryType::Char | EntryType::Block => special(entry.header(), &path),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "an entry of an unknown kind")),
    }
}

/// The path of ours that an entry's name means.
fn place(name: &Path, root: &Path, unpacking: &Unpacking) -> io::Result<PathBuf> {
    let outside = || io::Error::new(io::ErrorKind::InvalidData, "it would lie outside of the destination");
    let mut names = Vec::new();
    for component in name.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(outside()),
        }
    }
    let mut names = names.into_iter();
    if !matches!(unpacking.name_in_archive.as_str(), "" | ".") {
        names.next().filter(|first| *first == unpacking.name_in_archive.as_str()).ok_or_else(outside)?;
    }
    let mut path = root.to_path_buf();
    if unpacking.name != "." {
        path.push(&unpacking.name);
    }
    path.extend(names);
    // A link that an earlier entry made, or that was there, leads a later one nowhere else.
    if path != *root {
        let parent = path.parent().ok_or_else(outside)?.canonicalize()?;
        if !parent.starts_with(root) {
            return Err(outside());
        }
    }
    Ok(path)
}

/// Takes away what has that name, but never a directory, and never for one.
fn make_room(path: &Path, root: &Path, is_directory: bool) -> io::Result<()> {
    let Ok(existing) = fs::symlink_metadata(path) else { return Ok(()) };
    // The destination may be named by a link.
    let was_directory = existing.is_dir() || (is_directory && path.is_dir() && path.parent() == Some(root));
    if was_directory != is_directory {
        let (was, is) =
            if was_directory { ("directory", "non-directory") } else { ("non-directory", "directory") };
        let text = format!("cannot overwrite {was} \"{}\" with {is} \"{}\"", path.display(), root.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    if is_directory { Ok(()) } else { fs::remove_file(path) }
}

#[cfg(unix)]
fn finish(directory: &Finished) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&directory.path, fs::Permissions::from_mode(directory.mode & 0o7777))?;
    let time = Timespec { tv_sec: i64::try_from(directory.seconds).unwrap_or(i64::MAX), tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(CWD, &directory.path, &times, AtFlags::empty())?)
}

#[cfg(not(unix))]
fn finish(_directory: &Finished) -> io::Result<()> {
    Ok(())
}

#[cfg(target_os = "linux")]
fn special(header: &tar::Header, path: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    let kind = match header.entry_type() {
        EntryType::Char => FileType::CharacterDevice,
        EntryType::Block => FileType::BlockDevice,
        _ => FileType::Fifo,
    };
    let device = makedev(header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0));
    Ok(mknodat(CWD, path, kind, Mode::from_raw_mode(header.mode()? & 0o7777), device)?)
}

#[cfg(not(target_os = "linux"))]
fn special(_header: &tar::Header, _path: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Pieces as a thread that blocks reads them.
pub(super) struct PieceReader {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl PieceReader {
    pub(super) fn new(pieces: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self { pieces, current: Bytes::new() }
    }
}

impl Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.current = piece?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(members: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, word) in members {
            let mut header = tar::Header::new_gnu();
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            header.set_mtime(1_000_000_000);
            let content = if kind.is_file() { word.as_bytes() } else { b"" };
            if !kind.is_file() {
                header.set_link_name_literal(word).expect("short");
            }
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content).expect("a Vec grows");
        }
        builder.into_inner().expect("a Vec grows")
    }

    fn unpack_into(directory: &Path, name: &str, members: &[(&str, EntryType, &str)]) -> Result<(), String> {
        let unpacking =
            Unpacking { name_in_archive: "d".into(), directory: directory.join("to"), name: name.into() };
        unpack(archive(members).as_slice(), &unpacking).map_err(|failure| failure.to_string())
    }

    fn temporary() -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        fs::create_dir(directory.path().join("to")).expect("a directory");
        directory
    }

    #[test]
    fn the_first_name_is_replaced_in_entries_and_links() {
        let directory = temporary();
        let members = [
            ("d/", EntryType::Directory, ""),
            ("d/f", EntryType::Regular, "content"),
            ("d/h", EntryType::Link, "d/f"),
            ("d/s", EntryType::Symlink, "../../../etc"),
        ];
        for name in ["new", "."] {
            unpack_into(directory.path(), name, &members).expect("it fits");
            unpack_into(directory.path(), name, &members).expect("and again, over itself");
            let new = directory.path().join("to").join(name);
            assert_eq!(fs::read_to_string(new.join("h")).expect("a file"), "content");
            assert_eq!(fs::read_link(new.join("s")).expect("a link"), Path::new("../../../etc"));
            let modified = fs::metadata(&new).and_then(|new| new.modified()).expect("a time");
            assert_eq!(modified, std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000));
        }
    }

    #[test]
    fn nothing_comes_to_lie_outside() {
        let regular = EntryType::Regular;
        let through = |target| {
            [("d/", EntryType::Directory, ""), ("d/l", EntryType::Symlink, target), ("d/l/f", regular, "x")]
        };
        for members in [
            &[("d/../../f", regular, "x")][..],
            &[("e/f", regular, "x")],
            &[("../f", regular, "x")],
            &through("/tmp"),
            &through("../.."),
            &[("d/h", EntryType::Link, "d/../../secret")],
        ] {
            let directory = temporary();
            fs::write(directory.path().join("secret"), "").expect("a file");
            assert!(unpack_into(directory.path(), "d", members).is_err(), "{members:?}");
            assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 2);
        }
    }

    #[test]
    fn directories_and_files_do_not_replace_each_other() {
        let directory = temporary();
        fs::create_dir(directory.path().join("to/x")).expect("a directory");
        fs::write(directory.path().join("to/y"), "").expect("a file");
        let error =
            unpack_into(directory.path(), "x", &[("d", EntryType::Regular, "x")]).expect_err("a directory");
        assert!(error.contains("cannot overwrite directory"), "{error}");
        let error =
            unpack_into(directory.path(), "y", &[("d/", EntryType::Directory, "")]).expect_err("a file");
        assert!(error.contains("cannot overwrite non-directory"), "{error}");
    }
}
