//! The bytes of an upload as a request's body, counted while they are sent, and the wait for the request's answer that
//! sees whether they still move.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use reqwest::{Body, Response};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;
use tokio_util::io::ReaderStream;

use super::super::failure::Failure;
use super::Stopped;

const READ_BYTES: usize = 128 << 10;

/// Where the bytes come from, and who hears how many were sent.
pub(super) struct Source<O, P> {
    pub(super) open: O,
    pub(super) progress: P,
}

/// A body on its way, and what is known about it from outside.
pub(super) struct Sending {
    pub(super) body: Body,
    pub(super) watch: Watch,
}

/// Watches a body that the HTTP client owns.
pub(super) struct Watch {
    begin: u64,
    sent_bytes: watch::Receiver<u64>,
    length: u64,
    fault: Arc<OnceLock<String>>,
}

struct Counted<R> {
    reader: Pin<Box<ReaderStream<R>>>,
    sent: u64,
    length: u64,
    sent_bytes: watch::Sender<u64>,
    /// Why the source gave no more: the client shows only that the body ended.
    fault: Arc<OnceLock<String>>,
}

impl Sending {
    /// Opens the source at the range's start.
    pub(super) fn begin<O, P, R>(source: &Source<O, P>, range: Range<u64>) -> Result<Self, String>
    where
        O: Fn(u64) -> io::Result<R>,
        R: AsyncRead + Send + 'static,
    {
        let length = range.end - range.start;
        let reader = (source.open)(range.start).map_err(|error| format!("cannot be read: {error}"))?;
        let (sender, sent_bytes) = watch::channel(0);
        let fault = Arc::new(OnceLock::new());
        let counted = Counted {
            reader: Box::pin(ReaderStream::with_capacity(reader.take(length), READ_BYTES)),
            sent: 0,
            length,
            sent_bytes: sender,
            fault: Arc::clone(&fault),
        };
        let watch = Watch { begin: range.start, sent_bytes, length, fault };
        Ok(Self { body: Body::wrap_stream(counted), watch })
    }
}

impl Watch {
    /// Waits for the answer to the request that carries the body: as long as bytes move, then as long as an answer may
    /// take.
    pub(super) async fn wait(
        mut self,
        exchange: impl Future<Output = Result<Response, Failure>>,
        progress: impl Fn(u64),
        no_progress: Duration,
        answer: Duration,
    ) -> Result<Response, Stopped> {
        tokio::pin!(exchange);
        let mut is_sending = true;
        loop {
            let all_sent = *self.sent_bytes.borrow() == self.length;
            let deadline = if all_sent { answer } else { no_progress };
            tokio::select! {
                answered = &mut exchange => return answered.map_err(|failure| self.blame(failure)),
                changed = self.sent_bytes.changed(), if is_sending => match changed {
                    Ok(()) => progress(self.begin + *self.sent_bytes.borrow_and_update()),
                    Err(_) => is_sending = false,
                },
                () = tokio::time::sleep(deadline) => {
                    let what = if all_sent { "no answer to it" } else { "nothing could be sent" };
                    return Err(Failure::broken(format!("{what} for {deadline:?}")).into());
                }
            }
        }
    }

    /// The source's fault, if it has one.
    fn blame(&self, failure: Failure) -> Stopped {
        match self.fault.get() {
            Some(reason) => Stopped::Source(reason.clone()),
            None => failure.into(),
        }
    }
}

impl<R: AsyncRead> Stream for Counted<R> {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let next = ready!(self.reader.as_mut().poll_next(context));
        match &next {
            Some(Ok(bytes)) => {
                self.sent += bytes.len() as u64;
                self.sent_bytes.send_replace(self.sent);
            }
            Some(Err(error)) => {
                self.fault.set(format!("cannot be read: {error}")).ok();
            }
            None if self.sent < self.length => {
                let reason = format!("ends {} bytes too early", self.length - self.sent);
                self.fault.set(reason.clone()).ok();
                return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason))));
            }
            None => {}
        }
        Poll::Ready(next)
    }
}
