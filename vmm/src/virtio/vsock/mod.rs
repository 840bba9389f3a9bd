//! The socket device (virtio 1.2, section 5.10): stream connections between the guest and unix sockets of the host.
//!
//! The host connects to one socket and names a port; the guest's connections go to `<socket>_<port>`. Data moves by
//! one system call straight between guest memory and sockets. A guest only ever reaches sockets of that name.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use virtio_queue::{Queue, QueueT};

use self::host_socket::Received;
use self::packet::{HEADER_BYTES, Header, Operation};
use self::poller::Token;
use self::switchboard::{Switchboard, Turn};
use super::chain::{self, Chain};
use super::{Broken, DeviceKind, DeviceState, StateError, UsedQueues, VirtioDevice, copy_config, state};
use crate::memory::GuestMemoryMmap;

mod connection;
mod host_socket;
#[cfg(test)]
mod hostile_tests;
mod packet;
mod poller;
#[cfg(test)]
mod snapshot_tests;
mod switchboard;
#[cfg(test)]
mod tests;

pub(crate) use self::switchboard::VsockStatistics;

const QUEUE_SIZE: u16 = 128;
const RECEIVE_QUEUE: usize = 0;
const TRANSMIT_QUEUE: usize = 1;
const EVENT_QUEUE: usize = 2;
/// VIRTIO_VSOCK_EVENT_TRANSPORT_RESET (section 5.10.6.7): all connections are gone, the context id may have changed.
const TRANSPORT_RESET: u32 = 0;
/// Packets taken from the guest, and turns given to connections, before the other direction has its go.
const PACKETS_IN_A_ROW: usize = 32;
/// Goes of both directions before the event loop has its own.
const ROUNDS: usize = 8;
/// One turn of a connection: this many bytes, in this many receive buffers, at most. Drivers offer buffers of 4 KiB.
const TURN_BYTES: usize = 64 << 10;
const TURN_CHAINS: usize = 18;

/// The device.
#[derive(Debug)]
pub(crate) struct Vsock {
    switchboard: Switchboard,
    guest_cid: u32,
    news: News,
}

/// What a guest that goes on from a snapshot knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Known,
    /// It has offered no buffer to be told in.
    Owed,
    /// It has been told, and had offered event buffers up to this index. Until it offers the next, it may not have read
    /// its new context id, and would lose a new connection with the old ones: nothing is given to it.
    Told {
        offered: u16,
    },
}

impl Vsock {
    /// Listens on `path` for the host.
    ///
    /// # Errors
    /// The socket cannot be bound.
    pub(crate) fn listen(path: PathBuf, guest_cid: u32) -> io::Result<Self> {
        Ok(Self { switchboard: Switchboard::listen(path, guest_cid)?, guest_cid, news: News::Known })
    }

    pub(crate) fn statistics(&self) -> Arc<VsockStatistics> {
        self.switchboard.statistics()
    }

    /// Tells the guest that none of its connections is left, once it has offered a buffer to be told in.
    fn tell_of_reset(
        &mut self,
        memory: &GuestMemoryMmap,
        queues: &mut [&mut Queue],
    ) -> Result<UsedQueues, Broken> {
        let mut used = UsedQueues::NONE;
        let Some(events) = queues.get_mut(EVENT_QUEUE).filter(|_| self.news == News::Owed) else {
            return Ok(used);
        };
        let Some(buffer) = chain::pop(events, memory)? else { return Ok(used) };
        let event = TRANSPORT_RESET.to_le_bytes();
        buffer.writable.write(memory, &event)?;
        chain::complete(events, memory, &buffer, event.len())?;
        self.news = News::Told { offered: offered(events, memory)? };
        listen_behind_offered(events, memory)?;
        used.add(EVENT_QUEUE);
        Ok(used)
    }

    /// Whether the guest, which has been told, has worked that off just now: then it takes packets again.
    fn has_understood(&mut self, memory: &GuestMemoryMmap, queues: &[&mut Queue]) -> Result<bool, Broken> {
        let News::Told { offered: before } = self.news else { return Ok(false) };
        let Some(events) = queues.get(EVENT_QUEUE) else { return Ok(false) };
        if offered(events, memory)? == before {
            return Ok(false);
        }
        self.news = News::Known;
        Ok(true)
    }

