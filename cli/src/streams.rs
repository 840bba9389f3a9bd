//! What a container prints, from the daemon's bytes to this process's standard output and error.
//!
//! Without a terminal the daemon sends frames: one byte for the stream, three zeros, the length as 32 bits big-endian,
//! then that many bytes. A length is a promise of the daemon, never a size to allocate: payload passes through as it
//! comes.

use std::io;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

/// How much is read before it is written on; large enough that a system call costs nothing beside its bytes.
const CHUNK_BYTES: usize = 64 * 1024;
/// An error that the daemon sends inside the stream is cut here.
const MAX_ERROR_BYTES: usize = 4096;
const HEADER_BYTES: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// A terminal's bytes as they are.
    Raw,
    Multiplexed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channel {
    Stdout,
    Stderr,
    /// The daemon's own trouble with the stream.
    Error,
}

#[derive(Debug, Error)]
pub(crate) enum StreamError {
    #[error("the daemon's stream has a frame of unknown kind {0}")]
    UnknownChannel(u8),
    #[error("the daemon's stream ended inside a frame")]
    Truncated,
    #[error("error from daemon in stream: {0}")]
    Daemon(String),
    #[error("reading from the daemon: {0}")]
    Read(#[source] io::Error),
    #[error("writing output: {0}")]
    Write(#[source] io::Error),
}

/// Takes frames apart, whatever the pieces they come in.
#[derive(Debug, Default)]
struct Demultiplexer {
    header: [u8; HEADER_BYTES],
    header_length: usize,
    frame: Option<Channel>,
    /// Bytes of the frame still to come.
    remaining: usize,
}

impl Demultiplexer {
    /// The next piece of payload at the front of `input`, which moves past it. Nothing: `input` is used up.
    fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<(Channel, &'a [u8])>, StreamError> {
        loop {
            if let Some(channel) = self.frame {
                let length = self.remaining.min(input.len());
                let (payload, rest) = input.split_at(length);
                *input = rest;
                self.remaining -= length;
                if self.remaining == 0 {
                    self.frame = None;
                }
                if length > 0 {
                    return Ok(Some((channel, payload)));
                }
            }
            if input.is_empty() {
                return Ok(None);
            }
            self.read_header(input)?;
        }
    }

    fn read_header(&mut self, input: &mut &[u8]) -> Result<(), StreamError> {
        let length = (HEADER_BYTES - self.header_length).min(input.len());
        let (part, rest) = input.split_at(length);
        self.header[self.header_length..self.header_length + length].copy_from_slice(part);
        self.header_length += length;
        *input = rest;
        if self.header_length == HEADER_BYTES {
            let [kind, _, _, _, length @ ..] = self.header;
            self.header_length = 0;
            self.frame = Some(channel(kind)?);
            self.remaining = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        }
        Ok(())
    }

    fn is_between_frames(&self) -> bool {
        self.header_length == 0 && self.frame.is_none()
    }
}

fn channel(kind: u8) -> Result<Channel, StreamError> {
    match kind {
        // 0 is standard input, which a daemon may echo; it shows like output.
        0 | 1 => Ok(Channel::Stdout),
        2 => Ok(Channel::Stderr),
        3 => Ok(Channel::Error),
        unknown => Err(StreamError::UnknownChannel(unknown)),
    }
}

/// Where a container's output goes.
pub(crate) struct Output {
    sinks: Sinks,
    /// None for [`Framing::Raw`].
    demultiplexer: Option<Demultiplexer>,
    daemon_error: Vec<u8>,
}

impl Output {
    pub(crate) fn new(framing: Framing) -> Self {
        Self {
            sinks: Sinks { stdout: tokio::io::stdout(), stderr: tokio::io::stderr() },
            demultiplexer: (framing == Framing::Multiplexed).then(Demultiplexer::default),
            daemon_error: Vec::new(),
        }
    }

    /// Copies until the daemon closes its side. The next read waits for the last write: a slow reader of our output
    /// slows the container down instead of filling our memory.
    pub(crate) async fn copy_from(mut self, mut source: impl AsyncRead + Unpin) -> Result<(), StreamError> {
        let mut buffer = Vec::with_capacity(CHUNK_BYTES);
        loop {
            buffer.clear();
            if source.read_buf(&mut buffer).await.map_err(StreamError::Read)? == 0 {
                return self.finish();
            }
            self.write(&buffer).await?;
        }
    }

    /// Writes what a piece of the stream holds, and flushes.
    pub(crate) async fn write(&mut self, mut bytes: &[u8]) -> Result<(), StreamError> {
        let Some(demultiplexer) = &mut self.demultiplexer else {
            return self.sinks.write(Channel::Stdout, bytes).await;
        };
        // A log is a frame per line: neighbours of one stream are written together.
        let (mut joined, mut joined_channel) = (Vec::with_capacity(bytes.len()), Channel::Stdout);
        while let Some((channel, payload)) = demultiplexer.next(&mut bytes)? {
            if channel == Channel::Error {
                let room = MAX_ERROR_BYTES.saturating_sub(self.daemon_error.len());
                self.daemon_error.extend_from_slice(&payload[..payload.len().min(room)]);
                continue;
            }
            if channel != joined_channel {
                self.sinks.write(joined_channel, &joined).await?;
                joined.clear();
                joined_channel = channel;
            }
            joined.extend_from_slice(payload);
        }
        self.sinks.write(joined_channel, &joined).await
    }

    /// To be called at the end of the stream: tells a complete one from one that was cut.
    pub(crate) fn finish(self) -> Result<(), StreamError> {
        if !self.daemon_error.is_empty() {
            return Err(StreamError::Daemon(
                String::from_utf8_lossy(&self.daemon_error).trim_end().to_owned(),
            ));
        }
        match self.demultiplexer {
            Some(demultiplexer) if !demultiplexer.is_between_frames() => Err(StreamError::Truncated),
            _ => Ok(()),
        }
    }
}

struct Sinks {
    stdout: tokio::io::Stdout,
    stderr: tokio::io::Stderr,
}

impl Sinks {
    /// Flushes every time, so that standard output and error keep their order on a terminal they share.
    async fn write(&mut self, channel: Channel, bytes: &[u8]) -> Result<(), StreamError> {
        match channel {
            _ if bytes.is_empty() => Ok(()),
            Channel::Stdout => write_through(&mut self.stdout, bytes).await,
            Channel::Stderr | Channel::Error => write_through(&mut self.stderr, bytes).await,
        }
    }
}

async fn write_through(out: &mut (impl AsyncWriteExt + Unpin), bytes: &[u8]) -> Result<(), StreamError> {
    out.write_all(bytes).await.map_err(StreamError::Write)?;
    out.flush().await.map_err(StreamError::Write)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What came out on (stdout, stderr) when the stream arrived in pieces of `piece_bytes`.
    fn demultiplex(stream: &[u8], piece_bytes: usize) -> Result<(Vec<u8>, Vec<u8>, bool), StreamError> {
        let mut demultiplexer = Demultiplexer::default();
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        for mut piece in stream.chunks(piece_bytes) {
            while let Some((channel, payload)) = demultiplexer.next(&mut piece)? {
                match channel {
                    Channel::Stdout => stdout.extend_from_slice(payload),
                    Channel::Stderr | Channel::Error => stderr.extend_from_slice(payload),
                }
            }
        }
        Ok((stdout, stderr, demultiplexer.is_between_frames()))
    }

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind, 0, 0, 0];
        bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn frames_come_apart_whatever_the_pieces() {
        let stream = [frame(1, b"out"), frame(1, b""), frame(2, b"err"), frame(0, b"put")].concat();
        for piece_bytes in 1..=stream.len() {
            let (stdout, stderr, complete) = demultiplex(&stream, piece_bytes).unwrap();
            assert_eq!((stdout.as_slice(), stderr.as_slice(), complete), (&b"output"[..], &b"err"[..], true));
        }
    }

    #[test]
    fn a_hostile_length_allocates_nothing_and_is_seen_as_cut() {
        let stream = [1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, b'x'];
        let (stdout, _, complete) = demultiplex(&stream, 4).unwrap();
        assert_eq!((stdout.as_slice(), complete), (&b"x"[..], false));
    }

    #[test]
    fn a_header_that_is_cut_is_seen_as_cut() {
        assert!(!demultiplex(&[1, 0, 0], 3).unwrap().2);
    }

    #[test]
    fn an_unknown_kind_is_an_error() {
        let result = demultiplex(&frame(9, b"x"), 100);
        assert!(matches!(result, Err(StreamError::UnknownChannel(9))));
    }
}
