//! The walk: every file below a directory, in the order of names, each header followed by its content.
//!
//! What is walked may change meanwhile, and is not trusted: each entry is opened once, below the root and without
//! following any link, and everything that is said of it comes from that descriptor.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, major, minor, openat2, readlinkat};
use rustix::io::Errno;

use super::header::{Attribute, BLOCK_BYTES, Device, Entry, Kind, Time};
use super::links::{FileId, Links};
use super::names::{self, Names};

/// Names that are still to be visited, of all directories above and of the present one.
const MAX_WAITING_BYTES: usize = 2 * names::MAX_BYTES;
/// Of all extended attributes of one file; `XATTR_SIZE_MAX` of Linux bounds each.
const MAX_ATTRIBUTES_BYTES: usize = 512 << 10;
const MAX_ATTRIBUTE_BYTES: usize = 64 << 10;
const PIECE_BYTES: usize = 64 << 10;

/// Writes everything below `root`, without the root itself; directories on other file systems are written without
/// what is in them, and sockets not at all, because no archive can hold one.
///
/// A file that shrinks while it is read is filled up with zeros, as its header has told its size by then.
///
/// # Errors
/// The target's own, and whatever cannot be read, named; what was written then is no archive.
pub(crate) fn write_tree(root: BorrowedFd<'_>, target: &mut impl Write) -> io::Result<()> {
    let mut walk = Walk {
        root,
        device: fstat(root)?.st_dev,
        target,
        links: Links::default(),
        buffer: vec![0; PIECE_BYTES.max(MAX_ATTRIBUTE_BYTES)],
    };
    let everything = open_below(root, b".", OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut levels = Levels::default();
    levels.push(Vec::new(), Names::read(everything.as_fd())?)?;
    while let Some(path) = levels.next() {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("/{}: {error}", String::from_utf8_lossy(&path)))
        };
        match walk.entry(&path) {
            Ok(Some(names)) => levels.push([path.as_slice(), b"/"].concat(), names).map_err(named)?,
            Ok(None) => {}
            Err(WalkError::Vanished) => {}
            Err(WalkError::Failed(error)) => return Err(named(error)),
        }
    }
    walk.target.write_all(&[0; 2 * BLOCK_BYTES])?;
    walk.target.flush()
}

/// The directories that are being visited, the innermost last.
#[derive(Default)]
struct Levels {
    /// What stands before the names.
    levels: Vec<(Vec<u8>, Names)>,
    held_bytes: usize,
}

impl Levels {
    fn push(&mut self, prefix: Vec<u8>, names: Names) -> io::Result<()> {
        self.held_bytes += names.held_bytes();
        if self.held_bytes > MAX_WAITING_BYTES {
            return Err(io::Error::other("the names in it and above it are too many"));
        }
        self.levels.push((prefix, names));
        Ok(())
    }

    /// The next path, relative to the root.
    fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let (prefix, names) = self.levels.last_mut()?;
            let held_bytes = names.held_bytes();
            if let Some(name) = names.next() {
                let path = [prefix.as_slice(), name].concat();
                self.held_bytes -= size_of::<u32>();
                return Some(path);
            }
            self.held_bytes -= held_bytes;
            self.levels.pop();
        }
    }
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

struct Walk<'a, W> {
    root: BorrowedFd<'a>,
    /// The root's file system.
    device: u64,
    target: &'a mut W,
    links: Links,
    buffer: Vec<u8>,
}

