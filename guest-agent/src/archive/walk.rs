//! The walk: every file below a directory, in the order of names, each header followed by its content.
//!
//! What is walked may change meanwhile, and is not trusted: each entry is opened once, below the root and without
//! following any link, and everything that is said of it comes from that descriptor.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2};
use rustix::io::Errno;

use super::entries::Entries;
use super::levels::Levels;
use super::names::Names;
use crate::container::ids::IdMaps;

/// Writes everything below `root`, without the root itself; directories on other file systems are written without
/// what is in them, and sockets not at all. Owners are named as `ids` translate them.
///
/// # Errors
/// The target's own, and whatever cannot be read, named; what was written then is no archive.
pub(crate) fn write_tree(root: BorrowedFd<'_>, ids: &IdMaps, target: &mut impl Write) -> io::Result<()> {
    let device = fstat(root)?.st_dev;
    let enters = |_directory: &OwnedFd, stat: &Stat| stat.st_dev == device;
    let mut walk = Walk { root, prefix: Vec::new(), enters, entries: Entries::new(target).owned_as(ids) };
    walk.everything()?;
    walk.entries.finish()
}

/// Writes an open file, whatever it is, by that name, and everything below it; directories that `enters` denies are
/// written without what is in them. The name "/" is the names' root.
///
/// # Errors
/// As [`write_tree`].
pub(crate) fn write_named(
    file: &OwnedFd,
    name: &[u8],
    ids: &IdMaps,
    enters: impl Fn(&OwnedFd, &Stat) -> bool,
    target: &mut impl Write,
) -> io::Result<()> {
    let name = if name == b"/" { b"" } else { name };
    let mut entries = Entries::new(target).owned_as(ids);
    let stat = fstat(file)?;
    entries.write(name, file, &stat).map_err(|error| named(name, &error))?;
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    if !is_directory || !enters(file, &stat) {
        return entries.finish();
    }
    let mut walk = Walk { root: file.as_fd(), prefix: [name, b"/"].concat(), enters, entries };
    walk.everything()?;
    walk.entries.finish()
}

/// Says which entry an error is about.
pub(super) fn named(path: &[u8], error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("/{}: {error}", String::from_utf8_lossy(path)))
}

/// Why an entry is not in the archive.
enum WalkError {
    /// It was there when its directory was read, and is no more. Not an error of anybody's.
    Vanished,
    Failed(io::Error),
}

impl From<io::Error> for WalkError {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Errno> for WalkError {
    fn from(error: Errno) -> Self {
        Self::Failed(error.into())
    }
}

struct Walk<'a, W, E> {
    root: BorrowedFd<'a>,
    /// What stands before the names in the archive.
    prefix: Vec<u8>,
    enters: E,
    entries: Entries<'a, W>,
}

impl<W: Write, E: Fn(&OwnedFd, &Stat) -> bool> Walk<'_, W, E> {
    fn everything(&mut self) -> io::Result<()> {
        let directory = open_below(self.root, b".", OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut levels = Levels::default();
        levels.push(b"", Names::read(directory.as_fd())?, ())?;
        while let Some(path) = levels.next() {
            match self.entry(&path) {
                Ok(Some(names)) => levels.push(&path, names, ()).map_err(|error| named(&path, &error))?,
                Ok(None) | Err(WalkError::Vanished) => {}
                Err(WalkError::Failed(error)) => return Err(named(&path, &error)),
            }
        }
        Ok(())
    }

    /// Writes one entry; of a directory, gives the names in it.
    fn entry(&mut self, path: &[u8]) -> Result<Option<Names>, WalkError> {
        let file = open_entry(self.root, path)?.ok_or(WalkError::Vanished)?;
        let stat = fstat(&file)?;
        self.entries.write(&[self.prefix.as_slice(), path].concat(), &file, &stat)?;
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !is_directory || !(self.enters)(&file, &stat) {
            return Ok(None);
        }
        Ok(Some(names_in(&file)?))
    }
}

/// The names in an open directory.
pub(super) fn names_in(directory: &OwnedFd) -> io::Result<Names> {
    let directory = open_below(directory.as_fd(), b".", OFlags::RDONLY | OFlags::DIRECTORY)?;
    Names::read(directory.as_fd())
}

/// Opens what has that path below a directory, whatever it is; nothing if nothing has.
pub(super) fn open_entry(directory: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<Option<OwnedFd>> {
    match open_below(directory, path, OFlags::PATH) {
        // NOTDIR, LOOP: a directory above it was replaced.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        opened => opened.map(Some),
    }
}

/// Opens what has that path below a directory, and nothing else: no link is followed, no way leads out.
fn open_below(directory: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match openat2(directory, path, flags, Mode::empty(), resolve) {
            // A rename next to it; it says nothing about this path.
            Err(Errno::AGAIN | Errno::INTR) => {}
            opened => return opened,
        }
    }
}
