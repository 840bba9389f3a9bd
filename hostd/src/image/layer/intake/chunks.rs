//! Chunks of a stream on their way from thread to thread.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Mutex, PoisonError};

use super::super::unpack::PlainSource;
use super::Stop;

/// Large enough that handing one on costs nothing beside filling it, small enough for the processor's cache.
const CHUNK_BYTES: usize = 256 << 10;

/// Some bytes of a stream; none at its proper end.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    buffer: Vec<u8>,
    length: usize,
    /// How far the blob was when they were made.
    pub(super) blob_bytes: u64,
}

impl Chunk {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }

    pub(super) fn is_end(&self) -> bool {
        self.length == 0
    }
}

/// Buffers that are not in use: as many as were ever under way at once.
#[derive(Debug, Default)]
pub(super) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    /// Reads up to a whole chunk; less only at the end of the source.
    pub(super) fn fill(&self, source: &mut impl Read) -> io::Result<Chunk> {
        let unused = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer = unused.unwrap_or_else(|| vec![0; CHUNK_BYTES]);
        let mut length = 0;
        while length < buffer.len() {
            match source.read(&mut buffer[length..]) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Chunk { buffer, length, blob_bytes: 0 })
    }

    pub(super) fn give_back(&self, chunk: Chunk) {
        if !chunk.buffer.is_empty() {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(chunk.buffer);
        }
    }
}

pub(super) fn send(target: &SyncSender<Chunk>, chunk: Chunk) -> Result<(), Stop> {
    target.send(chunk).map_err(|_| Stop::Unwanted)
}

/// The receiving end, as a stream; `seen` is told of each chunk as it comes.
pub(super) struct ChunkReader<'a, F> {
    chunks: Receiver<Chunk>,
    buffers: &'a Buffers,
    current: Chunk,
    taken: usize,
    ended: bool,
    seen: F,
}

impl<'a, F: FnMut(&Chunk)> ChunkReader<'a, F> {
    pub(super) fn new(chunks: Receiver<Chunk>, buffers: &'a Buffers, seen: F) -> Self {
        Self { chunks, buffers, current: Chunk::default(), taken: 0, ended: false, seen }
    }

    fn receive(&mut self) -> io::Result<()> {
        // Whoever fails says so elsewhere; here its stream just breaks off.
        let next = self.chunks.recv().map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        self.buffers.give_back(std::mem::replace(&mut self.current, next));
        self.taken = 0;
        self.ended = self.current.is_end();
        (self.seen)(&self.current);
        Ok(())
    }
}

impl<F: FnMut(&Chunk)> PlainSource for ChunkReader<'_, F> {
    fn blob_bytes(&self) -> u64 {
        self.current.blob_bytes
    }
}

impl<F: FnMut(&Chunk)> BufRead for ChunkReader<'_, F> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.taken == self.current.length && !self.ended {
            self.receive()?;
        }
        Ok(&self.current.bytes()[self.taken..])
    }

    fn consume(&mut self, count: usize) {
        self.taken = self.current.length.min(self.taken + count);
    }
}

impl<F: FnMut(&Chunk)> Read for ChunkReader<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}