    /// Whether there is something for the guest, and it can take it.
    fn has_turns(&self) -> bool {
        self.switchboard.has_turns() && !matches!(self.news, News::Told { .. })
    }

    /// Moves what can be moved, in both directions, until there is nothing left or it is others' turn. Asks for news of
    /// host sockets only if there are some: whoever calls is told of them by [`VirtioDevice::host_fd`].
    fn process(
        &mut self,
        has_news: bool,
        memory: &GuestMemoryMmap,
        queues: &mut [&mut Queue],
    ) -> Result<UsedQueues, Broken> {
        let mut used = UsedQueues::NONE;
        let [receive, transmit, ..] = queues else { return Ok(used) };
        for _ in 0..ROUNDS {
            chain::silence(transmit, memory)?;
            chain::silence(receive, memory)?;
            let taken = self.take_packets(transmit, memory)?;
            let news =
                has_news && self.switchboard.poll().map_err(|e| Broken(format!("host sockets: {e}")))?;
            let given = self.give_turns(receive, memory)?;
            if taken {
                used.add(TRANSMIT_QUEUE);
            }
            if given {
                used.add(RECEIVE_QUEUE);
            }
            let idle = !(taken || news || given);
            if idle && !self.listen_to_guest(receive, transmit, memory)? {
                return Ok(used);
            }
        }
        self.switchboard.poller().wake_up();
        Ok(used)
    }

    /// Before it stops looking: has the guest notify of what can be used, and says whether something is there already.
    fn listen_to_guest(
        &self,
        receive: &mut Queue,
        transmit: &mut Queue,
        memory: &GuestMemoryMmap,
    ) -> Result<bool, Broken> {
        let packets = chain::listen(transmit, memory)? && self.switchboard.takes_packets();
        let room = self.has_turns() && chain::listen(receive, memory)?;
        Ok(packets || room)
    }

    fn take_packets(&mut self, queue: &mut Queue, memory: &GuestMemoryMmap) -> Result<bool, Broken> {
        let mut any = false;
        for _ in 0..PACKETS_IN_A_ROW {
            if !self.switchboard.takes_packets() {
                break;
            }
            let Some(chain) = chain::pop(queue, memory)? else { break };
            let mut header = [0; HEADER_BYTES];
            chain.readable.read(memory, &mut header)?;
            let data = chain.readable.range(HEADER_BYTES, chain.readable.len());
            self.switchboard.packet(&Header::decode(&header), &data, memory);
            chain::complete(queue, memory, &chain, 0)?;
            any = true;
        }
        Ok(any)
    }

    fn give_turns(&mut self, queue: &mut Queue, memory: &GuestMemoryMmap) -> Result<bool, Broken> {
        let mut any = false;
        for _ in 0..PACKETS_IN_A_ROW {
            if !self.has_turns() {
                break;
            }
            let Some(chain) = pop_buffer(queue, memory)? else { break };
            match self.switchboard.next_turn() {
                Some(Turn::Packet(header)) => {
                    give_packet(queue, memory, &chain, &header, 0)?;
                    any = true;
                }
                Some(Turn::Data(token)) => any |= self.give_data(token, chain, queue, memory)?,
                None => chain::unpop(queue),
            }
        }
        Ok(any)
    }

    /// Reads a connection's socket into as many receive buffers as one turn may fill, `first` and those behind it.
    fn give_data(
        &mut self,
        token: Token,
        first: Chain,
        queue: &mut Queue,
        memory: &GuestMemoryMmap,
    ) -> Result<bool, Broken> {
        let Some((socket, sendable)) = self.switchboard.data_source(token) else {
            chain::unpop(queue);
            return Ok(false);
        };
        let limit = sendable.min(TURN_BYTES);
        let mut room = 0;
        let mut slices = Vec::new();
        let mut buffers = Vec::with_capacity(TURN_CHAINS);
        let mut next = Some(first);
        while let Some(buffer) = next {
            let part = buffer.writable.range(HEADER_BYTES, limit - room);
            part.slices(memory, &mut slices)?;
            room += part.len();
            buffers.push((buffer, part.len()));
            let full = room == limit || buffers.len() == TURN_CHAINS;
            next = if full { None } else { pop_buffer(queue, memory)? };
        }
        let received = socket.receive(&slices);
        let mut rest = if let Received::Bytes(bytes) = received { bytes } else { 0 };
        for (buffer, part) in &buffers {
            let length = rest.min(*part);
            if length == 0 {
                chain::unpop(queue);
            } else if let Some(header) = self.switchboard.header(token, Operation::ReadWrite, 0, length) {
                give_packet(queue, memory, buffer, &header, length)?;
                rest -= length;
            }
        }
        self.switchboard.turn_done(token, received == Received::End);
        Ok(matches!(received, Received::Bytes(_)))
    }
}

