//! The file system device (virtio 1.2, section 5.11): a host directory in the guest, served by another process.
//!
//! ```text
//!   driver ── queues in shared memory ── server          what is asked for, and the files' bytes
//!   driver ── notification by KVM ─────> server          ioeventfd: past this process
//!   driver <─ interrupt by KVM ───────── server          irqfd: past this process
//!             [Share] ── vhost-user ───> server          where all that is, when a driver starts or stops
//! ```
//!
//! Nothing here reads a queue. When the server goes away or says nonsense, the device needs a reset, and the guest
//! goes on without it; see docs/decisions for what shares cost the rest of the machine.

mod server;
#[cfg(test)]
pub(crate) mod tests;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryRegion};
use vmm_sys_util::eventfd::EventFd;

use self::server::{Request, Server, ServerError};
use super::{Broken, DeviceKind, DeviceState, StateError, UsedQueues, VirtioDevice, Wires, copy_config};
use crate::config::MAX_SHARE_TAG_BYTES;
use crate::host_files::HOST_FILES;
use crate::memory::GuestMemoryMmap;

/// One for urgent requests, one for the others.
const QUEUE_SIZES: &[u16] = &[128, 512];
const REQUEST_QUEUES: u32 = 1;

const CONFIG_BYTES: usize = MAX_SHARE_TAG_BYTES + 4;

/// Bits of vhost-user: the server has features of the protocol, and this one says how many queues there may be.
const PROTOCOL_FEATURES: u64 = 1 << 30;
const QUEUE_COUNT: u64 = 1 << 0;

/// Why a share cannot be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShareError {
    #[error("nobody serves it at {socket}")]
    Connect { socket: String, source: io::Error },
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error("its server is too old: it lacks {0}")]
    Lacks(&'static str),
}

/// The device's end of a share.
#[derive(Debug)]
pub(crate) struct Share {
    /// `None` once it has failed.
    server: Option<Server>,
    /// The server's, of virtio and of vhost-user.
    offered: u64,
    negotiated: u64,
    config: [u8; CONFIG_BYTES],
    /// Which queues the server has.
    running: Vec<u32>,
}

impl Share {
    /// Connects to the server at `socket`, and learns what it can.
    ///
    /// # Errors
    /// Nobody is there, or not one who speaks the protocol.
    pub(crate) fn connect(tag: &str, socket: &Path) -> Result<Self, ShareError> {
        Self::greet(tag, Server::over(connect(socket)?).map_err(ServerError::from)?)
    }

    /// With a server that is connected already, for fuzzing.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn over(tag: &str, connection: UnixStream) -> Result<Self, ShareError> {
        Self::greet(tag, Server::over(connection).map_err(ServerError::from)?)
    }

    fn greet(tag: &str, server: Server) -> Result<Self, ShareError> {
        server.tell(Request::SetOwner, &[], &[])?;
        let offered = server.ask(Request::GetFeatures, &[])?;
        if offered >> VIRTIO_F_VERSION_1 & 1 == 0 {
            return Err(ShareError::Lacks("version 1 of virtio"));
        }
        if offered & PROTOCOL_FEATURES == 0 {
            return Err(ShareError::Lacks("features of the vhost-user protocol"));
        }
        let known = server.ask(Request::GetProtocolFeatures, &[])? & QUEUE_COUNT;
        server.tell(Request::SetProtocolFeatures, &known.to_le_bytes(), &[])?;
        if known != 0 && server.ask(Request::GetQueueCount, &[])? < QUEUE_SIZES.len() as u64 {
            return Err(ShareError::Lacks("a queue for requests"));
        }
        let config = config_space(tag);
        Ok(Self { server: Some(server), offered, negotiated: 0, config, running: Vec::new() })
    }

    fn start(&mut self, wires: &Wires<'_>) -> Result<(), ServerError> {
        let server = self.server.as_ref().ok_or(ServerError::Gone)?;
        let features = self.negotiated & self.offered | PROTOCOL_FEATURES;
        server.tell(Request::SetFeatures, &features.to_le_bytes(), &[])?;
        share_memory(server, wires.memory)?;
        for (index, (queue, kick)) in (0..).zip(wires.queues.iter().zip(wires.kicks)) {
            if queue.ready() {
                start_ring(server, index, queue, wires, kick)?;
                self.running.push(index);
            }
        }
        // The last question also shows that it has understood the rest.
        server.ask(Request::GetFeatures, &[]).map(drop)
    }

    /// The server lets go of the queues; what it has begun, it finishes first.
    fn stop(&mut self) -> Result<(), ServerError> {
        let server = self.server.as_ref().ok_or(ServerError::Gone)?;
        for index in self.running.drain(..) {
            server.tell(Request::SetRingEnable, &pair(index, 0), &[])?;
            server.ask(Request::GetRingBase, &pair(index, 0))?;
        }
        Ok(())
    }

    /// Without its connection the server has no business with the guest's memory.
    fn hang_up(&mut self) {
        self.server = None;
        self.running.clear();
    }
}

