//! Frames from the guest to the network: to an interface each leaves in one system call, straight out of guest memory; to a
//! network stack many at once, out of a copy that was looked at.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use virtio_queue::Queue;

use super::header::{self, HEADER_BYTES, MAX_FRAME_BYTES};
use super::host_end::HostEnd;
use super::rate::Limit;
use super::statistics::NetworkStatistics;
use crate::memory::GuestMemoryMmap;
use crate::virtio::Broken;
use crate::virtio::chain::{self, Chain};
use crate::virtio::guest_io::Vectors;

/// Then the other devices of the loop have their turn.
const MAX_FRAMES: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Transmitter {
    negotiated: u64,
    /// Kept for their room.
    chain: Chain,
    vectors: Vectors,
}

/// What came of looking at the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transmitted {
    /// Buffers came back.
    pub(super) any: bool,
    pub(super) next: Next,
}

/// When to look at the queue again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The driver tells of more, or the end on the host of room.
    Told,
    /// There may be more, of which nobody will tell.
    Look,
    /// The rate is used up for so long.
    After(Duration),
}

impl Transmitter {
    pub(super) fn activate(&mut self, negotiated: u64) {
        self.negotiated = negotiated;
    }

    /// # Errors
    /// Chains that are no frames, or an interface that is gone.
    pub(super) fn transmit(
        &mut self,
        queue: &mut Queue,
        memory: &GuestMemoryMmap,
        mut end: Option<&mut HostEnd>,
        limit: &mut Limit,
        statistics: &NetworkStatistics,
    ) -> Result<Transmitted, Broken> {
        chain::silence(queue, memory)?;
        for sent in 0..MAX_FRAMES {
            let any = sent > 0;
            if let Some(wait) = limit.wait() {
                return Ok(Transmitted { any, next: Next::After(wait) });
            }
            // Whether the other end is full or gone, its descriptor will say.
            if end.as_mut().is_some_and(|end| !end.has_room().unwrap_or(false)) {
                return Ok(Transmitted { any, next: Next::Told });
            }
            let found = chain::pop_into(&mut self.chain, queue, memory)?
                || chain::listen(queue, memory)? && chain::pop_into(&mut self.chain, queue, memory)?;
            if !found {
                return Ok(Transmitted { any, next: Next::Told });
            }
            match self.send(memory, end.as_deref_mut())? {
                Some(frame_bytes) => {
                    limit.take(frame_bytes);
                    statistics.to_network_frames.fetch_add(1, Ordering::Relaxed);
                    statistics.to_network_bytes.fetch_add(frame_bytes as u64, Ordering::Relaxed);
                }
                None => drop(statistics.dropped_to_network.fetch_add(1, Ordering::Relaxed)),
            }
            chain::complete(queue, memory, &self.chain, 0)?;
        }
        Ok(Transmitted { any: true, next: Next::Look })
    }

    /// Sends the frame at hand, and says how long it was. What the host cannot send now is dropped, as on any network, and
    /// without an end on the host everything is.
    fn send(&mut self, memory: &GuestMemoryMmap, end: Option<&mut HostEnd>) -> Result<Option<usize>, Broken> {
        if self.chain.writable.len() > 0 {
            return Err(Broken("a frame to send with a part to be written".into()));
        }
        let mut header = [0; HEADER_BYTES];
        self.chain.readable.read(memory, &mut header)?;
        let frame_bytes = self.chain.readable.len() - HEADER_BYTES;
        let admitted = header::admit(&mut header, frame_bytes, self.negotiated);
        let Some(end) = end.filter(|_| admitted) else { return Ok(None) };
        debug_assert!(frame_bytes <= MAX_FRAME_BYTES, "longer ones were not admitted");
        let is_sent = match end {
            HostEnd::Gateway(gateway) => gateway.send(frame_bytes, |frame| {
                let mut copied = 0;
                self.chain.readable.each_slice(memory, HEADER_BYTES, |slice| {
                    copied += slice.copy_to(&mut frame[copied..]);
                })
            })?,
            HostEnd::Tap(tap) => {
                let mut buffers = self.vectors.begin();
                buffers.push_own(&mut header);
                self.chain.readable.each_slice(memory, HEADER_BYTES, |slice| buffers.push(&slice))?;
                match buffers.write(tap.as_fd()) {
                    Ok(_) => true,
                    Err(error) if super::is_gone(&error) => return Err(super::gone()),
                    Err(_) => false,
                }
            }
        };
        Ok(is_sent.then_some(frame_bytes))
    }
}
