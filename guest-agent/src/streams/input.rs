//! The standard input of a process, from the host's connections into its pipe or terminal.
//!
//! The bytes come in chunks, and a chunk of no bytes ends the input. A connection that ends without one does not: the
//! daemon behind it may be restarting, and the next connection goes on where this one stopped.

use std::io;
use std::rc::Rc;

use berth_protocol::frame;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{Mutex, watch};
use tokio_vsock::VsockStream;

use super::stdio::Endpoint;
use crate::failure::Failure;

/// The most that is read at once.
const READ_BYTES: usize = 32 << 10;

/// Where the bytes go.
enum Sink {
    Pipe(Endpoint),
    /// Shared with the output side. It stays open when the host has no more to say: a terminal's end of input is typed.
    Terminal(Rc<Endpoint>),
    Closed,
}

impl Sink {
    fn endpoint(&self) -> Option<&Endpoint> {
        match self {
            Self::Pipe(endpoint) => Some(endpoint),
            Self::Terminal(endpoint) => Some(endpoint),
            Self::Closed => None,
        }
    }
}

/// Whose turn it is to write.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Connection(u64),
    /// The process has ended.
    Nobody,
}

/// One connection writes at a time; a newer one waits for what the older is writing, then takes over.
pub(crate) struct Input {
    sink: Mutex<Sink>,
    turn: watch::Sender<Turn>,
}

impl Input {
    pub(crate) fn pipe(endpoint: Endpoint) -> Self {
        Self::new(Sink::Pipe(endpoint))
    }

    pub(crate) fn terminal(master: Rc<Endpoint>) -> Self {
        Self::new(Sink::Terminal(master))
    }

    fn new(sink: Sink) -> Self {
        Self { sink: Mutex::new(sink), turn: watch::Sender::new(Turn::Connection(0)) }
    }

    /// Whether there is a process that may read.
    ///
    /// # Errors
    /// INVALID_REQUEST if the input has been closed.
    pub(crate) fn check_open(&self) -> Result<(), Failure> {
        let closed = self.sink.try_lock().is_ok_and(|sink| sink.endpoint().is_none());
        if closed || *self.turn.borrow() == Turn::Nobody {
            return Err(Failure::invalid("the process's stdin is closed"));
        }
        Ok(())
    }

    /// Serves a connection until it ends, a newer one takes over, or the process ends.
    pub(crate) async fn serve(&self, connection: VsockStream) {
        let Some(mine) = self.take_turn() else {
            return;
        };
        let mut sink = self.sink.lock().await;
        let ended = match sink.endpoint() {
            Some(endpoint) => self.copy(Chunks::new(connection), endpoint, mine).await,
            None => return,
        };
        if ended && matches!(*sink, Sink::Pipe(_)) {
            *sink = Sink::Closed;
        }
    }

    /// The process has ended: nobody reads any more.
    pub(crate) fn close(&self) {
        self.turn.send_replace(Turn::Nobody);
    }

    fn take_turn(&self) -> Option<Turn> {
        let mine = match *self.turn.borrow() {
            Turn::Connection(newest) => Turn::Connection(newest + 1),
            Turn::Nobody => return None,
        };
        self.turn.send_replace(mine);
        Some(mine)
    }

    /// True if the host has said that this was all.
    async fn copy(&self, mut chunks: Chunks<VsockStream>, endpoint: &Endpoint, mine: Turn) -> bool {
        let mut turn = self.turn.subscribe();
        loop {
            let bytes = tokio::select! {
                _ = turn.wait_for(|turn| *turn != mine) => return false,
                bytes = chunks.next() => bytes,
            };
            let bytes = match bytes {
                Ok([]) => return true,
                Ok(bytes) => bytes,
                Err(_) => return false,
            };
            let written = tokio::select! {
                _ = turn.wait_for(|turn| *turn == Turn::Nobody) => return false,
                written = endpoint.write_all(bytes) => written,
            };
            if written.is_err() {
                return false;
            }
        }
    }
}

/// The bytes of a connection that carries chunks: a 4-byte little-endian length, then as many bytes.
struct Chunks<C> {
    connection: C,
    left_in_chunk: usize,
    bytes: Vec<u8>,
}

impl<C: AsyncRead + Unpin> Chunks<C> {
    fn new(connection: C) -> Self {
        Self { connection, left_in_chunk: 0, bytes: vec![0; READ_BYTES] }
    }

    /// Some bytes of the input, or none for its end. Not more than a part of a chunk at a time.
    ///
    /// # Errors
    /// A connection that ends otherwise, or a chunk over the frame's limit.
    async fn next(&mut self) -> io::Result<&[u8]> {
        if self.left_in_chunk == 0 {
            let mut length = [0; frame::HEADER_BYTES];
            self.connection.read_exact(&mut length).await?;
            self.left_in_chunk = frame::payload_length(length).map_err(io::Error::other)?;
        }
        let wanted = self.left_in_chunk.min(READ_BYTES);
        if wanted == 0 {
            return Ok(&[]);
        }
        let length = self.connection.read(&mut self.bytes[..wanted]).await?;
        if length == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        self.left_in_chunk -= length;
        Ok(&self.bytes[..length])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> (Vec<u8>, io::Result<()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut chunks = Chunks::new(bytes);
        let mut input = Vec::new();
        loop {
            match runtime.block_on(chunks.next()) {
                Ok([]) => return (input, Ok(())),
                Ok(bytes) => input.extend_from_slice(bytes),
                Err(error) => return (input, Err(error)),
            }
        }
    }

    fn chunk(bytes: &[u8]) -> Vec<u8> {
        [&u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], bytes].concat()
    }

    #[test]
    fn an_empty_chunk_is_the_end() {
        let large = vec![7; 3 * READ_BYTES + 1];
        let (input, end) = all(&[chunk(b"ab"), chunk(&large), chunk(b"")].concat());
        assert_eq!(input, [b"ab", large.as_slice()].concat());
        assert!(end.is_ok());
    }

    #[test]
    fn a_connection_that_breaks_is_no_end_but_loses_nothing_that_came() {
        for broken in [chunk(b"abc"), chunk(b"abcdef")[..7].to_vec(), [chunk(b"abc"), vec![0, 0]].concat()] {
            let (input, end) = all(&broken);
            assert_eq!(input, b"abc", "{broken:?}");
            assert!(end.is_err(), "{broken:?}");
        }
    }

    #[test]
    fn a_chunk_over_the_limit_is_refused() {
        assert!(all(&u32::MAX.to_le_bytes()).1.is_err());
    }
}
