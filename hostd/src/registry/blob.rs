//! Blobs on their way in: a stream that survives broken connections. Counts bytes, does not hash them.

use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{Mutex, mpsc};
use tokio_util::task::AbortOnDropHandle;

use super::client::next_chunk;
use super::endpoint::{Call, Endpoint};
use super::error::RegistryError;
use super::failure::{Failure, shown, text};
use super::repository::{Inner, RemoteRepository};
use super::retry::Retries;
use super::subject::Object;
use crate::image::Digest;

/// Pieces of a body (up to some hundred KiB each) that wait for a slow reader.
const QUEUED_CHUNKS: usize = 16;
/// A connection that brought this much before it broke was worth its while: the attempts are counted anew.
const PROGRESS_BYTES: u64 = 1 << 20;

type Chunk = Result<Bytes, RegistryError>;

/// A blob's bytes, exactly as many as were asked for, or an error (a [`RegistryError`] inside the [`io::Error`]).
#[derive(Debug)]
pub struct BlobReader {
    chunks: mpsc::Receiver<Chunk>,
    rest: Bytes,
    /// Ends when nobody reads any more.
    _transfer: AbortOnDropHandle<()>,
}

/// The same for a thread that may block. Not for use on a runtime's threads.
#[derive(Debug)]
pub struct BlockingBlob(BlobReader);

/// A blob on its way.
struct Transfer<'a> {
    inner: &'a Inner,
    digest: Digest,
    size_bytes: u64,
    chunks: &'a mpsc::Sender<Chunk>,
    /// Handed over so far.
    offset_bytes: u64,
}

impl RemoteRepository {
    /// Begins to fetch a blob, as soon as no more than the allowed number are under way. Must be called within a runtime.
    #[must_use]
    pub fn blob(&self, digest: Digest, size_bytes: u64) -> BlobReader {
        let (sender, chunks) = mpsc::channel(QUEUED_CHUNKS);
        let inner = std::sync::Arc::clone(&self.inner);
        let transfer = tokio::spawn(async move {
            let _permit = inner.shared.downloads.acquire().await;
            let transfer = Transfer { inner: &inner, digest, size_bytes, chunks: &sender, offset_bytes: 0 };
            if let Err(error) = transfer.run().await {
                // Without a reader there is nobody to tell.
                sender.send(Err(error)).await.ok();
            }
        });
        BlobReader { chunks, rest: Bytes::new(), _transfer: AbortOnDropHandle::new(transfer) }
    }

    /// The size in bytes of a blob that the repository has. Asks with the right to push.
    ///
    /// # Errors
    /// Anything but that there is none.
    pub async fn has_blob(&self, digest: &Digest) -> Result<Option<u64>, RegistryError> {
        let stored = self.inner.stored_size(digest).await;
        stored.map_err(|failure| self.inner.error(Object::NewBlob(*digest), failure))
    }
}

