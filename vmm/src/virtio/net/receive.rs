//! Frames from the network to the guest: read straight into the buffers that the driver offered.
//!
//! How long a frame is shows when it has been read. So a read is given buffers for a frame like the last one, and
//! behind them memory of our own for what does not fit; more buffers of the guest are then filled from there. A frame
//! that waits for buffers waits here, the others in the interface's queue, which drops when it is full. Frames of a network
//! stack are in our own memory anyway, and are copied from there.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use virtio_queue::{Queue, QueueT};

use super::gateway::Gone;
use super::header::{BUFFER_COUNT, HEADER_BYTES, MAX_FRAME_BYTES};
use super::host_end::HostEnd;
use super::rate::Limit;
use super::statistics::NetworkStatistics;
use crate::memory::GuestMemoryMmap;
use crate::virtio::Broken;
use crate::virtio::chain::{self, Chain};
use crate::virtio::guest_io::Vectors;

/// Then the other devices of the loop have their turn; what is left is found again at once.
const MAX_FRAMES: usize = 64;
/// A header and the longest frame.
const MAX_BYTES: usize = HEADER_BYTES + MAX_FRAME_BYTES;
/// Reads are given buffers for this much at least: a header and a frame of an ordinary network.
const USUAL_BYTES: usize = 2048;
/// What one system call takes (IOV_MAX).
const MAX_VECTORS: usize = 1024;
/// The most buffers for one frame. A driver whose buffers are so small that this is too few loses long frames.
const MAX_BUFFERS: usize = 256;

#[derive(Debug)]
pub(super) struct Receiver {
    /// Taken from the queue and not filled yet, in order, and how many bytes they are.
    buffers: VecDeque<Chain>,
    room: usize,
    /// Filled ones, kept for their room.
    spare: Vec<Chain>,
    vectors: Vectors,
    /// What of a frame went beyond the buffers.
    overflow: Vec<u8>,
    /// The frame that waits for buffers.
    waiting: Option<Waiting>,
    expected_bytes: usize,
    /// Frames may have several buffers each.
    mergeable: bool,
}

/// A frame, with its header: the first bytes are in the guest's buffers already, the others in `overflow`.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    length: usize,
    placed: usize,
}

/// Why receiving stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// There are no buffers: the driver will tell when there are.
    NoBuffers,
    /// There are no frames: the end on the host is readable when there are.
    NoFrames,
    /// The rate is used up for so long.
    Limited(Duration),
    /// The network stack is no more.
    Gone,
    /// Enough for now, there may be more.
    Turn,
}

impl Receiver {
    pub(super) fn new() -> Self {
        Self {
            buffers: VecDeque::new(),
            room: 0,
            spare: Vec::new(),
            vectors: Vectors::default(),
            overflow: Vec::new(),
            waiting: None,
            expected_bytes: USUAL_BYTES,
            mergeable: false,
        }
    }

    pub(super) fn activate(&mut self, mergeable: bool) {
        self.mergeable = mergeable;
        self.overflow.resize(MAX_BYTES, 0);
    }

    pub(super) fn reset(&mut self) {
        *self = Self::new();
    }

    /// Puts buffers back into their queue; a frame that waits is lost.
    pub(super) fn give_back(&mut self, queue: &mut Queue, statistics: &NetworkStatistics) {
        self.buffers.iter().for_each(|_| chain::unpop(queue));
        self.spare.extend(self.buffers.drain(..));
        self.room = 0;
        self.forget_frame(statistics);
    }

