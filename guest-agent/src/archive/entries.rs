//! The entries of an archive: of one open file its header, its attributes and its content.

use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, Stat, major, minor, readlinkat};
use rustix::io::Errno;

use super::header::{Attribute, BLOCK_BYTES, Device, Entry, Kind, Time};
use super::links::{FileId, Links};
use crate::container::ids::IdMaps;

/// Of all extended attributes of one file; `XATTR_SIZE_MAX` of Linux bounds each.
const MAX_ATTRIBUTES_BYTES: usize = 512 << 10;
pub(super) const MAX_ATTRIBUTE_BYTES: usize = 64 << 10;
const PIECE_BYTES: usize = 64 << 10;

/// An archive that is being written.
pub(super) struct Entries<'a, W> {
    target: &'a mut W,
    links: Links,
    buffer: Vec<u8>,
    /// Attributes whose names begin so are not the files' own.
    foreign_attributes: Option<&'static [u8]>,
    ids: IdMaps,
}

impl<'a, W: Write> Entries<'a, W> {
    pub(super) fn new(target: &'a mut W) -> Self {
        let buffer = vec![0; PIECE_BYTES.max(MAX_ATTRIBUTE_BYTES)];
        Self { target, links: Links::default(), buffer, foreign_attributes: None, ids: IdMaps::default() }
    }

    /// The same, where attributes with such names are the file system's.
    pub(super) fn without_attributes(self, prefix: &'static [u8]) -> Self {
        Self { foreign_attributes: Some(prefix), ..self }
    }

    /// The same, where files have other owners in the machine than in the container.
    pub(super) fn owned_as(self, ids: &IdMaps) -> Self {
        Self { ids: ids.clone(), ..self }
    }

    /// Writes one entry by that path, whatever it is. A socket has none, because no archive can hold one.
    ///
    /// A file that shrinks while it is read is filled up with zeros, as its header has told its size by then.
    ///
    /// # Errors
    /// The target's own, and whatever cannot be read.
    pub(super) fn write(&mut self, path: &[u8], file: &OwnedFd, stat: &Stat) -> io::Result<()> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        match kind {
            FileType::Directory => return self.header(path, Kind::Directory, 0, file, stat),
            FileType::Socket | FileType::Unknown => return Ok(()),
            _ => {}
        }
        let id = FileId { device: stat.st_dev, inode: stat.st_ino };
        if let Some(first) = self.links.first_name(id, stat.st_nlink, path) {
            return self.header(path, Kind::HardLink(&first), 0, file, stat);
        }
        let device = Device { major: major(stat.st_rdev), minor: minor(stat.st_rdev) };
        match kind {
            FileType::RegularFile => self.regular_file(path, file, stat),
            FileType::Symlink => {
                let target = readlinkat(file, "", Vec::new())?;
                self.header(path, Kind::SymbolicLink(target.to_bytes()), 0, file, stat)
            }
            FileType::CharacterDevice => self.header(path, Kind::CharacterDevice(device), 0, file, stat),
            FileType::BlockDevice => self.header(path, Kind::BlockDevice(device), 0, file, stat),
            _ => self.header(path, Kind::Fifo, 0, file, stat),
        }
    }

    /// Writes an entry that is no file's and has no content.
    pub(super) fn write_mark(&mut self, mark: &Entry<'_>) -> io::Result<()> {
        self.target.write_all(&mark.header())
    }

    /// The archive's end, without which it is half of one.
    pub(super) fn finish(self) -> io::Result<()> {
        self.target.write_all(&[0; 2 * BLOCK_BYTES])?;
        self.target.flush()
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
        let mut attributes =
            if matches!(kind, Kind::HardLink(_)) { Vec::new() } else { attributes(file, &mut self.buffer)? };
        if let Some(foreign) = self.foreign_attributes {
            attributes.retain(|attribute| !attribute.name.starts_with(foreign));
        }
        let entry = Entry {
            path,
            kind,
            mode: stat.st_mode & 0o7777,
            user_id: self.ids.users.inside(stat.st_uid),
            group_id: self.ids.groups.inside(stat.st_gid),
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

/// What an O_PATH descriptor refers to, also where that is a symbolic link.
pub(super) fn own_path(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Of an open file, in the order of their names. The buffer has room for one of them.
pub(super) fn attributes(file: &OwnedFd, buffer: &mut [u8]) -> io::Result<Vec<Attribute>> {
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
