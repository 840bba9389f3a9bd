//! Blobs on their way in: a stream that survives broken connections. Counts bytes, does not hash them.

use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;

use super::error::RegistryError;

/// Pieces of a body (up to some hundred KiB each) that wait for a slow reader.
const QUEUED_CHUNKS: usize = 16;

type Chunk = Result<Bytes, RegistryError>;

/// A blob's bytes, exactly as many as were asked for, or an error (a [`RegistryError`] inside the [`io::Error`]).
#[derive(Debug)]
pub struct BlobReader {
    chunks: mpsc::Receiver<Chunk>,
    rest: Bytes,
}

/// The same for a thread that may block. Not for use on a runtime's threads.
#[derive(Debug)]
pub struct BlockingBlob(BlobReader);

impl BlobReader {
    pub(super) fn failed(error: RegistryError) -> Self {
        let (sender, chunks) = mpsc::channel(QUEUED_CHUNKS);
        sender.try_send(Err(error)).expect("the channel is empty and its receiver here");
        Self { chunks, rest: Bytes::new() }
    }

    /// The next piece without a copy; none at the end.
    ///
    /// # Errors
    /// Why the blob cannot be had.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        if !self.rest.is_empty() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        self.chunks.recv().await.transpose()
    }

    /// For a thread that may block.
    #[must_use]
    pub fn into_blocking(self) -> BlockingBlob {
        BlockingBlob(self)
    }
}

impl AsyncRead for BlobReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rest.is_empty() {
            match ready!(self.chunks.poll_recv(context)) {
                Some(chunk) => self.rest = chunk?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl Read for BlockingBlob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.rest.is_empty() {
            match self.0.chunks.blocking_recv() {
                Some(chunk) => self.0.rest = chunk?,
                None => return Ok(0),
            }
        }
        let count = self.0.rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.0.rest.split_to(count));
        Ok(count)
    }
}
