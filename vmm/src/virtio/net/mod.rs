//! The network card (virtio 1.2, section 5.1): a queue each way, and a TAP interface of the host behind them, or a network
//! stack that is another process.
//!
//! ```text
//!   receive queue  <── [Receiver]    <── [HostEnd]: TAP interface <── bridge, routes, rules: the host's business
//!   transmit queue ──> [Transmitter] ──>            or a stream of frames
//! ```
//!
//! Checksums and segmentation are left to whoever is last to need them, as far as both sides can. What the guest sends
//! is checked in `header.rs`; a frame that cannot go on is dropped and counted, and only chains that are no frames
//! break the card. There is no control queue: what it would set, an interface of the host decides.

mod binding;
mod gateway;
#[cfg(test)]
mod gateway_tests;
mod guard;
mod header;
mod host_end;
mod offloads;
mod rate;
mod receive;
mod statistics;
mod tap;
#[cfg(test)]
pub(crate) mod tests;
mod transmit;
mod watch;

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use virtio_bindings::virtio_net as bindings;
use virtio_queue::Queue;

use self::binding::{Binding, Change};
pub(crate) use self::binding::{BindingError, CardHandle};
pub(crate) use self::gateway::Gateway;
pub(crate) use self::host_end::HostEnd;
use self::rate::Limits;
use self::receive::{Pause, Receiver};
use self::statistics::NetworkStatistics;
pub(crate) use self::tap::Tap;
pub use self::tap::{TapError, make_tap, open_tap};
use self::transmit::{Next, Transmitter};
use self::watch::Watch;
use super::{
    Broken, DeviceKind, DeviceState, StateError, UsedQueues, VirtioDevice, chain, copy_config, state,
};
use crate::config::{CardRates, MacAddress};
use crate::memory::GuestMemoryMmap;

const QUEUE_SIZE: u16 = 256;
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

const CONFIG_BYTES: usize = 12;
/// The link is up (section 5.1.4).
const LINK_UP: u16 = 1;
/// Where the configuration says so.
const LINK: std::ops::Range<usize> = 6..8;

/// A card.
#[derive(Debug)]
pub(crate) struct NetworkCard {
    /// `None`: the card is bound to nothing.
    end: Option<HostEnd>,
    limits: Limits,
    binding: Arc<Binding>,
    watch: Watch,
    offered: u64,
    config: [u8; CONFIG_BYTES],
    statistics: Arc<NetworkStatistics>,
    negotiated: u64,
    receiver: Receiver,
    transmitter: Transmitter,
}

impl NetworkCard {
    /// # Errors
    /// No more descriptors.
    pub(crate) fn new(
        end: Option<HostEnd>,
        mac: MacAddress,
        mtu: Option<u16>,
        rates: CardRates,
    ) -> io::Result<Self> {
        let known_offloads = end.as_ref().map_or(tap::OFFLOADS_EVERYWHERE, HostEnd::known_offloads);
        let link = if end.is_some() { LINK_UP } else { 0 };
        let bound_to = end.as_ref().map(|end| end.name().to_owned());
        let offered = 1 << bindings::VIRTIO_NET_F_MAC
            | 1 << bindings::VIRTIO_NET_F_STATUS
            | 1 << bindings::VIRTIO_NET_F_MRG_RXBUF
            | u64::from(mtu.is_some()) << bindings::VIRTIO_NET_F_MTU
            | offloads::features(known_offloads);
        Ok(Self {
            watch: Watch::new()?,
            binding: Arc::new(Binding::to(bound_to)),
            end,
            limits: Limits::new(rates),
            offered,
            config: config_space(mac, link, mtu),
            statistics: Arc::default(),
            negotiated: 0,
            receiver: Receiver::new(),
            transmitter: Transmitter::default(),
        })
    }

    /// For the control thread.
    ///
    /// # Errors
    /// No more descriptors.
    pub(crate) fn handle(&self) -> io::Result<CardHandle> {
        let wake_up = self.watch.wake_up_descriptor()?;
        Ok(CardHandle::new(self.binding.clone(), wake_up, self.statistics.clone()))
    }

    /// Whether the card was bound to an interface, or to none any more.
    fn take_up_binding(&mut self) -> bool {
        let Some(change) = self.binding.take_change() else { return false };
        self.let_go();
        match change {
            Change::Unbind => {}
            Change::Bind(tap, rates) => {
                let end = HostEnd::Tap(tap);
                end.set_offloads(offloads::for_guest(self.negotiated));
                self.end = Some(end);
                self.limits = Limits::new(rates);
            }
        }
        self.show_link();
        true
    }

    fn let_go(&mut self) {
        if let Some(old) = self.end.take() {
            // What is not watched is what is wanted.
            self.watch.forget(&old).ok();
            self.receiver.forget_frame(&self.statistics);
        }
    }

    fn show_link(&mut self) {
        let link = if self.end.is_some() { LINK_UP } else { 0 };
        self.config[LINK].copy_from_slice(&link.to_le_bytes());
    }

    /// The network stack behind the card is gone.
    fn lose(&mut self, used: &mut UsedQueues) {
        self.let_go();
        self.binding.is_lost();
        self.show_link();
        used.add_configuration();
    }

