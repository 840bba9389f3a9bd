//! The index file of a layer: its entries in archive order, in a compact binary form of our own.
//!
//! Magic and version, entries, and at the end their number, the data file's length and a checksum of everything
//! before it. All numbers are little-endian; byte strings have their length in front. A version that this code does
//! not know is an error: the layer's blob is still there to make a new index from.

use super::entry::{Attributes, Entry, EntryKind};
use crate::image::tar_stream::ModificationTime;

const MAGIC: &[u8; 8] = b"BERTHLX\x01";
/// Entry count, data length, checksum.
const TRAILER_BYTES: usize = 8 + 8 + 4;
const CHECKSUM_BYTES: usize = 4;

/// Why an index file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    #[error("not a layer index of version 1")]
    Version,
    #[error("its checksum is wrong")]
    Checksum,
    #[error("it is malformed")]
    Malformed,
}

/// A layer's entries, and the length of the data file they point into.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LayerIndex {
    pub(crate) entries: Vec<Entry>,
    /// A multiple of 4 KiB.
    pub(crate) data_bytes: u64,
}

/// Writes an index entry by entry, so that a layer's entries need not be in memory as such.
pub(super) struct IndexWriter {
    bytes: Vec<u8>,
    entries: u64,
}

impl IndexWriter {
    pub(super) fn new() -> Self {
        Self { bytes: MAGIC.to_vec(), entries: 0 }
    }

    pub(super) fn bytes_so_far(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn push(&mut self, entry: &Entry) {
        self.entries += 1;
        self.put_bytes(&entry.path);
        match &entry.kind {
            EntryKind::File { size_bytes, data_offset_bytes } => {
                self.bytes.push(0);
                self.bytes.extend(size_bytes.to_le_bytes());
                self.bytes.extend(data_offset_bytes.to_le_bytes());
            }
            EntryKind::Directory => self.bytes.push(1),
            EntryKind::Symlink { target } => {
                self.bytes.push(2);
                self.put_bytes(target);
            }
            EntryKind::HardLink { target } => {
                self.bytes.push(3);
                self.put_bytes(target);
            }
            EntryKind::CharacterDevice { major, minor } => self.put_device(4, *major, *minor),
            EntryKind::BlockDevice { major, minor } => self.put_device(5, *major, *minor),
            EntryKind::Fifo => self.bytes.push(6),
            EntryKind::Whiteout => return self.bytes.push(7),
            EntryKind::Opaque => return self.bytes.push(8),
        }
        self.put_attributes(&entry.attributes);
    }

    pub(super) fn finish(mut self, data_bytes: u64) -> Vec<u8> {
        self.bytes.extend(self.entries.to_le_bytes());
        self.bytes.extend(data_bytes.to_le_bytes());
        let checksum = crc32fast::hash(&self.bytes);
        self.bytes.extend(checksum.to_le_bytes());
        self.bytes
    }

    fn put_attributes(&mut self, attributes: &Attributes) {
        self.bytes.extend(attributes.mode.to_le_bytes());
        self.bytes.extend(attributes.uid.to_le_bytes());
        self.bytes.extend(attributes.gid.to_le_bytes());
        self.bytes.extend(attributes.modified.seconds.to_le_bytes());
        self.bytes.extend(attributes.modified.nanoseconds.to_le_bytes());
        let count = u32::try_from(attributes.xattrs.len()).expect("entries are bounded");
        self.bytes.extend(count.to_le_bytes());
        for (name, value) in &attributes.xattrs {
            self.put_bytes(name);
            self.put_bytes(value);
        }
    }

    fn put_device(&mut self, tag: u8, major: u32, minor: u32) {
        self.bytes.push(tag);
        self.bytes.extend(major.to_le_bytes());
        self.bytes.extend(minor.to_le_bytes());
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).expect("entries are bounded");
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend(bytes);
    }
}

