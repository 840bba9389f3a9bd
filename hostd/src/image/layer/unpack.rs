//! Reading a layer's archive once, from front to end, into its data file and index.

use std::io::{self, BufRead};
use std::path::Path;

use super::content::ContentWriter;
use super::entry::{Entry, EntryKind};
use super::index::{self, IndexWriter};
use super::{LayerError, files};
use crate::image::tar_stream::{MemberKind, TarError, TarStream, lossy};

/// Memory of the daemon's: this many entries take some hundred bytes each when layers are merged. The largest images
/// in the field have a quarter of it.
const MAX_ENTRIES: u64 = 2 << 20;
/// Names and attributes of so many entries. A hostile layer must not fill the daemon's memory.
const MAX_ENTRY_BYTES: usize = 256 << 20;
/// What a layer may store on disk: this, or so many times the bytes of its blob. Deflate reaches a thousand, contents
/// other than zeros hardly ever thirty.
const STORED_ALLOWANCE_BYTES: u64 = 2 << 30;
const MAX_STORED_RATIO: u64 = 100;

/// A layer's plain archive, and how much of its blob that took.
pub(super) trait PlainSource: BufRead {
    fn blob_bytes(&self) -> u64;
}

/// Writes the data file and the index of the layer whose plain archive `source` gives into `directory`, durably.
/// Returns how many bytes all regular files have.
///
/// The archive is read to its very end, whatever a tar reader would ignore.
pub(super) fn unpack_stream(source: impl PlainSource, directory: &Path) -> Result<u64, LayerError> {
    let mut archive = TarStream::new(source);
    let index_path = directory.join(files::INDEX);
    let mut content = ContentWriter::create(directory.join(files::DATA), index_path.clone(), index::MAGIC)?;
    let mut index = IndexWriter::new();
    let mut content_bytes = 0_u64;
    while let Some(mut member) = archive.next_member()? {
        let path = lossy(&member.path);
        let segments = match &mut member.kind {
            MemberKind::File { segments, .. } => std::mem::take(segments),
            _ => Vec::new(),
        };
        let entry = Entry::new(member).map_err(|problem| LayerError::Entry { path, problem })?;
        let Some(mut entry) = entry else { continue };
        if let EntryKind::File { size_bytes, place } = &mut entry.kind {
            let xattr_bytes = entry.attributes.xattr_bytes();
            *place = content.append(*size_bytes, xattr_bytes, &segments, &mut archive)?;
            content_bytes = content_bytes.saturating_add(*size_bytes);
            check_stored(content.stored_bytes(), archive.source().blob_bytes())?;
        }
        index.push(&entry);
        if index.entries() > MAX_ENTRIES {
            return Err(LayerError::TooLarge("more than 2097152 entries"));
        }
        if index.bytes_so_far() > MAX_ENTRY_BYTES {
            return Err(LayerError::TooLarge("names and attributes of more than 256 MiB"));
        }
    }
    io::copy(&mut archive.into_source(), &mut io::sink()).map_err(TarError::Read)?;
    let written = content.finish()?;
    index.finish(written).map_err(|source| LayerError::Write { path: index_path, source })?;
    Ok(content_bytes)
}

fn check_stored(stored_bytes: u64, blob_bytes: u64) -> Result<(), LayerError> {
    let allowed = STORED_ALLOWANCE_BYTES.max(blob_bytes.saturating_mul(MAX_STORED_RATIO));
    if stored_bytes > allowed {
        return Err(LayerError::TooLarge("more than 2 GiB and a hundred times its blob"));
    }
    Ok(())
}

/// A plain archive in memory, for tests: its blob is itself.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn unpack(archive: &[u8], directory: &Path) -> Result<u64, LayerError> {
    unpack_stream(archive, directory)
}