    /// A frame that waits is not delivered any more.
    pub(super) fn forget_frame(&mut self, statistics: &NetworkStatistics) {
        if self.waiting.take().is_some() {
            statistics.dropped_to_guest.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Moves frames until one side has no more. Says whether buffers were filled, and whether by several for a frame.
    ///
    /// # Errors
    /// Buffers that cannot hold a frame, or an interface that is gone.
    pub(super) fn receive(
        &mut self,
        queue: &mut Queue,
        memory: &GuestMemoryMmap,
        end: &mut HostEnd,
        limit: &mut Limit,
        statistics: &NetworkStatistics,
    ) -> Result<Pause, Broken> {
        for _ in 0..MAX_FRAMES {
            if self.waiting.is_none() {
                if let Some(wait) = limit.wait() {
                    return Ok(Pause::Limited(wait));
                }
                self.gather(self.expected_bytes, queue, memory)?;
                if self.buffers.is_empty() {
                    return Ok(Pause::NoBuffers);
                }
                self.waiting = match end {
                    HostEnd::Tap(tap) => self.read(memory, tap.as_fd())?,
                    HostEnd::Gateway(gateway) => match gateway.receive(&mut self.overflow) {
                        Ok(length) => length.map(|length| Waiting { length, placed: 0 }),
                        Err(Gone) => return Ok(Pause::Gone),
                    },
                };
            }
            let Some(frame) = self.waiting else { return Ok(Pause::NoFrames) };
            self.gather(frame.length, queue, memory)?;
            if frame.length <= self.room {
                self.place_rest(frame, memory)?;
                self.deliver(frame.length, queue, memory)?;
                statistics.to_guest_frames.fetch_add(1, Ordering::Relaxed);
                let bytes = frame.length - HEADER_BYTES;
                limit.take(bytes);
                statistics.to_guest_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            } else if self.is_hopeless(queue) {
                statistics.dropped_to_guest.fetch_add(1, Ordering::Relaxed);
            } else {
                return Ok(Pause::NoBuffers);
            }
            self.waiting = None;
            self.expected_bytes = frame.length.max(USUAL_BYTES);
        }
        Ok(Pause::Turn)
    }

    /// No number of further buffers would make room for the frame at hand.
    fn is_hopeless(&self, queue: &Queue) -> bool {
        !self.mergeable || self.buffers.len() >= MAX_BUFFERS.min(queue.size().into())
    }

    /// Takes buffers from the queue until they have room for `bytes`, or there are no more.
    fn gather(&mut self, bytes: usize, queue: &mut Queue, memory: &GuestMemoryMmap) -> Result<(), Broken> {
        let most = if self.mergeable { MAX_BUFFERS } else { 1 };
        while self.room < bytes && self.buffers.len() < most {
            let mut chain = self.spare.pop().unwrap_or_default();
            let found = chain::pop_into(&mut chain, queue, memory)?
                || chain::listen(queue, memory)? && chain::pop_into(&mut chain, queue, memory)?;
            if !found {
                self.spare.push(chain);
                return Ok(());
            }
            if chain.readable.len() > 0 || chain.writable.len() < HEADER_BYTES {
                return Err(Broken(
                    "a buffer for frames that cannot hold a header, or is not all to be written".into(),
                ));
            }
            self.room += chain.writable.len();
            self.buffers.push_back(chain);
        }
        Ok(())
    }

    /// Reads a frame of an interface into the buffers at hand.
    fn read(&mut self, memory: &GuestMemoryMmap, tap: BorrowedFd<'_>) -> Result<Option<Waiting>, Broken> {
        let mut list = self.vectors.begin();
        let mut room = 0;
        for chain in &self.buffers {
            if list.len() + chain::MAX_SEGMENTS >= MAX_VECTORS {
                break;
            }
            room += chain.writable.len();
            chain.writable.each_slice(memory, 0, |slice| list.push(&slice))?;
        }
        list.push_own(&mut self.overflow);
        match list.read(tap) {
            Ok(length) if length < HEADER_BYTES => Err(super::gone()),
            Ok(length) => Ok(Some(Waiting { length, placed: length.min(room) })),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(error) if super::is_gone(&error) => Err(super::gone()),
            Err(error) => Err(Broken(format!("its TAP interface cannot be read: {error}"))),
        }
    }

    /// Copies what went beyond the buffers of the read into those that were gathered since.
    fn place_rest(&self, frame: Waiting, memory: &GuestMemoryMmap) -> Result<(), Broken> {
        let mut rest = &self.overflow[..frame.length - frame.placed];
        let mut skip = frame.placed;
        for chain in &self.buffers {
            let length = chain.writable.len();
            let start = skip.min(length);
            skip -= start;
            let part = rest.len().min(length - start);
            chain.writable.write_at(memory, start, &rest[..part])?;
            rest = &rest[part..];
        }
        Ok(())
    }

    /// Hands the driver the buffers that the frame fills.
    fn deliver(&mut self, length: usize, queue: &mut Queue, memory: &GuestMemoryMmap) -> Result<(), Broken> {
        let mut left = length;
        let filled = self.buffers.iter().take_while(|chain| {
            let begun = left > 0;
            left = left.saturating_sub(chain.writable.len());
            begun
        });
        let count = filled.count();
        let number = u16::try_from(count).expect("at most MAX_BUFFERS").to_le_bytes();
        self.buffers[0].writable.write_at(memory, BUFFER_COUNT, &number)?;
        left = length;
        let written = self.buffers.iter().take(count).map(|chain| {
            let part = left.min(chain.writable.len());
            left -= part;
            (chain, part)
        });
        chain::complete_together(queue, memory, written)?;
        for chain in self.buffers.drain(..count) {
            self.room -= chain.writable.len();
            self.spare.push(chain);
        }
        Ok(())
    }

    /// The used index, to tell what a call to [`Self::receive`] did.
    pub(super) fn used(queue: &Queue) -> u16 {
        queue.next_used()
    }
}