impl Inner {
    pub(super) async fn stored_size(&self, digest: &Digest) -> Result<Option<u64>, Failure> {
        let path = self.path(&format!("blobs/{digest}"));
        match self.origin.ask(0, || Call::new(Method::HEAD, path.clone(), &self.push)).await {
            Ok(answer) => Ok(text(&answer.headers, "content-length").and_then(|text| text.parse().ok())),
            Err(failure) if failure.status() == Some(StatusCode::NOT_FOUND) => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}

impl Transfer<'_> {
    async fn run(self) -> Result<(), RegistryError> {
        if self.size_bytes == 0 {
            return Ok(());
        }
        let (inner, object) = (self.inner, Object::Blob(self.digest));
        // One endpoint after the other goes on where the last one stopped.
        let transfer = Mutex::new(self);
        let fetch = |endpoint| {
            let transfer = &transfer;
            async move { transfer.lock().await.fetch(endpoint).await }
        };
        inner.read(object, fetch).await
    }

    async fn fetch(&mut self, endpoint: &Endpoint) -> Result<(), Failure> {
        let patience = &endpoint.clients.patience;
        let mut retries = Retries::new(patience, endpoint.attempts);
        let mut with_ranges = true;
        loop {
            let before = self.offset_bytes;
            let Err(failure) = self.attempt(endpoint, &mut with_ranges).await else { return Ok(()) };
            // Every byte is there: how the connection ended is of no interest.
            if self.offset_bytes == self.size_bytes && failure.is_worth_retrying() {
                return Ok(());
            }
            if self.offset_bytes - before >= PROGRESS_BYTES {
                retries = Retries::new(patience, endpoint.attempts);
            }
            retries.pause_after(failure).await?;
        }
    }

    async fn attempt(&mut self, endpoint: &Endpoint, with_ranges: &mut bool) -> Result<(), Failure> {
        let path = self.inner.path(&format!("blobs/{}", self.digest));
        let mut call = Call::new(Method::GET, path, &self.inner.pull);
        let begins_at = if *with_ranges { self.offset_bytes } else { 0 };
        if begins_at > 0 {
            let range = format!("bytes={begins_at}-");
            call = call.header(RANGE, HeaderValue::try_from(range).expect("digits are a header's text"));
        }
        let response = match endpoint.exchange(call).await {
            Err(failure) if begins_at > 0 && failure.status() == Some(StatusCode::RANGE_NOT_SATISFIABLE) => {
                *with_ranges = false;
                return Err(Failure::broken("it cannot go on where it stopped"));
            }
            other => other?,
        };
        match self.first_byte(&response, begins_at) {
            Ok(first) => self.receive(response, first, endpoint).await,
            Err(failure) => {
                // A wrong range is asked for no second time; the whole blob may still come.
                *with_ranges &= begins_at == 0;
                Err(failure)
            }
        }
    }

    /// Where in the blob the answer begins. Nothing of it is believed that contradicts what was asked for.
    fn first_byte(&self, response: &Response, asked_from: u64) -> Result<u64, Failure> {
        if text(response.headers(), CONTENT_TYPE.as_str()).is_some_and(|kind| kind.starts_with("text/html")) {
            return Err(Failure::invalid("a web page instead of the blob"));
        }
        let expected = match response.status() {
            StatusCode::OK => self.size_bytes,
            StatusCode::PARTIAL_CONTENT if asked_from > 0 => {
                self.check_range(response, asked_from)?;
                self.size_bytes - asked_from
            }
            status => return Err(Failure::invalid(format!("answered {status} to a request for the blob"))),
        };
        match response.content_length() {
            Some(length) if length != expected => {
                Err(Failure::invalid(format!("announces {length} bytes where {expected} were expected")))
            }
            _ => Ok(if response.status() == StatusCode::OK { 0 } else { asked_from }),
        }
    }

    /// `Content-Range: bytes FIRST-LAST/SIZE` (RFC 9110, section 14.4).
    fn check_range(&self, response: &Response, asked_from: u64) -> Result<(), Failure> {
        let stated = text(response.headers(), CONTENT_RANGE.as_str()).unwrap_or_default();
        let last = self.size_bytes - 1;
        let sizes = [self.size_bytes.to_string(), "*".to_owned()];
        if sizes.iter().any(|size| stated == format!("bytes {asked_from}-{last}/{size}")) {
            return Ok(());
        }
        // Asking for the whole may help where ranges are broken.
        Err(Failure::broken(format!("asked for bytes from {asked_from} on, it sends {:?}", shown(stated))))
    }

    async fn receive(
        &mut self,
        mut response: Response,
        first: u64,
        endpoint: &Endpoint,
    ) -> Result<(), Failure> {
        let mut position = first;
        while let Some(mut chunk) = next_chunk(&mut response, &endpoint.clients.patience).await? {
            let begin = position;
            position += chunk.len() as u64;
            if position > self.size_bytes {
                return Err(Failure::invalid(format!("sends more than its {} bytes", self.size_bytes)));
            }
            // What came over an earlier connection is skipped.
            let known = self.offset_bytes.saturating_sub(begin).min(chunk.len() as u64);
            let fresh = chunk.split_off(usize::try_from(known).expect("not longer than the chunk"));
            if fresh.is_empty() {
                continue;
            }
            self.offset_bytes = position;
            if self.chunks.send(Ok(fresh)).await.is_err() {
                return Ok(());
            }
        }
        match position == self.size_bytes {
            true => Ok(()),
            false => Err(Failure::broken(format!("ended after {position} of {} bytes", self.size_bytes))),
        }
    }
}

impl BlobReader {
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

    /// The same for a thread that may block.
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