/// A connection to the server at `socket`, on which nothing was said yet.
///
/// # Errors
/// Nobody is there.
pub(crate) fn connect(socket: &Path) -> Result<UnixStream, ShareError> {
    let failed = |source| ShareError::Connect { socket: socket.display().to_string(), source };
    HOST_FILES.connect(socket).map_err(failed)
}

fn config_space(tag: &str) -> [u8; CONFIG_BYTES] {
    let mut config = [0; CONFIG_BYTES];
    for (place, byte) in config[..MAX_SHARE_TAG_BYTES].iter_mut().zip(tag.bytes()) {
        *place = byte;
    }
    config[MAX_SHARE_TAG_BYTES..].copy_from_slice(&REQUEST_QUEUES.to_le_bytes());
    config
}

fn pair(first: u32, second: u32) -> [u8; 8] {
    (u64::from(first) | u64::from(second) << 32).to_le_bytes()
}

/// Gives the server all of the guest's memory.
fn share_memory(server: &Server, memory: &GuestMemoryMmap) -> Result<(), ServerError> {
    let count = u32::try_from(memory.num_regions()).expect("a machine has two ranges of memory at most");
    let mut body = pair(count, 0).to_vec();
    let mut files = Vec::new();
    for region in memory.iter() {
        let file = region.file_offset().ok_or_else(|| io::Error::other("guest memory is not shareable"))?;
        let host = region.as_ptr().addr() as u64;
        for field in [region.start_addr().0, region.len(), host, file.start()] {
            body.extend(field.to_le_bytes());
        }
        files.push(file.file().as_raw_fd());
    }
    server.tell(Request::SetMemoryTable, &body, &files)
}

/// Where a ring is, and how it is notified.
fn start_ring(
    server: &Server,
    index: u32,
    queue: &Queue,
    wires: &Wires<'_>,
    kick: &EventFd,
) -> Result<(), ServerError> {
    // By this process's addresses, which the table of memory translates for the server.
    let host = |address| {
        let host = wires.memory.get_host_address(GuestAddress(address)).map_err(io::Error::other)?;
        Ok::<_, io::Error>((host.addr() as u64).to_le_bytes())
    };
    let no_flags = 0;
    let address = [
        pair(index, no_flags),
        host(queue.desc_table())?,
        host(queue.used_ring())?,
        host(queue.avail_ring())?,
        [0; 8],
    ];
    server.tell(Request::SetRingSize, &pair(index, queue.size().into()), &[])?;
    server.tell(Request::SetRingBase, &pair(index, 0), &[])?;
    server.tell(Request::SetRingAddress, address.as_flattened(), &[])?;
    let number = u64::from(index).to_le_bytes();
    server.tell(Request::SetRingCall, &number, &[wires.call.as_raw_fd()])?;
    server.tell(Request::SetRingKick, &number, &[kick.as_raw_fd()])?;
    server.tell(Request::SetRingEnable, &pair(index, 1), &[])
}

impl VirtioDevice for Share {
    fn kind(&self) -> DeviceKind {
        DeviceKind::FileSystem
    }

    fn queue_sizes(&self) -> &'static [u16] {
        QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        0
    }

    fn ring_features(&self) -> u64 {
        self.offered & (1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC)
    }

    fn is_served_elsewhere(&self) -> bool {
        true
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        copy_config(&self.config, offset, data);
    }

    fn activate(&mut self, features: u64) {
        self.negotiated = features;
    }

    fn hand_over(&mut self, wires: &Wires<'_>) -> Result<(), Broken> {
        self.start(wires).map_err(|error| {
            self.hang_up();
            Broken(error.to_string())
        })
    }

    fn reset(&mut self) {
        self.negotiated = 0;
        // Whoever does not let go is let go; the next driver hears that nobody is there.
        if self.stop().is_err() {
            self.hang_up();
        }
    }

    fn queue_event(
        &mut self,
        _index: usize,
        _memory: &GuestMemoryMmap,
        _queues: &mut [&mut Queue],
    ) -> Result<UsedQueues, Broken> {
        Ok(UsedQueues::NONE)
    }

    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        self.server.as_ref().map(Server::as_fd)
    }

    fn host_event(
        &mut self,
        _memory: &GuestMemoryMmap,
        _queues: &mut [&mut Queue],
    ) -> Result<UsedQueues, Broken> {
        match self.server.as_ref().and_then(Server::interruption) {
            None => Ok(UsedQueues::NONE),
            Some(reason) => {
                self.hang_up();
                Err(Broken(reason.into()))
            }
        }
    }

    /// The server's part of the state is its own, and so are its open files.
    fn save(&self) -> Result<DeviceState, StateError> {
        Err(StateError::NotSavable("a machine with shares"))
    }

    fn restore(&mut self, _state: &DeviceState) -> Result<(), StateError> {
        Err(StateError::NotSavable("a machine with shares"))
    }
}
