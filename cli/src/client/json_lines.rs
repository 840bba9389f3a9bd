//! Reads an answer that is one JSON object after the other (progress of load and pull, events).
//!
//! Docker separates the objects with a line feed; what an object means is its reader's affair.

use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::{ClientError, broken};

/// An object longer than this is a broken daemon.
const MAX_LINE_BYTES: usize = 1 << 20;

pub(crate) struct JsonLines {
    request: &'static str,
    body: Incoming,
    buffer: BytesMut,
    ended: bool,
}

impl JsonLines {
    pub(super) fn new(request: &'static str, response: Response<Incoming>) -> Self {
        Self { request, body: response.into_body(), buffer: BytesMut::new(), ended: false }
    }

    /// The next object, or nothing when the daemon has said everything.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(line) = take_line(&mut self.buffer, self.ended) {
                return serde_json::from_slice(&line).map(Some).map_err(|reason| self.nonsense(&reason));
            }
            if self.ended {
                return Ok(None);
            }
            if self.buffer.len() > MAX_LINE_BYTES {
                return Err(self.nonsense(&format!("a line longer than {MAX_LINE_BYTES} bytes")));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.buffer.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
                Some(Err(source)) => return Err(broken(self.request, source)),
                None => self.ended = true,
            }
        }
    }

    fn nonsense(&self, reason: &dyn std::fmt::Display) -> ClientError {
        ClientError::Nonsense { request: self.request.to_owned(), reason: reason.to_string() }
    }
}

/// Cuts the first line that is not blank off the buffer; at the end of the stream the rest is a line too.
fn take_line(buffer: &mut BytesMut, ended: bool) -> Option<BytesMut> {
    while buffer.first().is_some_and(u8::is_ascii_whitespace) {
        buffer.advance(1);
    }
    match buffer.iter().position(|byte| *byte == b'\n') {
        Some(end) => Some(buffer.split_to(end)),
        None if ended && !buffer.is_empty() => Some(buffer.split()),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_one_by_one_and_the_last_needs_no_line_feed() {
        let mut buffer = BytesMut::from("\r\n{\"a\":1}\r\n\n{\"b\"".as_bytes());
        assert_eq!(take_line(&mut buffer, false).unwrap(), "{\"a\":1}\r");
        assert_eq!(take_line(&mut buffer, false), None);
        buffer.extend_from_slice(b":2}");
        assert_eq!(take_line(&mut buffer, false), None);
        assert_eq!(take_line(&mut buffer, true).unwrap(), "{\"b\":2}");
        assert_eq!(take_line(&mut buffer, true), None);
    }
}
