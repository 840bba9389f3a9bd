//! The network card between a hostile driver and a network that sends anything: a socket stands for the TAP interface.

use std::os::unix::net::UnixDatagram;

use super::bench::Bench;
use super::input::Input;
use super::script::{self, Subject};
use crate::config::{CardRates, MacAddress};
use crate::virtio::{HostEnd, NetworkCard, Tap};

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
/// `struct virtio_net_hdr_v1` (virtio 1.2, section 5.1.6).
const HEADER_BYTES: usize = 12;
const MIN_FRAME_BYTES: usize = 14;
const MAX_FRAME_BYTES: usize = 65535 + 18;
const NEEDS_CHECKSUM: u8 = 1;
const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
/// What the interface is said to be able to do: everything.
const ALL_OFFLOADS: u32 = 0x7f;

struct NetSubject {
    network: UnixDatagram,
}

/// The card's queues and the network behind it.
pub(super) fn net(input: &[u8]) {
    let (network, interface) = UnixDatagram::pair().expect("the host has descriptors");
    for end in [&network, &interface] {
        end.set_nonblocking(true).expect("a socket");
    }
    let tap = Tap::of_socket(interface.into(), ALL_OFFLOADS);
    let card = NetworkCard::new(Some(HostEnd::Tap(tap)), MAC, Some(1500), CardRates::default())
        .expect("the host has descriptors");
    script::play(&mut Bench::new(Box::new(card)), &mut NetSubject { network }, input);
}

impl NetSubject {
    /// What the host's kernel is given next: never what it was not told it may get.
    fn take_frame(&self) -> Option<Vec<u8>> {
        let mut frame = vec![0; HEADER_BYTES + MAX_FRAME_BYTES + 1];
        let length = self.network.recv(&mut frame).ok()?;
        frame.truncate(length);
        let bounds = HEADER_BYTES + MIN_FRAME_BYTES..=HEADER_BYTES + MAX_FRAME_BYTES;
        assert!(bounds.contains(&length), "a frame of {length} bytes");
        let half = |at: usize| usize::from(u16::from_le_bytes([frame[at], frame[at + 1]]));
        let (flags, kind) = (frame[0], frame[1]);
        assert_eq!(flags & !NEEDS_CHECKSUM, 0, "flags of the other direction");
        assert!(kind == 0 || half(4) > 0, "segments of no size");
        let checksum_end = half(6) + half(8) + 2;
        let fits = checksum_end <= length - HEADER_BYTES;
        assert!(flags & NEEDS_CHECKSUM == 0 || fits, "a checksum behind the frame's end");
        Some(frame)
    }
}

impl Subject for NetSubject {
    /// A frame and its header.
    fn message(&mut self, _queue: usize, input: &mut Input<'_>) -> Vec<u8> {
        let mut message = vec![input.u8() & 3, input.one_of(&[0, 1, 4, 5, 3, 0x81, 0x80, 2])];
        for _ in 0..4 {
            message.extend(u16::from(input.u8()).to_le_bytes());
        }
        message.extend(input.u16().to_le_bytes());
        let length = match input.u8() {
            short @ 0..=200 => usize::from(short),
            long => usize::from(long - 200) << 9,
        };
        message.resize(message.len() + length, 0xc3);
        message
    }

    fn host_step(&mut self, input: &mut Input<'_>) {
        match input.below(3) {
            0 => drop(self.take_frame()),
            _ => {
                let length = HEADER_BYTES + usize::from(input.u16());
                // The interface's queue may be full.
                drop(self.network.send(&vec![input.u8(); length]));
            }
        }
    }

    fn probe(&mut self, bench: &mut Bench) {
        while self.take_frame().is_some() {}
        let (header, frame) = ([0; HEADER_BYTES], [7; 60]);
        bench.request(TRANSMIT, &[&header, &frame], &[]).expect("a frame is taken");
        assert_eq!(self.take_frame().expect("it arrives"), [&header[..], &frame].concat());

        // Frames from before may still wait; an honest driver has buffers for them all.
        let sizes = [HEADER_BYTES + MAX_FRAME_BYTES];
        let last = [&header[..], b"one last frame for the guest"].concat();
        let mut is_sent = false;
        let arrived = (0..64).any(|_| {
            is_sent = is_sent || self.network.send(&last).is_ok();
            let answer = bench.request(RECEIVE, &[], &sizes);
            answer.is_some_and(|answer| answer.bytes[HEADER_BYTES..].starts_with(b"one last frame"))
        });
        assert!(arrived, "a frame reaches the guest");
    }

    fn check(&mut self) {
        while self.take_frame().is_some() {}
    }
}
