//! The index file of a layer: its entries in archive order, in a compact binary form of our own.
//!
//! ```text
//! magic and version | tails of files | entries | trailer: where the entries begin, their number, lengths, checksums
//! ```
//!
//! All numbers are little-endian; byte strings have their length in front. A version that this code does not know is
//! an error: the layer's blob is still there to make a new index from.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};

use super::content::Written;
use super::entry::{Attributes, Entry, EntryKind, FilePlace};
use super::{BLOCK_BYTES, MAX_TAIL_BYTES, MAX_XATTR_BYTES_WITH_TAIL};
use crate::image::tar_stream::ModificationTime;

pub(super) const MAGIC: &[u8; 8] = b"BERTHLX\x02";
/// Where the entries begin, their number, the data file's length; checksums of the data, of the tails, and of all
/// from the entries on.
const TRAILER_BYTES: usize = 3 * 8 + 3 * 4;
const CHECKSUM_BYTES: usize = 4;
/// No writer makes more: entries are bounded, and a file that claims so much must not fill the daemon's memory.
const MAX_ENTRY_SECTION_BYTES: u64 = 512 << 20;
/// Stands for a tail that is not in the index.
const NO_TAIL: u64 = u64::MAX;

/// Why an index file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    #[error("reading its index")]
    Read(#[from] io::Error),
    #[error("not a layer index of version 2")]
    Version,
    #[error("its index has a wrong checksum")]
    Checksum,
    #[error("its index is malformed")]
    Malformed,
}

/// A layer's entries, and what the files they point into must be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LayerIndex {
    pub(crate) entries: Vec<Entry>,
    /// Length of the data file: a multiple of 4 KiB.
    pub(crate) data_bytes: u64,
    /// Over the data file's blocks, as its writer computes it.
    pub(super) data_checksum: u32,
    pub(super) tails_checksum: u32,
    /// Where in the index file the tails end.
    pub(super) tails_end_bytes: u64,
}

/// Collects entries, in the form they have on disk.
pub(super) struct IndexWriter {
    bytes: Vec<u8>,
    entries: u64,
}