impl<W: Write> Walk<'_, W> {
    /// Writes one entry; of a directory, gives the names in it.
    fn entry(&mut self, path: &[u8]) -> Result<Option<Names>, WalkError> {
        let file = match open_below(self.root, path, OFlags::PATH) {
            // NOTDIR, LOOP: a directory above it was replaced.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(WalkError::Vanished),
            file => file?,
        };
        let stat = fstat(&file)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return self.directory(path, &file, &stat),
            FileType::Socket | FileType::Unknown => return Ok(None),
            _ => {}
        }
        let id = FileId { device: stat.st_dev, inode: stat.st_ino };
        if let Some(first) = self.links.first_name(id, stat.st_nlink, path) {
            self.header(path, Kind::HardLink(&first), 0, &file, &stat)?;
            return Ok(None);
        }
        let device = Device { major: major(stat.st_rdev), minor: minor(stat.st_rdev) };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.regular_file(path, &file, &stat)?,
            FileType::Symlink => {
                let target = readlinkat(&file, "", Vec::new())?;
                self.header(path, Kind::SymbolicLink(target.to_bytes()), 0, &file, &stat)?;
            }
            FileType::CharacterDevice => self.header(path, Kind::CharacterDevice(device), 0, &file, &stat)?,
            FileType::BlockDevice => self.header(path, Kind::BlockDevice(device), 0, &file, &stat)?,
            _ => self.header(path, Kind::Fifo, 0, &file, &stat)?,
        }
        Ok(None)
    }

    fn directory(&mut self, path: &[u8], file: &OwnedFd, stat: &Stat) -> Result<Option<Names>, WalkError> {
        self.header(path, Kind::Directory, 0, file, stat)?;
        if stat.st_dev != self.device {
            return Ok(None);
        }
        let directory = open_below(file.as_fd(), b".", OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(Some(Names::read(directory.as_fd())?))
    }

    fn regular_file(&mut self, path: &[u8], file: &OwnedFd, stat: &Stat) -> io::Result<()> {
        let size_bytes = u64::try_from(stat.st_size).unwrap_or(0);
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOATIME | OFlags::CLOEXEC;
        let content = rustix::fs::open(own_path(file), flags, Mode::empty())?;
        self.header(path, Kind::File, size_bytes, file, stat)?;
        let mut left = size_bytes;
        while left > 0 {
            let wanted = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
            let count = match rustix::io::read(&content, &mut self.buffer[..wanted]) {
                Err(Errno::INTR) => continue,
                count => count?,
            };
            if count == 0 {
                break;
            }
            self.target.write_all(&self.buffer[..count])?;
            left -= count as u64;
        }
        self.zeros(left)?;
        self.zeros(size_bytes.next_multiple_of(BLOCK_BYTES as u64) - size_bytes)
    }

    fn zeros(&mut self, count: u64) -> io::Result<()> {
        io::copy(&mut io::Read::take(io::repeat(0), count), &mut self.target).map(|_count| ())
    }

    fn header(
        &mut self,
        path: &[u8],
        kind: Kind<'_>,
        size_bytes: u64,
        file: &OwnedFd,
        stat: &Stat,
    ) -> io::Result<()> {
        // A further name has its attributes where the first one stands.
        let attributes =
            if matches!(kind, Kind::HardLink(_)) { Vec::new() } else { attributes(file, &mut self.buffer)? };
        let entry = Entry {
            path,
            kind,
            mode: stat.st_mode & 0o7777,
            user_id: stat.st_uid,
            group_id: stat.st_gid,
            size_bytes,
            modified: Time {
                seconds: stat.st_mtime,
                nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            },
            attributes: &attributes,
        };
        self.target.write_all(&entry.header())
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

/// What an O_PATH descriptor refers to, also where that is a symbolic link.
fn own_path(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// In the order of their names.
fn attributes(file: &OwnedFd, buffer: &mut [u8]) -> io::Result<Vec<Attribute>> {
    let path = own_path(file);
    let length = match rustix::fs::listxattr(&path, &mut *buffer) {
        Err(Errno::NOTSUP) => 0,
        length => length?,
    };
    let listed = buffer[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut names: Vec<Vec<u8>> = listed.map(<[u8]>::to_vec).collect();
    names.sort_unstable();
    let mut attributes = Vec::new();
    let mut held_bytes = 0;
    for name in names {
        let length = match rustix::fs::getxattr(&path, name.as_slice(), &mut *buffer) {
            // It was removed, or belongs to a kind that cannot be read by its name.
            Err(Errno::NODATA | Errno::NOTSUP) => continue,
            length => length?,
        };
        held_bytes += name.len() + length;
        if held_bytes > MAX_ATTRIBUTES_BYTES {
            let limit_kib = MAX_ATTRIBUTES_BYTES >> 10;
            return Err(io::Error::other(format!("its extended attributes take more than {limit_kib} KiB")));
        }
        attributes.push(Attribute { name, value: buffer[..length].to_vec() });
    }
    Ok(attributes)
}
