//! Frames from the guest to the network: each leaves in one system call, straight out of guest memory.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use virtio_queue::Queue;

use super::header::{self, HEADER_BYTES, MAX_FRAME_BYTES};
use super::statistics::NetworkStatistics;
use super::tap::Tap;
use crate::memory::GuestMemoryMmap;
use crate::virtio::Broken;
use crate::virtio::chain::{self, Chain};
use crate::virtio::guest_io::Vectors;

/// Then the other devices of the loop have their turn.
const MAX_FRAMES: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Transmitter {
    /// Kept for their room.
    chain: Chain,
    vectors: Vectors,
}

/// What came of looking at the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transmitted {
    /// Buffers came back.
    pub(super) any: bool,
    /// There may be more in the queue, of which nobody will tell.
    pub(super) more: bool,
}

impl Transmitter {
    /// # Errors
    /// Chains that are no frames, or an interface that is gone.
    pub(super) fn transmit(
        &mut self,
        queue: &mut Queue,
        memory: &GuestMemoryMmap,
        tap: Option<&Tap>,
        features: u64,
        statistics: &NetworkStatistics,
    ) -> Result<Transmitted, Broken> {
        chain::silence(queue, memory)?;
        for sent in 0..MAX_FRAMES {
            let found = chain::pop_into(&mut self.chain, queue, memory)?
                || chain::listen(queue, memory)? && chain::pop_into(&mut self.chain, queue, memory)?;
            if !found {
                return Ok(Transmitted { any: sent > 0, more: false });
            }
            self.send(memory, tap, features, statistics)?;
            chain::complete(queue, memory, &self.chain, 0)?;
        }
        Ok(Transmitted { any: true, more: true })
    }

    /// Sends the frame at hand. What the host cannot send now is dropped, as on any network, and without an interface
    /// everything is.
    fn send(
        &mut self,
        memory: &GuestMemoryMmap,
        tap: Option<&Tap>,
        features: u64,
        statistics: &NetworkStatistics,
    ) -> Result<(), Broken> {
        if self.chain.writable.len() > 0 {
            return Err(Broken("a frame to send with a part to be written".into()));
        }
        let mut header = [0; HEADER_BYTES];
        self.chain.readable.read(memory, &mut header)?;
        let frame_bytes = self.chain.readable.len() - HEADER_BYTES;
        let admitted = header::admit(&mut header, frame_bytes, features);
        let Some(tap) = tap.filter(|_| admitted) else {
            statistics.dropped_to_network.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        };
        debug_assert!(frame_bytes <= MAX_FRAME_BYTES, "longer ones were not admitted");
        let mut buffers = self.vectors.begin();
        buffers.push_own(&mut header);
        self.chain.readable.each_slice(memory, HEADER_BYTES, |slice| buffers.push(&slice))?;
        match buffers.write(tap.as_fd()) {
            Ok(_) => {
                statistics.to_network_frames.fetch_add(1, Ordering::Relaxed);
                statistics.to_network_bytes.fetch_add(frame_bytes as u64, Ordering::Relaxed);
            }
            Err(error) if super::is_gone(&error) => return Err(super::gone()),
            Err(_) => drop(statistics.dropped_to_network.fetch_add(1, Ordering::Relaxed)),
        }
        Ok(())
    }
}
