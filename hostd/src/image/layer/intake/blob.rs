//! The first thread of an intake: reads the blob, hashes it, keeps it, and passes it on.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::mpsc::SyncSender;

use sha2::{Digest as _, Sha256};

use super::super::space::SpaceWatch;
use super::chunks::{self, Buffers, Chunk};
use super::{Blob, IntakeProgress, LayerError, Report, Stop};
use crate::image::digest::Digest;

/// When the archive turns out to be malformed, this much of the blob is still read: most often the blob was damaged,
/// and its digest says so.
const MAX_DRAINED_BYTES: u64 = 8 << 20;

pub(super) struct BlobStage<'a> {
    kept: Option<KeptBlob<'a>>,
    bytes: u64,
    report: Report<'a>,
}

impl<'a> BlobStage<'a> {
    pub(super) fn new(blob: Option<Blob<'a>>, report: Report<'a>) -> Result<Self, LayerError> {
        Ok(Self { kept: blob.map(KeptBlob::create).transpose()?, bytes: 0, report })
    }

    pub(super) fn run(
        mut self,
        mut source: impl Read,
        buffers: &Buffers,
        target: &SyncSender<Chunk>,
    ) -> Result<(), Stop> {
        loop {
            let mut chunk = buffers.fill(&mut source).map_err(LayerError::Source)?;
            self.bytes += chunk.bytes().len() as u64;
            chunk.blob_bytes = self.bytes;
            if chunk.is_end() {
                return self.end(chunk, target);
            }
            if let Some(kept) = &mut self.kept {
                kept.add(chunk.bytes(), self.bytes)?;
            }
            // All of a kept blob is reported once it was verified.
            if self.kept.as_ref().is_none_or(|kept| self.bytes < kept.blob.size_bytes) {
                (self.report)(IntakeProgress::Blob { bytes: self.bytes });
            }
            if chunks::send(target, chunk).is_err() {
                return self.drain(source, buffers);
            }
        }
    }

    /// The next thread need not wait until the blob is durable.
    fn end(self, end: Chunk, target: &SyncSender<Chunk>) -> Result<(), Stop> {
        let Some(kept) = self.kept else { return chunks::send(target, end) };
        let path = kept.blob.path;
        let file = kept.verify(self.bytes)?;
        (self.report)(IntakeProgress::Blob { bytes: self.bytes });
        chunks::send(target, end)?;
        file.sync_all().map_err(|source| LayerError::Write { path: path.to_owned(), source })?;
        Ok(())
    }

    /// Nobody wants the rest, but if it is short the digest is worth knowing.
    fn drain(self, mut source: impl Read, buffers: &Buffers) -> Result<(), Stop> {
        let Some(mut kept) = self.kept else { return Err(Stop::Unwanted) };
        let mut total_bytes = self.bytes;
        if kept.blob.size_bytes.saturating_sub(total_bytes) > MAX_DRAINED_BYTES {
            return Err(Stop::Unwanted);
        }
        loop {
            let chunk = buffers.fill(&mut source).map_err(LayerError::Source)?;
            total_bytes += chunk.bytes().len() as u64;
            if chunk.is_end() {
                return kept.verify(total_bytes).map_err(Stop::Failed).and(Err(Stop::Unwanted));
            }
            kept.hash(chunk.bytes(), total_bytes)?;
            buffers.give_back(chunk);
        }
    }
}

/// The blob's file in the making.
struct KeptBlob<'a> {
    blob: Blob<'a>,
    file: File,
    hash: Sha256,
    space: SpaceWatch,
}

impl<'a> KeptBlob<'a> {
    fn create(blob: Blob<'a>) -> Result<Self, LayerError> {
        let file = File::create_new(blob.path)
            .map_err(|source| LayerError::Write { path: blob.path.to_owned(), source })?;
        Ok(Self { blob, file, hash: Sha256::new(), space: SpaceWatch::new(blob.path) })
    }

    fn add(&mut self, bytes: &[u8], total_bytes: u64) -> Result<(), LayerError> {
        self.hash(bytes, total_bytes)?;
        self.space.take(&self.file, bytes.len() as u64)?;
        self.file
            .write_all(bytes)
            .map_err(|source| LayerError::Write { path: self.blob.path.to_owned(), source })
    }

    fn hash(&mut self, bytes: &[u8], total_bytes: u64) -> Result<(), LayerError> {
        if total_bytes > self.blob.size_bytes {
            return Err(LayerError::BlobTooLong { expected: self.blob.size_bytes });
        }
        self.hash.update(bytes);
        Ok(())
    }

    fn verify(self, actual: u64) -> Result<File, LayerError> {
        let expected = self.blob.size_bytes;
        if expected != actual {
            return Err(LayerError::BlobSize { expected, actual });
        }
        let actual = Digest::from_hash(self.hash);
        if actual != self.blob.digest {
            return Err(LayerError::BlobDigest { actual });
        }
        Ok(self.file)
    }
}