impl LayerIndex {
    /// Reads an index file's bytes.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, IndexError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(IndexError::Version)?;
        let (_, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(IndexError::Malformed)?;
        if crc32fast::hash(&bytes[..bytes.len() - CHECKSUM_BYTES]) != u32::from_le_bytes(*checksum) {
            return Err(IndexError::Checksum);
        }
        let middle = rest.len().checked_sub(TRAILER_BYTES).ok_or(IndexError::Malformed)?;
        let (entries, trailer) = rest.split_at(middle);
        let mut trailer = Cursor(trailer);
        let (count, data_bytes) = (trailer.u64()?, trailer.u64()?);
        let mut cursor = Cursor(entries);
        let entries = (0..count).map(|_| cursor.entry(data_bytes)).collect::<Result<Vec<_>, _>>()?;
        if !cursor.0.is_empty() {
            return Err(IndexError::Malformed);
        }
        Ok(Self { entries, data_bytes })
    }
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn entry(&mut self, data_bytes: u64) -> Result<Entry, IndexError> {
        let path = self.bytes()?;
        let kind = match self.array::<1>()?[0] {
            0 => {
                let (size_bytes, data_offset_bytes) = (self.u64()?, self.u64()?);
                let end = data_offset_bytes.checked_add(size_bytes);
                if end.is_none_or(|end| end > data_bytes) {
                    return Err(IndexError::Malformed);
                }
                EntryKind::File { size_bytes, data_offset_bytes }
            }
            1 => EntryKind::Directory,
            2 => EntryKind::Symlink { target: self.bytes()? },
            3 => EntryKind::HardLink { target: self.bytes()? },
            4 => EntryKind::CharacterDevice { major: self.u32()?, minor: self.u32()? },
            5 => EntryKind::BlockDevice { major: self.u32()?, minor: self.u32()? },
            6 => EntryKind::Fifo,
            7 => return Ok(Entry { path, kind: EntryKind::Whiteout, attributes: Attributes::default() }),
            8 => return Ok(Entry { path, kind: EntryKind::Opaque, attributes: Attributes::default() }),
            _ => return Err(IndexError::Malformed),
        };
        Ok(Entry { path, kind, attributes: self.attributes()? })
    }

    fn attributes(&mut self) -> Result<Attributes, IndexError> {
        let mode = u16::from_le_bytes(self.array()?);
        let (uid, gid) = (self.u32()?, self.u32()?);
        let modified =
            ModificationTime { seconds: i64::from_le_bytes(self.array()?), nanoseconds: self.u32()? };
        let xattrs =
            (0..self.u32()?).map(|_| Ok((self.bytes()?, self.bytes()?))).collect::<Result<_, _>>()?;
        Ok(Attributes { mode, uid, gid, modified, xattrs })
    }

    fn u32(&mut self) -> Result<u32, IndexError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, IndexError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn bytes(&mut self) -> Result<Vec<u8>, IndexError> {
        let length = usize::try_from(self.u32()?).map_err(|_| IndexError::Malformed)?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(IndexError::Malformed)?;
        self.0 = rest;
        Ok(bytes.to_vec())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], IndexError> {
        let (array, rest) = self.0.split_first_chunk().ok_or(IndexError::Malformed)?;
        self.0 = rest;
        Ok(*array)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        let attributes = Attributes {
            mode: 0o4755,
            uid: 7,
            gid: u32::MAX,
            modified: ModificationTime { seconds: -5, nanoseconds: 6 },
            xattrs: vec![(b"user.a".to_vec(), b"\0\xff".to_vec())],
        };
        let plain = |path: &[u8], kind| Entry { path: path.to_vec(), kind, attributes: attributes.clone() };
        let bare = |path: &[u8], kind| Entry { path: path.to_vec(), kind, attributes: Attributes::default() };
        vec![
            plain(b"", EntryKind::Directory),
            plain(b"f", EntryKind::File { size_bytes: 1 << 40, data_offset_bytes: 4096 }),
            plain(b"s", EntryKind::Symlink { target: b"f".to_vec() }),
            plain(b"h", EntryKind::HardLink { target: b"f".to_vec() }),
            plain(b"c", EntryKind::CharacterDevice { major: 1, minor: 3 }),
            plain(b"b", EntryKind::BlockDevice { major: 8, minor: 0 }),
            plain(b"p\xff", EntryKind::Fifo),
            bare(b"w", EntryKind::Whiteout),
            bare(b"o", EntryKind::Opaque),
        ]
    }

    fn written() -> Vec<u8> {
        let mut writer = IndexWriter::new();
        entries().iter().for_each(|entry| writer.push(entry));
        writer.finish((1 << 40) + 4096)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let index = LayerIndex::parse(&written()).unwrap();
        assert_eq!(index, LayerIndex { entries: entries(), data_bytes: (1 << 40) + 4096 });
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_noticed() {
        let bytes = written();
        for length in 0..bytes.len() {
            assert!(LayerIndex::parse(&bytes[..length]).is_err(), "{length}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert!(LayerIndex::parse(&changed).is_err(), "{at}");
        }
    }

    #[test]
    fn a_file_beyond_the_data_is_malformed() {
        let mut writer = IndexWriter::new();
        writer.push(&entries()[1]);
        assert!(matches!(LayerIndex::parse(&writer.finish(4096)), Err(IndexError::Malformed)));
    }
}
