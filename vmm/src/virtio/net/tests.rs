//! The card on real queues and a real TAP interface, in a network namespace that each test makes for itself.
//!
//! The interface under test and a second one are ports of a bridge; the test is whoever sits behind the second one.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use virtio_bindings::virtio_net as bindings;
use virtio_queue::QueueT;

use super::header::{HEADER_BYTES, MAX_FRAME_BYTES};
use super::*;
use crate::virtio::test_driver::{self, Driver, Offer};

pub(crate) const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// For experiments (IEEE 802): tells our frames from what the host's kernel says on a bridge.
const ETHER_TYPE: [u8; 2] = [0x88, 0xb5];
const PATIENCE: Duration = Duration::from_secs(10);
const OFFLOADS: u64 = 1 << bindings::VIRTIO_NET_F_CSUM
    | 1 << bindings::VIRTIO_NET_F_HOST_TSO4
    | 1 << bindings::VIRTIO_NET_F_GUEST_CSUM
    | 1 << bindings::VIRTIO_NET_F_GUEST_TSO4;
const MERGEABLE: u64 = 1 << bindings::VIRTIO_NET_F_MRG_RXBUF;

/// The network of one test's thread; it ends with the thread.
pub(crate) struct Network {
    other: Tap,
    /// The interface under test, until it is taken.
    pub(crate) card: Option<Tap>,
}