#[cfg(any(test, feature = "fuzzing"))]
impl PlainSource for &[u8] {
    fn blob_bytes(&self) -> u64 {
        u64::MAX
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::super::LayerIndex;
    use super::*;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, path, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn index(directory: &Path) -> LayerIndex {
        LayerIndex::read(&mut std::fs::File::open(directory.join(files::INDEX)).unwrap()).unwrap()
    }

    fn places(index: &LayerIndex) -> Vec<(u64, Option<u64>)> {
        let place = |entry: &Entry| match &entry.kind {
            EntryKind::File { place, .. } => (place.data_offset_bytes, place.tail_offset_bytes),
            other => unreachable!("only files: {other:?}"),
        };
        index.entries.iter().map(place).collect()
    }

    #[test]
    fn whole_blocks_lie_in_the_data_file_and_short_tails_in_the_index() {
        let directory = tempfile::tempdir().unwrap();
        let (long, short) = (vec![7; 4096 + 2049], vec![8; 2 * 4096 + 2048]);
        let bytes = archive(&[("empty", b""), ("long", &long), ("tiny", b"hi"), ("short", &short)]);
        let content_bytes = unpack(&bytes, directory.path()).unwrap();
        assert_eq!(content_bytes, (long.len() + short.len() + 2) as u64);
        let index = index(directory.path());
        assert_eq!(places(&index), [(0, None), (0, None), (8192, Some(8)), (8192, Some(10))]);
        let data = std::fs::read(directory.path().join(files::DATA)).unwrap();
        assert_eq!((index.data_bytes, data.len()), (16_384, 16_384));
        assert_eq!((&data[..6145], &data[6145..8192]), (&long[..], &[0; 2047][..]));
        assert_eq!(data[8192..], short[..8192]);
        let tails = std::fs::read(directory.path().join(files::INDEX)).unwrap();
        assert_eq!((&tails[8..10], &tails[10..10 + 2048]), (&b"hi"[..], &short[8192..]));
    }

    /// A file of 1 GiB with these bytes at these places, in GNU tar's old format.
    fn sparse(pieces: &[(u64, &[u8])]) -> Vec<u8> {
        let stored: Vec<u8> = pieces.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
        let mut header = tar::Header::new_gnu();
        header.set_path("sparse").unwrap();
        header.set_entry_type(tar::EntryType::GNUSparse);
        header.set_size(stored.len() as u64);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.set_real_size(1 << 30);
        for (slot, (offset, bytes)) in gnu.sparse.iter_mut().zip(pieces) {
            slot.set_offset(*offset);
            slot.set_length(bytes.len() as u64);
        }
        header.set_cksum();
        let mut archive = header.as_bytes().to_vec();
        archive.extend_from_slice(&stored);
        archive.resize(archive.len().next_multiple_of(512), 0);
        archive
    }

    #[test]
    fn a_sparse_file_stays_sparse() {
        let pieces = [(5000, &b"ab"[..]), (1 << 20, &[1; 9000]), ((1 << 30) - 2, b"yz")];
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(unpack(&sparse(&pieces), directory.path()).unwrap(), 1 << 30);
        let path = directory.path().join(files::DATA);
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!(metadata.len(), 1 << 30);
        assert!(metadata.blocks() * 512 < 1 << 18, "a hole takes no space");
        let data = std::fs::File::open(&path).unwrap();
        for (offset, bytes) in pieces {
            let mut read = vec![9; bytes.len() + 1];
            read[bytes.len()] = 0;
            std::os::unix::fs::FileExt::read_exact_at(&data, &mut read[..bytes.len()], offset).unwrap();
            assert_eq!(&read[..bytes.len()], bytes, "{offset}");
        }
    }

    /// The same content, told as a sparse file and with all its zeros, gives the same files.
    #[test]
    fn zeros_that_were_sent_become_holes_too() {
        let mut content = vec![0; 3 << 20];
        content[5000..5002].copy_from_slice(b"ab");
        content[(2 << 20) - 1] = 7;
        let directory = tempfile::tempdir().unwrap();
        unpack(&archive(&[("zeros", &content), ("next", &[3; 4096])]), directory.path()).unwrap();
        let path = directory.path().join(files::DATA);
        assert!(std::fs::metadata(&path).unwrap().blocks() * 512 < 1 << 18, "a hole takes no space");
        assert_eq!(std::fs::read(&path).unwrap(), [content, vec![3; 4096]].concat());
    }

    #[test]
    fn bounds_on_what_is_stored_grow_with_the_blob() {
        check_stored(2 << 30, 1).unwrap();
        assert!(check_stored((2 << 30) + 1, 1).is_err());
        check_stored(6 << 30, 69 << 20).unwrap();
    }
}