/// How far the guest has offered buffers.
fn offered(queue: &Queue, memory: &GuestMemoryMmap) -> Result<u16, Broken> {
    let index = queue.avail_idx(memory, Ordering::Acquire);
    Ok(index.map_err(|error| Broken(format!("event queue: {error}")))?.0)
}

/// Has the driver notify of the next buffer that it offers, not of those that it has offered already: it notifies when it
/// passes the place where the device stands.
fn listen_behind_offered(queue: &mut Queue, memory: &GuestMemoryMmap) -> Result<(), Broken> {
    let mut passed = 0;
    while chain::pop(queue, memory)?.is_some() {
        passed += 1;
    }
    chain::listen(queue, memory)?;
    (0..passed).for_each(|_| chain::unpop(queue));
    Ok(())
}

/// A receive buffer, with room for a header and something behind it.
fn pop_buffer(queue: &mut Queue, memory: &GuestMemoryMmap) -> Result<Option<Chain>, Broken> {
    match chain::pop(queue, memory)? {
        Some(chain) if chain.writable.len() <= HEADER_BYTES => {
            Err(Broken(format!("a vsock receive buffer of {} bytes", chain.writable.len())))
        }
        chain => Ok(chain),
    }
}

/// Gives the guest a packet whose `length` bytes of data are in the buffer already.
fn give_packet(
    queue: &mut Queue,
    memory: &GuestMemoryMmap,
    buffer: &Chain,
    header: &Header,
    length: usize,
) -> Result<(), Broken> {
    buffer.writable.write(memory, &header.encode())?;
    chain::complete(queue, memory, buffer, HEADER_BYTES + length)
}

impl VirtioDevice for Vsock {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Vsock
    }

    /// Receive, transmit, and events, of which there is one: a machine goes on from a snapshot.
    fn queue_sizes(&self) -> &'static [u16] {
        &[QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE]
    }

    fn features(&self) -> u64 {
        0
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        copy_config(&u64::from(self.guest_cid).to_le_bytes(), offset, data);
    }

    fn activate(&mut self, _features: u64) {}

    fn reset(&mut self) {
        self.switchboard.reset();
        self.news = News::Known;
    }

    fn queue_event(
        &mut self,
        index: usize,
        memory: &GuestMemoryMmap,
        queues: &mut [&mut Queue],
    ) -> Result<UsedQueues, Broken> {
        if index == EVENT_QUEUE && !self.has_understood(memory, queues)? {
            self.tell_of_reset(memory, queues)
        } else {
            self.process(false, memory, queues)
        }
    }

    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.switchboard.poller().as_fd())
    }

    fn host_event(
        &mut self,
        memory: &GuestMemoryMmap,
        queues: &mut [&mut Queue],
    ) -> Result<UsedQueues, Broken> {
        self.process(true, memory, queues)
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        Ok(DeviceState::Vsock { last_host_port: self.switchboard.last_local_port() })
    }

    fn restore(&mut self, state: &DeviceState) -> Result<(), StateError> {
        let DeviceState::Vsock { last_host_port } = *state else {
            return state::expect_same(state, self.save()?);
        };
        self.switchboard.continue_behind(last_host_port);
        Ok(())
    }

    fn resume(&mut self, memory: &GuestMemoryMmap, queues: &mut [&mut Queue]) -> Result<UsedQueues, Broken> {
        self.news = News::Owed;
        self.tell_of_reset(memory, queues)
    }
}