impl IndexWriter {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), entries: 0 }
    }

    pub(super) fn bytes_so_far(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    pub(super) fn push(&mut self, entry: &Entry) {
        self.entries += 1;
        self.put_bytes(&entry.path);
        match &entry.kind {
            EntryKind::File { size_bytes, place } => {
                self.bytes.push(0);
                self.bytes.extend(size_bytes.to_le_bytes());
                self.bytes.extend(place.data_offset_bytes.to_le_bytes());
                self.bytes.extend(place.tail_offset_bytes.unwrap_or(NO_TAIL).to_le_bytes());
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

    /// Completes the index file behind the contents, durably.
    pub(super) fn finish(self, written: Written) -> io::Result<()> {
        let mut file: BufWriter<File> = written.index;
        let bytes = self.encode(
            written.tails_end_bytes,
            written.data_bytes,
            [written.data_checksum, written.tails_checksum],
        );
        file.write_all(&bytes)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }

    /// Entries and trailer.
    fn encode(mut self, begin_bytes: u64, data_bytes: u64, checksums: [u32; 2]) -> Vec<u8> {
        self.bytes.extend(begin_bytes.to_le_bytes());
        self.bytes.extend(self.entries.to_le_bytes());
        self.bytes.extend(data_bytes.to_le_bytes());
        self.bytes.extend(checksums.iter().flat_map(|checksum| checksum.to_le_bytes()));
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
    /// Entries without contents, for tests.
    #[cfg(test)]
    pub(crate) fn of(entries: Vec<Entry>) -> Self {
        let tails_end_bytes = MAGIC.len() as u64;
        Self { entries, data_bytes: BLOCK_BYTES, data_checksum: 0, tails_checksum: 0, tails_end_bytes }
    }

    /// Reads all of an index file but the tails.
    pub(crate) fn read(file: &mut (impl Read + Seek)) -> Result<Self, IndexError> {
        let mut magic = [0; MAGIC.len()];
        file.seek(SeekFrom::Start(0))?;
        file.read_exact(&mut magic).map_err(|_| IndexError::Version)?;
        if magic != *MAGIC {
            return Err(IndexError::Version);
        }
        let length = file.seek(SeekFrom::End(0))?;
        let trailer_bytes = length.checked_sub(TRAILER_BYTES as u64).ok_or(IndexError::Malformed)?;
        file.seek(SeekFrom::Start(trailer_bytes))?;
        let mut first = [0; 8];
        file.read_exact(&mut first)?;
        let begin_bytes = u64::from_le_bytes(first);
        let section_bytes = length.checked_sub(begin_bytes).ok_or(IndexError::Malformed)?;
        let misplaced = begin_bytes < MAGIC.len() as u64 || begin_bytes > trailer_bytes;
        if misplaced || section_bytes > MAX_ENTRY_SECTION_BYTES {
            return Err(IndexError::Malformed);
        }
        file.seek(SeekFrom::Start(begin_bytes))?;
        let mut section = Vec::new();
        file.take(section_bytes).read_to_end(&mut section)?;
        Self::parse(&section)
    }

    /// Entries and trailer.
    fn parse(section: &[u8]) -> Result<Self, IndexError> {
        let (checked, checksum) =
            section.split_last_chunk::<CHECKSUM_BYTES>().ok_or(IndexError::Malformed)?;
        if crc32fast::hash(checked) != u32::from_le_bytes(*checksum) {
            return Err(IndexError::Checksum);
        }
        let middle = section.len().checked_sub(TRAILER_BYTES).ok_or(IndexError::Malformed)?;
        let (entries, trailer) = section.split_at(middle);
        let mut trailer = Cursor(trailer);
        let (tails_end_bytes, count, data_bytes) = (trailer.u64()?, trailer.u64()?, trailer.u64()?);
        let (data_checksum, tails_checksum) = (trailer.u32()?, trailer.u32()?);
        let bounds = Bounds { data_bytes, tails_end_bytes };
        let mut cursor = Cursor(entries);
        let entries = (0..count).map(|_| cursor.entry(&bounds)).collect::<Result<Vec<_>, _>>()?;
        if !cursor.0.is_empty() || !data_bytes.is_multiple_of(BLOCK_BYTES) {
            return Err(IndexError::Malformed);
        }
        Ok(Self { entries, data_bytes, data_checksum, tails_checksum, tails_end_bytes })
    }
}

/// What entries may point into.
struct Bounds {
    data_bytes: u64,
    tails_end_bytes: u64,
}

impl Bounds {
    /// Checks that a file's content is there.
    fn place(&self, size_bytes: u64, data_offset_bytes: u64, tail: u64) -> Result<FilePlace, IndexError> {
        let tail_bytes = size_bytes % BLOCK_BYTES;
        let tail_offset_bytes = (tail != NO_TAIL).then_some(tail);
        let in_data = if tail_offset_bytes.is_some() { size_bytes - tail_bytes } else { size_bytes };
        let data_end = data_offset_bytes.checked_add(in_data);
        let data_fits = data_end.is_some_and(|end| end <= self.data_bytes);
        let tail_fits = tail_offset_bytes.is_none_or(|offset| {
            let end = offset.checked_add(tail_bytes);
            let inside = end.is_some_and(|end| end <= self.tails_end_bytes) && offset >= MAGIC.len() as u64;
            inside && (1..=MAX_TAIL_BYTES).contains(&tail_bytes)
        });
        if !data_fits || !tail_fits || !data_offset_bytes.is_multiple_of(BLOCK_BYTES) {
            return Err(IndexError::Malformed);
        }
        Ok(FilePlace { data_offset_bytes, tail_offset_bytes })
    }
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn entry(&mut self, bounds: &Bounds) -> Result<Entry, IndexError> {
        let path = self.bytes()?;
        let kind = match self.array::<1>()?[0] {
            0 => {
                let size_bytes = self.u64()?;
                EntryKind::File { size_bytes, place: bounds.place(size_bytes, self.u64()?, self.u64()?)? }
            }
            1 => EntryKind::Directory,
            2 => EntryKind::Symlink { target: self.bytes()? },
            3 => EntryKind::HardLink { target: self.bytes()? },
            4 => EntryKind::CharacterDevice { major: self.u32()?, minor: self.u32()? },
            5 => EntryKind::BlockDevice { major: self.u32()?, minor: self.u32()? },
            6 => EntryKind::Fifo,
            7 => EntryKind::Whiteout,
            8 => EntryKind::Opaque,
            _ => return Err(IndexError::Malformed),
        };
        let attributes = match kind {
            EntryKind::Whiteout | EntryKind::Opaque => Attributes::default(),
            _ => self.attributes()?,
        };
        let has_tail =
            matches!(kind, EntryKind::File { place: FilePlace { tail_offset_bytes: Some(_), .. }, .. });
        if has_tail && attributes.xattr_bytes() > MAX_XATTR_BYTES_WITH_TAIL {
            return Err(IndexError::Malformed);
        }
        let entry = Entry { path, kind, attributes };
        if entry.is_sound() { Ok(entry) } else { Err(IndexError::Malformed) }
    }

    fn attributes(&mut self) -> Result<Attributes, IndexError> {
        let mode = u16::from_le_bytes(self.array()?);
        let (uid, gid) = (self.u32()?, self.u32()?);
        let modified =
            ModificationTime { seconds: i64::from_le_bytes(self.array()?), nanoseconds: self.u32()? };
        let xattrs = (0..self.u32()?)
            .map(|_| Ok((self.bytes()?, self.bytes()?)))
            .collect::<Result<_, IndexError>>()?;
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
    use std::io::Cursor as Bytes;

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
        let place = |tail_offset_bytes| FilePlace { data_offset_bytes: 4096, tail_offset_bytes };
        vec![
            plain(b"", EntryKind::Directory),
            plain(b"f", EntryKind::File { size_bytes: 1 << 40, place: place(None) }),
            plain(b"t", EntryKind::File { size_bytes: 4096 + 100, place: place(Some(8)) }),
            plain(b"s", EntryKind::Symlink { target: b"f".to_vec() }),
            plain(b"h", EntryKind::HardLink { target: b"f".to_vec() }),
            plain(b"c", EntryKind::CharacterDevice { major: 1, minor: 3 }),
            plain(b"b", EntryKind::BlockDevice { major: 8, minor: 0 }),
            plain(b"p\xff", EntryKind::Fifo),
            bare(b"w", EntryKind::Whiteout),
            bare(b"o", EntryKind::Opaque),
        ]
    }

    /// An index file with a tail of 100 bytes.
    fn written(entries: &[Entry], data_bytes: u64) -> Vec<u8> {
        let mut writer = IndexWriter::new();
        entries.iter().for_each(|entry| writer.push(entry));
        let mut bytes = [&MAGIC[..], &[7; 100]].concat();
        bytes.extend(writer.encode(108, data_bytes, [1, 2]));
        bytes
    }

    fn read(bytes: &[u8]) -> Result<LayerIndex, IndexError> {
        LayerIndex::read(&mut Bytes::new(bytes))
    }

    #[test]
    fn what_is_written_is_read_back() {
        let index = read(&written(&entries(), (1 << 40) + 4096)).unwrap();
        assert_eq!(index.entries, entries());
        assert_eq!((index.data_bytes, index.tails_end_bytes), ((1 << 40) + 4096, 108));
        assert_eq!((index.data_checksum, index.tails_checksum), (1, 2));
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_noticed() {
        let bytes = written(&entries(), (1 << 40) + 4096);
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "{length}");
        }
        for at in (0..MAGIC.len()).chain(108..bytes.len()) {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert!(read(&changed).is_err(), "{at}");
        }
    }

    #[test]
    fn entries_that_no_archive_gives_are_malformed() {
        let file = |size_bytes, data_offset_bytes, tail_offset_bytes| Entry {
            path: b"f".to_vec(),
            kind: EntryKind::File { size_bytes, place: FilePlace { data_offset_bytes, tail_offset_bytes } },
            attributes: Attributes::default(),
        };
        let named = |path: &[u8]| Entry { path: path.to_vec(), ..file(0, 0, None) };
        let with = |attributes| Entry { attributes, ..file(4100, 0, Some(8)) };
        let xattr = |bytes| vec![(b"user.a".to_vec(), vec![0; bytes])];
        read(&written(&[file(4100, 0, Some(8))], 4096)).unwrap();
        for wrong in [
            file(4097, 0, None),
            file(1, 4096, None),
            file(1, 1, None),
            file(1, u64::MAX, None),
            file(4100, 0, Some(7)),
            file(4100, 0, Some(105)),
            file(4096, 0, Some(8)),
            file(4096 + 2049, 0, Some(8)),
            named(b"a/../b"),
            named(b"/a"),
            named(&[b'a'; 256]),
            with(Attributes { mode: 0o10_000, ..Attributes::default() }),
            with(Attributes { xattrs: xattr(1025), ..Attributes::default() }),
            with(Attributes { xattrs: vec![(b"none".to_vec(), vec![])], ..Attributes::default() }),
        ] {
            let result = read(&written(std::slice::from_ref(&wrong), 4096));
            assert!(matches!(result, Err(IndexError::Malformed)), "{wrong:?} {result:?}");
        }
    }
}
