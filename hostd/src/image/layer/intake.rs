//! Taking one layer in: a blob's stream becomes a verified blob file, a data file and an index, all durable.
//!
//! Nothing is visible before the caller moves it: everything goes into files that it named, and after an error they
//! are its to throw away. Where the stream comes from and where the files end up is not this module's business.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::ingest::{LayerError, ingest};
use crate::image::compression::decompress;
use crate::image::digest::Digest;

/// What a layer must turn out to be, and where its files go.
#[derive(Clone, Debug)]
pub(crate) struct Intake<'a> {
    /// How the layer travels. `None`: its blob lies in the store already and was verified; nothing is kept of it.
    pub(crate) blob: Option<Blob<'a>>,
    /// Digest of the plain archive, as the image's configuration has it.
    pub(crate) diff_id: Digest,
    /// An empty directory for the data file and the index.
    pub(crate) directory: &'a Path,
}

/// A layer's blob, compressed or not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blob<'a> {
    /// As the manifest has it.
    pub(crate) digest: Digest,
    /// As the manifest has it: exactly so many bytes are taken.
    pub(crate) size_bytes: u64,
    /// The file to keep it in, which must not exist.
    pub(crate) path: &'a Path,
}

/// How far an intake is. Both numbers only grow; reports come from several threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IntakeProgress {
    /// So many bytes of the blob were read.
    Blob { bytes: u64 },
    /// So many bytes of the plain archive were gone through.
    Plain { bytes: u64 },
}

/// A layer that was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TakenIn {
    /// Bytes of all regular files.
    pub(crate) content_bytes: u64,
}

impl Intake<'_> {
    /// Reads `source` to its end and writes, verifies and syncs everything. Blocks for as long as that takes.
    ///
    /// # Errors
    /// The source fails, the blob or the archive in it is not what it should be, or the disk fails.
    pub(crate) fn run(
        &self,
        source: impl Read + Send,
        progress: &(dyn Fn(IntakeProgress) + Sync),
    ) -> Result<TakenIn, LayerError> {
        let kept = self.blob.map(KeptBlob::create).transpose()?;
        let mut source = BlobReader { source, kept, bytes: 0, progress };
        let plain = decompress(&mut source).map_err(|error| LayerError::Archive(error.into()))?;
        let ingested = ingest(plain, self.directory)?;
        // What follows a compressed stream belongs to the blob too.
        io::copy(&mut source, &mut io::sink()).map_err(|error| LayerError::Archive(error.into()))?;
        if let Some(kept) = source.kept {
            kept.finish(source.bytes)?;
        }
        if ingested.diff_id != self.diff_id {
            return Err(LayerError::DiffId { actual: ingested.diff_id });
        }
        sync_directory(self.directory)?;
        progress(IntakeProgress::Plain { bytes: ingested.plain_bytes });
        Ok(TakenIn { content_bytes: ingested.content_bytes })
    }
}

/// The blob's file in the making.
struct KeptBlob<'a> {
    blob: Blob<'a>,
    file: File,
    hash: Sha256,
}

impl<'a> KeptBlob<'a> {
    fn create(blob: Blob<'a>) -> Result<Self, LayerError> {
        let file = File::create_new(blob.path)
            .map_err(|source| LayerError::Write { path: blob.path.to_owned(), source })?;
        Ok(Self { blob, file, hash: Sha256::new() })
    }

    fn finish(self, size_bytes: u64) -> Result<(), LayerError> {
        let (expected, actual) = (self.blob.size_bytes, size_bytes);
        if expected != actual {
            return Err(LayerError::BlobSize { expected, actual });
        }
        let actual = Digest::from_hash(self.hash);
        if actual != self.blob.digest {
            return Err(LayerError::BlobDigest { actual });
        }
        let path = || self.blob.path.to_owned();
        self.file.sync_all().map_err(|source| LayerError::Write { path: path(), source })
    }
}

/// Passes the blob on, and keeps and hashes what it passes.
struct BlobReader<'a, R> {
    source: R,
    kept: Option<KeptBlob<'a>>,
    bytes: u64,
    progress: &'a (dyn Fn(IntakeProgress) + Sync),
}

impl<R: Read> Read for BlobReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.bytes += count as u64;
        if let Some(kept) = &mut self.kept {
            if self.bytes > kept.blob.size_bytes {
                return Err(io::Error::other("the blob is longer than the manifest says"));
            }
            kept.hash.update(&buffer[..count]);
            kept.file.write_all(&buffer[..count])?;
        }
        (self.progress)(IntakeProgress::Blob { bytes: self.bytes });
        Ok(count)
    }
}

fn sync_directory(path: &Path) -> Result<(), LayerError> {
    let failed = |source| LayerError::Write { path: PathBuf::from(path), source };
    File::open(path).and_then(|directory| directory.sync_all()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::LayerIndex;
    use super::super::files;
    use super::*;

    fn archive() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(5000);
        header.set_mode(0o644);
        builder.append_data(&mut header, "file", &[7; 5000][..]).unwrap();
        builder.into_inner().unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Takes `blob` in as if it had this digest, this size and this diff id.
    fn take(blob: &[u8], digest: Digest, size_bytes: u64, diff_id: Digest) -> Result<TakenIn, LayerError> {
        let root = tempfile::tempdir().unwrap();
        let (path, directory) = (root.path().join("blob"), root.path().join("layer"));
        std::fs::create_dir(&directory).unwrap();
        let intake =
            Intake { blob: Some(Blob { digest, size_bytes, path: &path }), diff_id, directory: &directory };
        let reports = Mutex::new(Vec::new());
        let taken = intake.run(blob, &|report| reports.lock().unwrap().push(report))?;
        assert_eq!(std::fs::read(&path).unwrap(), blob);
        let index = std::fs::read(directory.join(files::INDEX)).unwrap();
        assert_eq!(LayerIndex::parse(&index).unwrap().entries.len(), 1);
        let reports = reports.into_inner().unwrap();
        assert!(reports.contains(&IntakeProgress::Blob { bytes: size_bytes }), "{reports:?}");
        Ok(taken)
    }

    #[test]
    fn a_blob_that_is_what_it_should_be_is_taken_in() {
        let plain = archive();
        for blob in [gzip(&plain), zstd::encode_all(&plain[..], 1).unwrap(), plain.clone()] {
            let taken = take(&blob, Digest::of(&blob), blob.len() as u64, Digest::of(&plain)).unwrap();
            assert_eq!(taken.content_bytes, 5000);
        }
    }

    #[test]
    fn a_blob_that_is_not_says_what_it_is() {
        let plain = archive();
        let blob = gzip(&plain);
        let (digest, size, diff_id) = (Digest::of(&blob), blob.len() as u64, Digest::of(&plain));
        let other = Digest::of(b"other");
        let error = take(&blob, other, size, diff_id).unwrap_err();
        assert!(matches!(error, LayerError::BlobDigest { actual } if actual == digest), "{error}");
        let error = take(&blob, digest, size + 1, diff_id).unwrap_err();
        assert!(matches!(error, LayerError::BlobSize { actual, .. } if actual == size), "{error}");
        assert!(take(&blob, digest, size - 1, diff_id).is_err());
        let error = take(&blob, digest, size, other).unwrap_err();
        assert!(matches!(error, LayerError::DiffId { actual } if actual == diff_id), "{error}");
    }
}