impl Network {
    /// `None`, and said so, where that is not possible.
    pub(crate) fn new() -> Option<Self> {
        let skip = |reason: String| crate::stub_guest::skip(&reason);
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            skip(format!("cannot make a network namespace: {error}"));
            return None;
        }
        if let Err(error) = Command::new("ip").arg("-V").output() {
            skip(format!("cannot run ip: {error}"));
            return None;
        }
        if !std::path::Path::new("/dev/net/tun").exists() {
            skip("there is no /dev/net/tun".into());
            return None;
        }
        // Without addresses, and without snooping for groups, the host's kernel has nothing to say on it.
        ip("link add bridge type bridge mcast_snooping 0");
        ip("link set bridge addrgenmode none");
        ip("link set bridge up");
        // A port forwards at once if somebody holds the interface before it comes up, otherwise within a second.
        let open = |name| {
            ip(&format!("tuntap add {name} mode tap"));
            let tap = Tap::open(name).unwrap();
            ip(&format!("link set {name} addrgenmode none master bridge"));
            ip(&format!("link set {name} up"));
            tap
        };
        let (card, other) = (open("card"), open("other"));
        other.set_offloads(other.known_offloads()).unwrap();
        Some(Self { other, card: Some(card) })
    }

    /// A frame that is already whole, from the other end.
    pub(crate) fn send(&self, frame: &[u8]) {
        self.send_with(&[0; HEADER_BYTES], frame);
    }

    fn send_with(&self, header: &[u8; HEADER_BYTES], frame: &[u8]) {
        let bytes = [&header[..], frame].concat();
        assert_eq!(rustix::io::write(self.other.as_fd(), &bytes).unwrap(), bytes.len());
    }

    /// The next frame of ours that comes out of the other end and is not our own that the bridge did not know where
    /// to send.
    pub(crate) fn receive_from_guest(&self) -> Vec<u8> {
        loop {
            let (_, frame) = self.receive();
            if frame[6..12] == MAC.0 {
                return frame;
            }
        }
    }

    /// The next frame of ours that comes out of the other end, with its header.
    pub(crate) fn receive(&self) -> (Vec<u8>, Vec<u8>) {
        let end = Instant::now() + PATIENCE;
        let mut bytes = vec![0; HEADER_BYTES + MAX_FRAME_BYTES];
        loop {
            match rustix::io::read(self.other.as_fd(), &mut bytes) {
                Ok(length) if is_ours(&bytes[HEADER_BYTES..length]) => {
                    let frame = bytes[HEADER_BYTES..length].to_vec();
                    return (bytes[..HEADER_BYTES].to_vec(), frame);
                }
                Ok(_) => {}
                Err(error) => assert_eq!(std::io::Error::from(error).kind(), ErrorKind::WouldBlock),
            }
            assert!(Instant::now() < end, "no frame came");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

pub(crate) fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn is_ours(frame: &[u8]) -> bool {
    frame.get(..12).is_some_and(|addresses| addresses.starts_with(&MAC.0) || addresses.ends_with(&MAC.0))
}

/// A frame of our own kind that is told by its number.
fn frame(to: [u8; 6], from: [u8; 6], number: u8, bytes: usize) -> Vec<u8> {
    let mut frame = [&to[..], &from, &ETHER_TYPE].concat();
    frame.resize(bytes, number);
    frame
}

pub(crate) fn to_guest(number: u8, bytes: usize) -> Vec<u8> {
    frame(MAC.0, OTHER, number, bytes)
}

pub(crate) fn from_guest(number: u8, bytes: usize) -> Vec<u8> {
    frame(OTHER, MAC.0, number, bytes)
}

/// A TCP segment much longer than a packet, and the header that says how to cut it.
fn long_segment(to: [u8; 6], from: [u8; 6], payload_bytes: u16) -> ([u8; HEADER_BYTES], Vec<u8>) {
    let ip_bytes = payload_bytes + 40;
    let mut frame = [&to[..], &from, &[0x08, 0x00]].concat();
    frame.extend([0x45, 0]);
    frame.extend(ip_bytes.to_be_bytes());
    frame.extend([0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    let sum: u32 = frame[14..34].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    // Ports, sequence numbers, header length, ACK, window; a checksum to be filled in.
    frame.extend([0x10, 0, 0x20, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
    frame.extend((0..payload_bytes).map(|position| u8::try_from(position % 251).unwrap()));
    let mut header = [0; HEADER_BYTES];
    header[..2].copy_from_slice(&[1, 1]);
    for (at, value) in [(2, 54u16), (4, 1448), (6, 34), (8, 16)] {
        header[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    (header, frame)
}

pub(crate) fn card(tap: Option<Tap>, mtu: Option<u16>) -> io::Result<NetworkCard> {
    NetworkCard::new(tap.map(HostEnd::Tap), MAC, mtu, CardRates::default())
}

pub(super) struct Bench {
    pub(super) network: Network,
    memory: GuestMemoryMmap,
    receive: Driver,
    transmit: Driver,
    queues: Vec<Queue>,
    pub(super) device: NetworkCard,
    /// Came back in the receive queue, and was not looked at.
    filled: VecDeque<(u16, usize)>,
}

impl Bench {
    /// `None` where there can be no network.
    pub(super) fn new(features: u64) -> Option<Self> {
        let mut network = Network::new()?;
        let mut device = card(network.card.take(), Some(1500)).unwrap();
        assert_eq!(device.features() & features, features);
        device.activate(features);
        let memory = test_driver::memory(2);
        let ((receive, one), (transmit, two)) = (Driver::new(&memory, 0), Driver::new(&memory, 1));
        Some(Self {
            network,
            memory,
            receive,
            transmit,
            queues: vec![one, two],
            device,
            filled: VecDeque::new(),
        })
    }

    fn event(&mut self, index: usize) -> Result<UsedQueues, Broken> {
        let mut queues: Vec<&mut Queue> = self.queues.iter_mut().collect();
        self.device.queue_event(index, &self.memory, &mut queues)
    }

    pub(super) fn host_event(&mut self) -> Result<UsedQueues, Broken> {
        let mut queues: Vec<&mut Queue> = self.queues.iter_mut().collect();
        self.device.host_event(&self.memory, &mut queues)
    }

    pub(super) fn send(&mut self, header: &[u8], frame: &[u8]) -> Result<UsedQueues, Broken> {
        self.transmit.offer(&[header, frame], &[]);
        self.event(TRANSMIT)
    }

    /// Whether the device has something to do for its host.
    pub(super) fn is_readable(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let fd = self.device.host_fd().unwrap();
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&now)).unwrap() == 1
    }

    /// The next buffer that came back in the receive queue; lets the device work until there is one.
    fn next_filled(&mut self) -> (u16, usize) {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(filled) = self.filled.pop_front() {
                return filled;
            }
            assert!(Instant::now() < end, "no buffer came back");
            if self.is_readable() {
                self.host_event().unwrap();
                self.filled.extend(self.receive.returned());
            } else {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// The next frame of ours in the receive queue, each of which has one of these buffers.
    fn next_frame(&mut self, offers: &mut std::vec::IntoIter<Offer>) -> Vec<u8> {
        loop {
            let (head, length) = self.next_filled();
            let offer = offers.next().unwrap();
            assert_eq!(offer.head, head, "in order");
            let bytes = self.receive.written(&offer);
            assert_eq!(bytes[10..12], [1, 0], "one buffer");
            if is_ours(&bytes[HEADER_BYTES..length]) {
                return bytes[HEADER_BYTES..length].to_vec();
            }
        }
    }

    pub(super) fn counters(&self) -> crate::control::NetworkCounters {
        self.device.statistics.counters()
    }
}

pub(super) const PLAIN: [u8; HEADER_BYTES] = [0; HEADER_BYTES];

#[test]
fn frames_go_both_ways_in_order_and_are_counted() {
    let Some(mut bench) = Bench::new(MERGEABLE) else { return };
    for number in 0..10 {
        bench.transmit.offer(&[&PLAIN, &from_guest(number, 60 + usize::from(number))], &[]);
    }
    assert!(bench.event(TRANSMIT).unwrap().contains(TRANSMIT));
    assert_eq!(bench.transmit.returned().len(), 10);
    for number in 0..10 {
        assert_eq!(bench.network.receive().1, from_guest(number, 60 + usize::from(number)));
    }
    let counters = bench.counters();
    assert_eq!((counters.to_network_frames, counters.to_network_bytes), (10, 645));

    let offers: Vec<Offer> = (0..30).map(|_| bench.receive.offer(&[], &[100, 1500])).collect();
    let mut offers = offers.into_iter();
    bench.event(RECEIVE).unwrap();
    (0..10).for_each(|number| bench.network.send(&to_guest(number, 1000)));
    for number in 0..10 {
        assert_eq!(bench.next_frame(&mut offers), to_guest(number, 1000));
    }
    assert!(bench.counters().to_guest_frames >= 10);
    assert_eq!(bench.counters().dropped_to_guest, 0);
}

#[test]
fn a_long_segment_leaves_the_guest_in_one_piece() {
    let Some(mut bench) = Bench::new(MERGEABLE | OFFLOADS) else { return };
    let (header, frame) = long_segment(OTHER, MAC.0, 30_000);
    bench.send(&header, &frame).unwrap();
    let (arrived, bytes) = bench.network.receive();
    assert_eq!((arrived[1], bytes.len()), (1, frame.len()), "still to be cut");
    assert_eq!(bytes[54..], frame[54..]);
}

#[test]
fn a_long_segment_reaches_the_guest_over_many_buffers() {
    let Some(mut bench) = Bench::new(MERGEABLE | OFFLOADS) else { return };
    let offers: Vec<Offer> = (0..40).map(|_| bench.receive.offer(&[], &[1526])).collect();
    bench.event(RECEIVE).unwrap();
    let (header, frame) = long_segment(MAC.0, OTHER, 40_000);
    bench.network.send_with(&header, &frame);
    let mut offers = offers.into_iter();
    let count = (HEADER_BYTES + frame.len()).div_ceil(1526);
    let mut first = bench.next_filled();
    // What the host's kernel says on its own comes before or behind, in buffers of its own.
    while first.1 != 1526 {
        offers.next();
        first = bench.next_filled();
    }
    let filled: Vec<_> = std::iter::once(first).chain(bench.filled.drain(..)).take(count).collect();
    assert_eq!(filled.len(), count, "all at once");
    let bytes: Vec<u8> = offers.flat_map(|offer| bench.receive.written(&offer)).collect();
    assert_eq!(bytes[1], 1, "still to be cut");
    assert_eq!(usize::from(u16::from_le_bytes([bytes[10], bytes[11]])), count);
    assert!(bytes[HEADER_BYTES..][..frame.len()] == frame);
    assert_eq!(filled.iter().map(|(_, length)| length).sum::<usize>(), HEADER_BYTES + frame.len());
}

#[test]
fn a_guest_that_takes_no_long_segments_gets_short_ones() {
    let Some(mut bench) = Bench::new(MERGEABLE) else { return };
    let offers: Vec<Offer> = (0..40).map(|_| bench.receive.offer(&[], &[1600])).collect();
    bench.event(RECEIVE).unwrap();
    let (header, frame) = long_segment(MAC.0, OTHER, 14_480);
    bench.network.send_with(&header, &frame);
    let mut offers = offers.into_iter();
    let mut payload: Vec<u8> = Vec::new();
    while payload.len() < 14_480 {
        let segment = bench.next_frame(&mut offers);
        assert!(segment.len() <= 1514, "{} bytes", segment.len());
        payload.extend(&segment[54..]);
    }
    assert!(payload == frame[54..]);
}

#[test]
fn frames_wait_for_buffers_and_none_is_lost() {
    let Some(mut bench) = Bench::new(MERGEABLE | OFFLOADS) else { return };
    bench.event(RECEIVE).unwrap();
    let (header, long) = long_segment(MAC.0, OTHER, 20_000);
    bench.network.send(&to_guest(1, 500));
    bench.network.send_with(&header, &long);
    bench.network.send(&to_guest(2, 500));
    bench.host_event().unwrap();
    assert!(!bench.is_readable(), "a card without buffers is not asked again and again");
    assert!(bench.receive.returned().is_empty());
    // Buffers come one by one, and never enough for the long one until late.
    let mut bytes = Vec::new();
    for _ in 0..60 {
        let offer = bench.receive.offer(&[], &[2000]);
        bench.event(RECEIVE).unwrap();
        bytes.push(offer);
    }
    let filled = bench.receive.returned();
    let mut frames = Vec::new();
    let mut buffers = bytes.iter().zip(&filled);
    while let Some((offer, (head, length))) = buffers.next() {
        assert_eq!(offer.head, *head);
        let mut frame = bench.receive.written(offer)[..*length].to_vec();
        for _ in 1..u16::from_le_bytes([frame[10], frame[11]]) {
            let (offer, (_, length)) = buffers.next().unwrap();
            frame.extend(&bench.receive.written(offer)[..*length]);
        }
        frames.push(frame.split_off(HEADER_BYTES));
    }
    let ours: Vec<&Vec<u8>> = frames.iter().filter(|frame| is_ours(frame)).collect();
    assert_eq!(ours.len(), 3);
    assert!(*ours[0] == to_guest(1, 500) && *ours[1] == long && *ours[2] == to_guest(2, 500));
    assert_eq!(bench.counters().dropped_to_guest, 0);
}

#[test]
fn a_driver_with_buffers_of_one_frame_each_gets_what_fits() {
    let Some(mut bench) = Bench::new(0) else { return };
    let offers: Vec<Offer> = (0..20).map(|_| bench.receive.offer(&[], &[12, 500])).collect();
    bench.event(RECEIVE).unwrap();
    bench.network.send(&to_guest(1, 400));
    bench.network.send(&to_guest(2, 600));
    bench.network.send(&to_guest(3, 500));
    let mut offers = offers.into_iter();
    assert_eq!(bench.next_frame(&mut offers), to_guest(1, 400));
    assert_eq!(bench.next_frame(&mut offers), to_guest(3, 500));
    assert_eq!(bench.counters().dropped_to_guest, 1);
}

#[test]
fn frames_that_are_none_are_dropped_and_the_card_goes_on() {
    let Some(mut bench) = Bench::new(MERGEABLE | OFFLOADS) else { return };
    let good = from_guest(1, 100);
    let mut bad_checksum = PLAIN;
    bad_checksum[0] = 1;
    bad_checksum[6..10].fill(0xff);
    let (mut segment_of_nothing, _) = long_segment(OTHER, MAC.0, 100);
    segment_of_nothing[4..6].fill(0);
    let mut not_negotiated = segment_of_nothing;
    not_negotiated[1] = 5;
    let too_long = vec![0; MAX_FRAME_BYTES + 1];
    for (header, frame) in [
        (PLAIN, &good[..13]),
        (PLAIN, &good[..0]),
        (PLAIN, &too_long[..]),
        (bad_checksum, &good[..]),
        (segment_of_nothing, &good[..]),
        (not_negotiated, &good[..]),
        ([0xff; HEADER_BYTES], &good[..]),
    ] {
        assert!(bench.send(&header, frame).unwrap().contains(TRANSMIT));
        assert_eq!(bench.transmit.returned().len(), 1);
    }
    assert_eq!((bench.counters().to_network_frames, bench.counters().dropped_to_network), (0, 7));
    bench.send(&PLAIN, &good).unwrap();
    assert_eq!(bench.network.receive().1, good);
}

#[test]
fn a_frame_is_dropped_while_the_interface_is_down() {
    let Some(mut bench) = Bench::new(0) else { return };
    ip("link set card down");
    bench.send(&PLAIN, &from_guest(1, 100)).unwrap();
    assert_eq!(bench.counters().dropped_to_network, 1);
    ip("link set card up");
    bench.send(&PLAIN, &from_guest(2, 100)).unwrap();
    assert_eq!(bench.network.receive().1, from_guest(2, 100));
}

#[test]
fn chains_that_cannot_be_frames_break_the_card() {
    let Some(mut bench) = Bench::new(MERGEABLE) else { return };
    for (queue, readable, writable) in [
        (TRANSMIT, &[0u8; 11][..], &[][..]),
        (TRANSMIT, &[0; 100], &[100]),
        (RECEIVE, &[0; 100], &[2000]),
        (RECEIVE, &[], &[11]),
        (RECEIVE, &[0; 100], &[]),
    ] {
        let driver = if queue == RECEIVE { &mut bench.receive } else { &mut bench.transmit };
        driver.offer(&[readable], writable);
        assert!(bench.event(queue).is_err(), "{} readable, {writable:?} writable", readable.len());
        bench.device.reset();
        bench.device.activate(MERGEABLE);
    }
    bench.send(&PLAIN, &from_guest(1, 100)).unwrap();
    assert_eq!(bench.network.receive().1, from_guest(1, 100), "after a reset it works");
}

#[test]
fn a_card_whose_interface_is_removed_breaks_and_says_why() {
    let Some(mut bench) = Bench::new(MERGEABLE) else { return };
    (0..20).for_each(|_| drop(bench.receive.offer(&[], &[2000])));
    bench.event(RECEIVE).unwrap();
    ip("link delete card");
    assert!(bench.is_readable());
    assert!(bench.host_event().unwrap_err().0.contains("TAP interface is gone"));
    assert!(bench.send(&PLAIN, &from_guest(1, 100)).is_err());
}

#[test]
fn interfaces_that_cannot_be_used_are_refused_by_name() {
    let Some(_network) = Network::new() else { return };
    for (name, problem) in [("missing", "ip tuntap add missing"), ("card", "in use"), ("bridge", "attach")] {
        let error = Tap::open(name).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(problem), "{error}");
    }
}

#[test]
fn a_snapshot_finds_the_buffers_in_their_queue() {
    let Some(mut bench) = Bench::new(MERGEABLE) else { return };
    (0..20).for_each(|_| drop(bench.receive.offer(&[], &[100])));
    bench.event(RECEIVE).unwrap();
    bench.network.send(&to_guest(1, 1514));
    while bench.next_filled().1 == 100 {}
    assert!(bench.queues[RECEIVE].next_avail() > bench.queues[RECEIVE].next_used());
    let mut queues: Vec<&mut Queue> = bench.queues.iter_mut().collect();
    bench.device.quiesce(&bench.memory, &mut queues).unwrap();
    assert_eq!(bench.queues[RECEIVE].next_avail(), bench.queues[RECEIVE].next_used());
    assert!(bench.is_readable(), "and the machine goes on");
    bench.network.send(&to_guest(2, 60));
    bench.next_filled();

    let state = bench.device.save().unwrap();
    ip("tuntap add third mode tap");
    let mut successor = card(Tap::open("third").ok(), Some(1500)).unwrap();
    successor.restore(&state).unwrap();
    ip("tuntap add fourth mode tap");
    let mut other = card(Tap::open("fourth").ok(), None).unwrap();
    assert!(other.restore(&state).is_err(), "without the MTU that was offered");
}

#[test]
fn the_card_says_who_it_is() {
    let Some(bench) = Bench::new(0) else { return };
    let mut config = [0xff; 14];
    bench.device.read_config(0, &mut config);
    assert_eq!(config, [2, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0xdc, 5, 0, 0]);
}
