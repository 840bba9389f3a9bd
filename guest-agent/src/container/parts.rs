//! A disk, or a part of one that is a block device of its own for as long as a container has it.
//!
//! The host puts the files of several containers on one large disk. A part is known to the kernel as a partition, which no
//! table on the disk names: it is made and removed here, and what was read of it is forgotten with it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use berth_protocol::agent::DiskPart;
use rustix::io::Errno;

use crate::failure::Failure;
use crate::sys;

const SECTOR_BYTES: u64 = 512;
/// The kernel's bound of a disk's partitions.
const MAX_NUMBER: u32 = 255;

/// What a file system is mounted from.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// "/dev/vdc"
    disk: PathBuf,
    part: Option<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    number: i32,
    start_bytes: i64,
    length_bytes: i64,
}

impl Source {
    /// The name is as the guest's kernel gives it, `vda`; it is checked where requests are, and so is the part.
    pub(super) fn new(disk: &str, part: Option<&DiskPart>) -> Self {
        Self { disk: Path::new("/dev").join(disk), part: part.and_then(Part::of) }
    }

    /// A part of the same disk.
    pub(super) fn part(&self, part: Option<&DiskPart>) -> Self {
        Self { disk: self.disk.clone(), part: part.and_then(Part::of) }
    }

    /// The device's node.
    pub(super) fn device(&self) -> PathBuf {
        match self.part {
            None => self.disk.clone(),
            Some(part) => PathBuf::from(format!("{}{}", self.disk.display(), part.number)),
        }
    }

    /// Rather than a whole disk.
    pub(super) fn is_part(&self) -> bool {
        self.part.is_some()
    }

    /// Makes the part a device, in place of one that was left with its number.
    ///
    /// # Errors
    /// What the kernel answered: it overlaps another, or lies beyond the disk.
    pub(super) fn appear(&self) -> io::Result<()> {
        let Some(part) = self.part else { return Ok(()) };
        self.disappear()?;
        sys::add_partition(&File::open(&self.disk)?, part.number, part.start_bytes, part.length_bytes)
    }

    /// Where there is no such part (any more), there is nothing to do.
    ///
    /// # Errors
    /// Somebody uses it.
    pub(super) fn disappear(&self) -> io::Result<()> {
        let Some(part) = self.part else { return Ok(()) };
        match sys::remove_partition(&File::open(&self.disk)?, part.number) {
            Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => Ok(()),
            removed => removed,
        }
    }
}

impl Part {
    fn of(part: &DiskPart) -> Option<Self> {
        let whole = |bytes: u64| bytes.is_multiple_of(SECTOR_BYTES);
        let end = part.start_bytes.checked_add(part.length_bytes)?;
        i64::try_from(end).ok()?;
        if !(1..=MAX_NUMBER).contains(&part.number)
            || part.length_bytes == 0
            || !whole(part.start_bytes)
            || !whole(part.length_bytes)
        {
            return None;
        }
        Some(Self {
            number: i32::try_from(part.number).ok()?,
            start_bytes: i64::try_from(part.start_bytes).ok()?,
            length_bytes: i64::try_from(part.length_bytes).ok()?,
        })
    }
}

/// # Errors
/// INVALID_REQUEST naming the field.
pub(super) fn check(field: &str, part: Option<&DiskPart>) -> Result<(), Failure> {
    match part {
        Some(part) if Part::of(part).is_none() => {
            Err(Failure::invalid(format!("{field}: {part:?} can be no part of a disk")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_of_whole_sectors_and_has_a_number() {
        let part = DiskPart { number: 3, start_bytes: 1 << 44, length_bytes: 4096 };
        let source = Source::new("vdc", Some(&part));
        assert_eq!(source.device(), Path::new("/dev/vdc3"));
        assert_eq!(Source::new("vda", None).device(), Path::new("/dev/vda"));
        check("lower_part", Some(&part)).unwrap();
        check("lower_part", None).unwrap();
        for bad in [
            DiskPart { number: 0, ..part },
            DiskPart { number: 256, ..part },
            DiskPart { start_bytes: 100, ..part },
            DiskPart { length_bytes: 0, ..part },
            DiskPart { length_bytes: 513, ..part },
            DiskPart { start_bytes: u64::MAX - 511, ..part },
            DiskPart { start_bytes: 1 << 63, ..part },
        ] {
            assert!(check("lower_part", Some(&bad)).unwrap_err().message.contains("lower_part"), "{bad:?}");
        }
    }
}
