//! An archive as the daemon sends it, piece by piece.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;

use super::{ClientError, broken};

pub(crate) struct Download {
    request: &'static str,
    body: Incoming,
}

impl Download {
    pub(super) fn new(request: &'static str, response: Response<Incoming>) -> Self {
        Self { request, body: response.into_body() }
    }

    /// The next piece, or nothing when the archive is whole. A daemon that fails half-way is an error.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        return Ok(Some(piece));
                    }
                }
                Some(Err(source)) => return Err(broken(self.request, source)),
                None => return Ok(None),
            }
        }
    }
}
