//! Reading a layer's archive once, from front to end, into its data file and index.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::entry::{Entry, EntryKind, InvalidEntry};
use super::index::IndexWriter;
use super::{BLOCK_BYTES, files};
use crate::image::digest::{Digest, HashingReader};
use crate::image::tar_stream::{MemberKind, Segment, TarError, TarStream, lossy};

/// The index of a layer with two million files of ordinary names. A hostile one must not fill the daemon's memory.
const MAX_INDEX_BYTES: usize = 256 << 20;
/// The image disk addresses blocks with 32 bits: 16 TiB.
const MAX_DATA_BYTES: u64 = BLOCK_BYTES * u32::MAX as u64;
const BUFFER_BYTES: usize = 256 << 10;
/// Up to this length a gap is written as zeros rather than skipped: padding must not cost a system call each.
const MAX_WRITTEN_GAP_BYTES: u64 = 64 << 10;

/// Why a layer was not taken in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayerError {
    #[error(transparent)]
    Archive(#[from] TarError),
    #[error("entry {path:?}: {problem}")]
    Entry { path: String, problem: InvalidEntry },
    #[error("it is too large: {0}")]
    TooLarge(&'static str),
    #[error("its blob has {actual} bytes instead of {expected}")]
    BlobSize { expected: u64, actual: u64 },
    #[error("its blob's digest is {actual}")]
    BlobDigest { actual: Digest },
    #[error("its uncompressed digest is {actual}")]
    DiffId { actual: Digest },
    #[error("writing {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// What became of a layer's archive.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ingested {
    /// Digest of the uncompressed archive.
    pub(crate) diff_id: Digest,
    /// Bytes of the uncompressed archive.
    pub(crate) plain_bytes: u64,
    /// Bytes of all regular files.
    pub(crate) content_bytes: u64,
}

/// Writes the data file and the index of the layer whose plain archive `source` gives into `directory`, durably.
///
/// The archive is read to its very end, so that the digest covers what a tar reader would ignore.
pub(crate) fn ingest(source: impl Read, directory: &Path) -> Result<Ingested, LayerError> {
    let mut archive = TarStream::new(HashingReader::new(source));
    let mut data = DataFile::create(directory.join(files::DATA))?;
    let mut index = IndexWriter::new();
    let mut content_bytes = 0;
    while let Some(mut member) = archive.next_member()? {
        let path = lossy(&member.path);
        let segments = match &mut member.kind {
            MemberKind::File { segments, .. } => std::mem::take(segments),
            _ => Vec::new(),
        };
        let offset_bytes = data.end_bytes;
        let entry =
            Entry::new(member, offset_bytes).map_err(|problem| LayerError::Entry { path, problem })?;
        let Some(entry) = entry else { continue };
        if let EntryKind::File { size_bytes, .. } = entry.kind {
            data.append(size_bytes, &segments, &mut archive)?;
            content_bytes += size_bytes;
        }
        index.push(&entry);
        if index.bytes_so_far() > MAX_INDEX_BYTES {
            return Err(LayerError::TooLarge("names and attributes of more than 256 MiB"));
        }
    }
    let (diff_id, plain_bytes) = archive.into_source().finish().map_err(TarError::Read)?;
    let data_bytes = data.finish()?;
    write_durably(directory.join(files::INDEX), &index.finish(data_bytes))?;
    Ok(Ingested { diff_id, plain_bytes, content_bytes })
}

/// The data file while it grows. Between what is written it has holes.
struct DataFile {
    path: PathBuf,
    file: BufWriter<File>,
    /// Where the file's cursor is.
    position_bytes: u64,
    /// Where the next file begins: a multiple of the block size.
    end_bytes: u64,
}

impl DataFile {
    fn create(path: PathBuf) -> Result<Self, LayerError> {
        match File::create_new(&path) {
            Ok(file) => {
                let file = BufWriter::with_capacity(BUFFER_BYTES, file);
                Ok(Self { path, file, position_bytes: 0, end_bytes: 0 })
            }
            Err(source) => Err(LayerError::Write { path, source }),
        }
    }

    /// Takes one file's stored bytes from `source` and puts its segments into their places.
    fn append(
        &mut self,
        size_bytes: u64,
        segments: &[Segment],
        source: &mut impl Read,
    ) -> Result<(), LayerError> {
        let end =
            self.end_bytes.checked_add(size_bytes).and_then(|end| end.checked_next_multiple_of(BLOCK_BYTES));
        let end = end.filter(|end| *end <= MAX_DATA_BYTES);
        let end = end.ok_or(LayerError::TooLarge("files of more than 16 TiB"))?;
        for segment in segments {
            self.advance_to(self.end_bytes + segment.offset_bytes)?;
            self.copy(segment.length_bytes, source)?;
        }
        self.end_bytes = end;
        Ok(())
    }

    fn advance_to(&mut self, target_bytes: u64) -> Result<(), LayerError> {
        let gap = target_bytes - self.position_bytes;
        let moved = if gap <= MAX_WRITTEN_GAP_BYTES {
            io::copy(&mut io::repeat(0).take(gap), &mut self.file).map(drop)
        } else {
            self.file.seek(SeekFrom::Start(target_bytes)).map(drop)
        };
        self.position_bytes = target_bytes;
        moved.map_err(|source| self.failed(source))
    }

    /// Errors of the two sides have different culprits, so this is no `io::copy`.
    fn copy(&mut self, mut left_bytes: u64, source: &mut impl Read) -> Result<(), LayerError> {
        let mut buffer = [0; 16 << 10];
        while left_bytes > 0 {
            let wanted = usize::try_from(left_bytes).unwrap_or(usize::MAX).min(buffer.len());
            let count = source.read(&mut buffer[..wanted]).map_err(TarError::Read)?;
            if count == 0 {
                return Err(TarError::Malformed("it ends within a member").into());
            }
            self.file.write_all(&buffer[..count]).map_err(|source| self.failed(source))?;
            self.position_bytes += count as u64;
            left_bytes -= count as u64;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<u64, LayerError> {
        self.file.flush().map_err(|source| self.failed(source))?;
        let file = self.file.get_ref();
        file.set_len(self.end_bytes).and_then(|()| file.sync_all()).map_err(|source| self.failed(source))?;
        Ok(self.end_bytes)
    }

    fn failed(&self, source: io::Error) -> LayerError {
        LayerError::Write { path: self.path.clone(), source }
    }
}

fn write_durably(path: PathBuf, bytes: &[u8]) -> Result<(), LayerError> {
    let written = File::create_new(&path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|source| LayerError::Write { path, source })
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

    #[test]
    fn files_lie_block_aligned_in_the_data_file() {
        let directory = tempfile::tempdir().unwrap();
        let big = vec![7; 5000];
        let bytes = archive(&[("empty", b""), ("big", &big), ("small", b"hi")]);
        let ingested = ingest(&bytes[..], directory.path()).unwrap();
        assert_eq!(
            ingested,
            Ingested { diff_id: Digest::of(&bytes), plain_bytes: bytes.len() as u64, content_bytes: 5002 }
        );
        let index = LayerIndex::parse(&std::fs::read(directory.path().join(files::INDEX)).unwrap()).unwrap();
        let data = std::fs::read(directory.path().join(files::DATA)).unwrap();
        assert_eq!((index.data_bytes, data.len()), (12_288, 12_288));
        let offsets = index.entries.iter().map(|entry| match entry.kind {
            EntryKind::File { data_offset_bytes, .. } => data_offset_bytes,
            _ => unreachable!("only files"),
        });
        assert_eq!(offsets.collect::<Vec<_>>(), [0, 0, 8192]);
        assert_eq!((&data[..5000], &data[5000..8192]), (&big[..], &[0; 3192][..]));
        assert_eq!(&data[8192..8194], b"hi");
    }

    #[test]
    fn a_sparse_file_stays_sparse() {
        let mut header = tar::Header::new_gnu();
        header.set_path("sparse").unwrap();
        header.set_entry_type(tar::EntryType::GNUSparse);
        header.set_size(2);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.set_real_size(1 << 30);
        gnu.sparse[0].set_offset((1 << 30) - 2);
        gnu.sparse[0].set_length(2);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(b"ab");
        bytes.resize(1024, 0);
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(ingest(&bytes[..], directory.path()).unwrap().content_bytes, 1 << 30);
        let metadata = std::fs::metadata(directory.path().join(files::DATA)).unwrap();
        assert_eq!(metadata.len(), 1 << 30);
        assert!(metadata.blocks() * 512 < 1 << 20, "a hole takes no space");
    }

    #[test]
    fn the_digest_covers_what_follows_the_archives_end() {
        let directory = tempfile::tempdir().unwrap();
        let mut bytes = archive(&[("a", b"b")]);
        bytes.extend_from_slice(b"trailing garbage");
        assert_eq!(ingest(&bytes[..], directory.path()).unwrap().diff_id, Digest::of(&bytes));
    }
}