    /// Fills the guest's buffers as long as there are frames and buffers.
    fn receive(
        &mut self,
        queue: &mut Queue,
        memory: &GuestMemoryMmap,
        used: &mut UsedQueues,
    ) -> Result<(), Broken> {
        let Some(end) = &mut self.end else { return Ok(()) };
        let before = Receiver::used(queue);
        let pause = self.receiver.receive(queue, memory, end, &mut self.limits.to_guest, &self.statistics)?;
        if Receiver::used(queue) != before {
            used.add(RECEIVE);
            if chain::is_interrupt_due(queue, memory, before)? {
                used.add_interrupt();
            }
        }
        let watched = match pause {
            Pause::NoFrames => self.watch.for_frames(end, true),
            Pause::NoBuffers => self.watch.for_frames(end, false),
            // Where a transport looks at edges, frames that wait already are none.
            Pause::Turn => {
                self.watch.wake_up();
                self.watch.for_frames(end, true)
            }
            Pause::Limited(wait) => {
                self.watch.for_frames(end, false).and_then(|()| self.watch.wake_up_in(wait))
            }
            Pause::Gone => {
                self.lose(used);
                Ok(())
            }
        };
        watched.map_err(unwatched)
    }

    fn transmit(
        &mut self,
        queue: &mut Queue,
        memory: &GuestMemoryMmap,
        used: &mut UsedQueues,
    ) -> Result<(), Broken> {
        let (end, limit) = (self.end.as_mut(), &mut self.limits.to_network);
        let sent = self.transmitter.transmit(queue, memory, end, limit, &self.statistics)?;
        if sent.any {
            used.add(TRANSMIT);
        }
        let watched = match sent.next {
            Next::Told => Ok(()),
            Next::Look => {
                self.watch.wake_up();
                Ok(())
            }
            Next::After(wait) => self.watch.wake_up_in(wait),
        };
        watched.map_err(unwatched)?;
        let Some(end) = &mut self.end else { return Ok(()) };
        // Until all is gone there is no need to look for more: the queue is looked at as soon as it is.
        match end.flush() {
            Ok(all) => self.watch.for_room(end, !all).map_err(unwatched),
            Err(gateway::Gone) => {
                self.lose(used);
                Ok(())
            }
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function of map_err")]
fn unwatched(error: io::Error) -> Broken {
    Broken(format!("its end on the host cannot be watched: {error}"))
}

/// `struct virtio_net_config` (section 5.1.4).
fn config_space(MacAddress(mac): MacAddress, link: u16, mtu: Option<u16>) -> [u8; CONFIG_BYTES] {
    let mut config = [0; CONFIG_BYTES];
    config[..6].copy_from_slice(&mac);
    config[LINK].copy_from_slice(&link.to_le_bytes());
    config[10..12].copy_from_slice(&mtu.unwrap_or_default().to_le_bytes());
    config
}

/// The interface was removed under the running machine.
fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBADFD)
}

fn gone() -> Broken {
    Broken("its TAP interface is gone".into())
}

impl VirtioDevice for NetworkCard {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Network
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[QUEUE_SIZE; 2]
    }

    fn features(&self) -> u64 {
        self.offered
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        copy_config(&self.config, offset, data);
    }

    fn activate(&mut self, features: u64) {
        self.negotiated = features;
        self.transmitter.activate(features);
        self.receiver.activate(features >> bindings::VIRTIO_NET_F_MRG_RXBUF & 1 == 1);
        if let Some(end) = &self.end {
            end.set_offloads(offloads::for_guest(features));
        }
        // The driver may have offered buffers before it was ready.
        self.watch.wake_up();
    }

    fn reset(&mut self) {
        self.negotiated = 0;
        self.receiver.reset();
        self.transmitter = Transmitter::default();
        // Frames wait in the interface for the next driver.
        if let Some(end) = &self.end {
            self.watch.forget(end).ok();
        }
    }

    fn queue_event(
        &mut self,
        index: usize,
        memory: &GuestMemoryMmap,
        queues: &mut [&mut Queue],
    ) -> Result<UsedQueues, Broken> {
        let mut used = UsedQueues::NONE;
        match (index, queues.get_mut(index)) {
            (RECEIVE, Some(queue)) => self.receive(queue, memory, &mut used)?,
            (TRANSMIT, Some(queue)) => self.transmit(queue, memory, &mut used)?,
            _ => {}
        }
        Ok(used)
    }

    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.watch.as_fd())
    }

    fn host_event(
        &mut self,
        memory: &GuestMemoryMmap,
        queues: &mut [&mut Queue],
    ) -> Result<UsedQueues, Broken> {
        let mut used = UsedQueues::NONE;
        let [receive, transmit] = queues else { return Ok(used) };
        let (woken, rung) = (self.watch.was_woken_up(), self.watch.has_rung());
        if woken && self.take_up_binding() {
            used.add_configuration();
        }
        if woken || rung || self.watch.is_for_room() {
            self.transmit(transmit, memory, &mut used)?;
        }
        self.receive(receive, memory, &mut used)?;
        Ok(used)
    }

    fn quiesce(
        &mut self,
        _memory: &GuestMemoryMmap,
        queues: &mut [&mut Queue],
    ) -> Result<UsedQueues, Broken> {
        if let Some(queue) = queues.get_mut(RECEIVE) {
            self.receiver.give_back(queue, &self.statistics);
            // The buffers are looked for again, in this machine or in the next.
            self.watch.wake_up();
        }
        Ok(UsedQueues::NONE)
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        Ok(DeviceState::NetworkCard { features: self.offered })
    }

    /// The address is the new machine's.
    fn restore(&mut self, state: &DeviceState) -> Result<(), StateError> {
        state::expect_same(state, self.save()?)
    }

    fn resume(&mut self, memory: &GuestMemoryMmap, queues: &mut [&mut Queue]) -> Result<UsedQueues, Broken> {
        self.watch.wake_up();
        self.host_event(memory, queues)
    }
}
