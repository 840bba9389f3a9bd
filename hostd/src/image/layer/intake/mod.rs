//! Taking one layer in: a blob's stream becomes a verified blob file, a data file and an index, all durable.
//!
//! ```text
//! source ─▶ blob thread ──▶ plain thread ──▶ calling thread
//!           hash, keep      decompress       hash, read the archive, write data and index
//! ```
//!
//! The three work side by side and hand chunks on; few are under way, so a slow one slows the others down. Nothing is
//! visible before the caller moves it: everything goes into files that it named, and after an error they are its to
//! throw away. Where the stream comes from and where the files end up is not this module's business.

mod blob;
mod chunks;
mod plain;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread::{Builder, Scope, ScopedJoinHandle};

use sha2::{Digest as _, Sha256};

use super::entry::InvalidEntry;
use super::unpack::unpack_stream;
use crate::image::digest::Digest;
use crate::image::tar_stream::TarError;
use blob::BlobStage;
use chunks::{Buffers, Chunk, ChunkReader};
use plain::Bounds;

/// How many chunks wait between two threads.
const CHUNKS_UNDER_WAY: usize = 4;

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

/// How far an intake is. All numbers only grow; reports come from two threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IntakeProgress {
    /// So many bytes of the blob were read. Once they are all of its size, its digest was right.
    Blob { bytes: u64 },
    /// So many bytes of the plain archive were taken from the source, and so many of the blob were spent on them.
    Plain { bytes: u64, blob_bytes: u64 },
}

/// Who is told how far an intake is. Called for each chunk of 256 KiB.
pub(crate) type Report<'a> = &'a (dyn Fn(IntakeProgress) + Sync);

/// A layer that was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TakenIn {
    /// Bytes of all regular files.
    pub(crate) content_bytes: u64,
}

/// Why a layer was not taken in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayerError {
    /// Its bytes did not come. They may be sound all the same.
    #[error("reading its blob")]
    Source(#[source] io::Error),
    #[error("its blob has {actual} bytes instead of {expected}")]
    BlobSize { expected: u64, actual: u64 },
    #[error("its blob has more than {expected} bytes")]
    BlobTooLong { expected: u64 },
    #[error("its blob's digest is {actual}")]
    BlobDigest { actual: Digest },
    #[error("it cannot be decompressed")]
    Compression(#[source] io::Error),
    #[error("its uncompressed digest is {actual}")]
    DiffId { actual: Digest },
    #[error(transparent)]
    Archive(#[from] TarError),
    #[error("entry {path:?}: {problem}")]
    Entry { path: String, problem: InvalidEntry },
    #[error("it is too large: {0}")]
    TooLarge(&'static str),
    #[error("no room: only {free_mib} MiB are free where {} is; remove images or containers", path.display())]
    NoSpace { path: PathBuf, free_mib: u64 },
    #[error("writing {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl LayerError {
    /// Whether the layer itself is to blame, rather than what brought it or the host's disk.
    pub(crate) fn is_layers_fault(&self) -> bool {
        !matches!(self, Self::Source(_) | Self::NoSpace { .. } | Self::Write { .. })
    }
}

/// Why a thread of an intake ended early.
enum Stop {
    Failed(LayerError),
    /// The next thread takes nothing more: it knows why.
    Unwanted,
}

impl<E: Into<LayerError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Intake<'_> {
    /// Reads `source` to its end and writes, verifies and syncs everything. Blocks for as long as that takes.
    ///
    /// # Errors
    /// The source fails, the blob or the archive in it is not what it should be, or the disk fails or is full.
    pub(crate) fn run(&self, source: impl Read + Send, report: Report<'_>) -> Result<TakenIn, LayerError> {
        let blob = BlobStage::new(self.blob, report)?;
        let (blob_buffers, plain_buffers) = (&Buffers::default(), &Buffers::default());
        let (blob_chunks, received) = sync_channel(CHUNKS_UNDER_WAY);
        let (plain_chunks, plain_received) = sync_channel(CHUNKS_UNDER_WAY);
        std::thread::scope(|scope| {
            let keeping =
                self.spawn(scope, "layer-blob", move || blob.run(source, blob_buffers, &blob_chunks))?;
            let received = ChunkReader::new(received, blob_buffers, |_| {});
            let expanding = self.spawn(scope, "layer-plain", move || {
                plain::run(received, Bounds::LAYER, plain_buffers, &plain_chunks)
            })?;
            let mut hash = PlainHash::new(report);
            let received = ChunkReader::new(plain_received, plain_buffers, |chunk| hash.add(chunk));
            let unpacked = unpack_stream(received, self.directory);
            // An error in front of another one is its cause.
            for earlier in [keeping, expanding] {
                if let Err(Stop::Failed(error)) = join(earlier) {
                    return Err(error);
                }
            }
            let content_bytes = unpacked?;
            self.complete(hash.finish(), content_bytes)
        })
    }

    fn complete(&self, actual: Digest, content_bytes: u64) -> Result<TakenIn, LayerError> {
        if actual != self.diff_id {
            return Err(LayerError::DiffId { actual });
        }
        let synced = File::open(self.directory).and_then(|directory| directory.sync_all());
        synced.map_err(|source| self.failed(source))?;
        Ok(TakenIn { content_bytes })
    }

    fn spawn<'scope, T: Send + 'scope>(
        &self,
        scope: &'scope Scope<'scope, '_>,
        name: &str,
        work: impl FnOnce() -> T + Send + 'scope,
    ) -> Result<ScopedJoinHandle<'scope, T>, LayerError> {
        Builder::new().name(name.to_owned()).spawn_scoped(scope, work).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> LayerError {
        LayerError::Write { path: self.directory.to_owned(), source }
    }
}

/// The digest of the plain archive, as it passes.
struct PlainHash<'a> {
    hash: Sha256,
    bytes: u64,
    report: Report<'a>,
}

impl<'a> PlainHash<'a> {
    fn new(report: Report<'a>) -> Self {
        Self { hash: Sha256::new(), bytes: 0, report }
    }

    fn add(&mut self, chunk: &Chunk) {
        self.hash.update(chunk.bytes());
        self.bytes += chunk.bytes().len() as u64;
        (self.report)(IntakeProgress::Plain { bytes: self.bytes, blob_bytes: chunk.blob_bytes });
    }

    fn finish(self) -> Digest {
        Digest::from_hash(self.hash)
    }
}

fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests;
