//! What a handler leaves of a request's body is read on for a while.
//!
//! A client that still writes when its connection is closed sees a broken pipe and may never look at the answer: why its
//! copy was refused, for one. Go's server, which Docker's clients know, reads on too.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// Go's server reads as much. Who sends more meets the closed connection.
const MOST_BYTES: usize = 256 << 10;
const PATIENCE: Duration = Duration::from_secs(5);

/// A request's body; whatever is left of it when it is dropped is read by a task of its own.
pub(super) struct ReadOn(Option<Incoming>);

impl ReadOn {
    pub(super) fn new(body: Incoming) -> Self {
        Self(Some(body))
    }
}

impl Body for ReadOn {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.0 {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for ReadOn {
    fn drop(&mut self) {
        let unread = self.0.take().filter(|body| !body.is_end_stream());
        if let (Some(body), Ok(runtime)) = (unread, Handle::try_current()) {
            runtime.spawn(timeout(PATIENCE, read_on(body)));
        }
    }
}

async fn read_on(mut body: Incoming) {
    let mut left_bytes = MOST_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let Some(rest) = left_bytes.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
        left_bytes = rest;
    }
}
