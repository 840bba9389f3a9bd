//! An archive as the body of an answer: written by a thread that blocks, at its reader's pace.

use std::io::{self, Write};

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tokio::sync::mpsc;

/// Pieces that wait for a slow client; more, and the writer waits.
const WAITING_PIECES: usize = 4;
const PIECE_BYTES: usize = 256 << 10;

/// Answers with what `write` writes. When it fails, or panics, the body ends as broken, not as complete.
pub(in crate::api) fn download(
    write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
) -> Response {
    let (sender, pieces) = mpsc::channel(WAITING_PIECES);
    tokio::task::spawn_blocking(move || {
        let mut body = BodyWriter { sender, waiting: BytesMut::with_capacity(PIECE_BYTES) };
        let written = write(&mut body).and_then(|()| body.flush());
        let end = match written {
            Ok(()) => Piece::End,
            Err(error) => {
                tracing::warn!(%error, "an archive was not sent to its end");
                Piece::Failed(error)
            }
        };
        // A client that is gone misses nothing.
        body.sender.blocking_send(end).unwrap_or_default();
    });
    let body = Body::from_stream(stream::unfold(Some(pieces), next));
    ([(header::CONTENT_TYPE, "application/x-tar")], body).into_response()
}

#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    End,
    Failed(io::Error),
}

type Pieces = Option<mpsc::Receiver<Piece>>;

async fn next(pieces: Pieces) -> Option<(io::Result<Bytes>, Pieces)> {
    let mut pieces = pieces?;
    match pieces.recv().await {
        Some(Piece::Bytes(bytes)) => Some((Ok(bytes), Some(pieces))),
        Some(Piece::End) => None,
        Some(Piece::Failed(error)) => Some((Err(error), None)),
        // The writer panicked.
        None => Some((Err(io::ErrorKind::UnexpectedEof.into()), None)),
    }
}

struct BodyWriter {
    sender: mpsc::Sender<Piece>,
    waiting: BytesMut,
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let piece = Piece::Bytes(self.waiting.split().freeze());
        self.sender.blocking_send(piece).map_err(|_gone| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn what_is_written_arrives_and_a_failure_breaks_the_body() {
        let whole = download(|target| (0..3).try_for_each(|_| target.write_all(&[7; PIECE_BYTES - 1])));
        let bytes = whole.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(bytes.len(), 3 * (PIECE_BYTES - 1));
        let broken = download(|target| {
            target.write_all(b"half")?;
            Err(io::Error::other("a file is gone"))
        });
        assert!(broken.into_body().collect().await.is_err());
        let panicked = download(|_| panic!("for the test"));
        assert!(panicked.into_body().collect().await.is_err());
    }

    #[tokio::test]
    async fn a_client_that_goes_away_ends_the_writing() {
        let (ended, end) = tokio::sync::oneshot::channel();
        let response = download(move |target| {
            let result = loop {
                if let Err(error) = target.write_all(&[0; PIECE_BYTES]) {
                    break Err(error);
                }
            };
            ended.send(()).unwrap();
            result
        });
        drop(response);
        end.await.unwrap();
    }
}
