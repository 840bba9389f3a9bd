//! One output stream of a process: from its pipe or terminal into the buffer, from the buffer to the host.
//!
//! The reading goes on whether a host is connected or not, until the buffer is full; then the process waits. Of several
//! connections the newest is served and the older ones are closed.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio_vsock::{OwnedReadHalf, OwnedWriteHalf, VsockStream};

use super::buffer::OutputBuffer;
use super::stdio::Endpoint;
use crate::failure::Failure;

/// The most that is read or sent at once.
const CHUNK_BYTES: usize = 64 << 10;
const ACKNOWLEDGEMENT_BYTES: usize = 8;

#[derive(Default)]
struct State {
    buffer: OutputBuffer,
    /// Counts connections: the newest is the one that is served.
    connections: u64,
    /// The host has been told of the end, and has closed the connection after that.
    delivered: bool,
    /// The process is forgotten.
    closed: bool,
}

/// Shared by the task that reads from the process and the one that serves the host.
#[derive(Default)]
pub(crate) struct Output {
    state: RefCell<State>,
    changed: Notify,
}

impl Output {
    /// Fills the buffer from the process until it closes the stream.
    pub(crate) async fn pump(&self, source: &Endpoint) {
        while self.read_once(source).await {}
        self.change(|state| state.buffer.end());
    }

    /// Reads once there is room and something to read. False at the end.
    async fn read_once(&self, source: &Endpoint) -> bool {
        let has_room = |state: &State| match state.buffer.room() {
            _ if state.closed => Some(0),
            0 => None,
            room => Some(room),
        };
        let room = self.when(has_room).await;
        if room == 0 || source.readable().await.is_err() {
            return false;
        }
        // A terminal whose other side nobody has open any more answers EIO: that is its end.
        let chunk = source.read(room.min(CHUNK_BYTES)).await.unwrap_or_default();
        self.change(|state| state.buffer.append(&chunk));
        !chunk.is_empty()
    }

    /// Takes over as the connection that is served, from the offset the host asks for. The answer is where the bytes
    /// start.
    ///
    /// # Errors
    /// INVALID_REQUEST for an offset beyond the stream.
    pub(crate) fn connect(&self, wanted_offset: u64) -> Result<Turn, Failure> {
        let mut state = self.state.borrow_mut();
        state.buffer.acknowledge(wanted_offset).map_err(|error| Failure::invalid(error.to_string()))?;
        state.connections += 1;
        let turn = Turn { number: state.connections, offset: state.buffer.start_for(wanted_offset) };
        drop(state);
        self.changed.notify_waiters();
        Ok(turn)
    }

    /// Serves a connection until the host closes it, a newer one takes over, or the process is forgotten.
    pub(crate) async fn serve(&self, turn: Turn, connection: VsockStream) {
        let (acknowledgements, mut bytes) = connection.into_split();
        let superseded = self.when(|state| (state.closed || state.connections != turn.number).then_some(()));
        let sending = async {
            if self.send(&mut bytes, turn.offset).await.is_ok() {
                self.change(|state| state.delivered = true);
            }
            // The acknowledgements say when the connection is over.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = superseded => {}
            () = sending => {}
            _ = self.receive_acknowledgements(acknowledgements) => {}
        }
    }

    /// Sends everything up to the end of the stream, and then the end.
    async fn send(&self, connection: &mut OwnedWriteHalf, mut offset: u64) -> io::Result<()> {
        loop {
            let next = |state: &State| {
                let is_more = !state.buffer.from(offset, CHUNK_BYTES).is_empty();
                (is_more || state.buffer.has_ended()).then_some(is_more)
            };
            if !self.when(next).await {
                return connection.shutdown().await;
            }
            // Straight from the buffer: what is copied once less is most of what output costs a guest.
            let sent = poll_fn(|context| {
                let state = self.state.borrow();
                match state.buffer.from(offset, CHUNK_BYTES) {
                    [] => Poll::Ready(Ok(0)),
                    bytes => Pin::new(&mut *connection).poll_write(context, bytes),
                }
            });
            offset += sent.await? as u64;
        }
    }

    async fn receive_acknowledgements(&self, mut connection: OwnedReadHalf) -> io::Result<()> {
        let mut count = [0; ACKNOWLEDGEMENT_BYTES];
        loop {
            connection.read_exact(&mut count).await?;
            let acknowledged = u64::from_le_bytes(count);
            self.change(|state| state.buffer.acknowledge(acknowledged)).map_err(io::Error::other)?;
        }
    }

    /// Whether nobody needs this stream any more: a host had its end, and has acknowledged all of it.
    pub(crate) fn is_finished(&self) -> bool {
        let state = self.state.borrow();
        state.delivered && state.buffer.is_drained()
    }

    /// Ends its tasks; what is kept is lost.
    pub(crate) fn close(&self) {
        self.change(|state| state.closed = true);
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.borrow_mut());
        self.changed.notify_waiters();
        result
    }

    /// Waits until the state has an answer.
    async fn when<T>(&self, answer: impl Fn(&State) -> Option<T>) -> T {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(answer) = answer(&self.state.borrow()) {
                return answer;
            }
            changed.await;
        }
    }
}

/// The right to be served, until a newer connection asks for it.
pub(crate) struct Turn {
    number: u64,
    /// Where the bytes start.
    pub(crate) offset: u64,
}
