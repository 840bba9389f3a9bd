//! The network card between a hostile driver and a network stack that says anything, over a stream that is cut anywhere.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;

use super::bench::Bench;
use super::input::Input;
use super::script::{self, Subject};
use crate::config::{CardRates, MacAddress};
use crate::virtio::{Gateway, HostEnd, NetworkCard};

const TRANSMIT: usize = 1;
/// `struct virtio_net_hdr_v1` (virtio 1.2, section 5.1.6).
const HEADER_BYTES: usize = 12;
const MIN_FRAME_BYTES: usize = 14;
const MAX_FRAME_BYTES: usize = 65535 + 18;
const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const ETHER_IPV4: [u8; 2] = [8, 0];
const ETHER_ARP: [u8; 2] = [8, 6];
const SYN: u8 = 2;
const ACK: u8 = 16;

struct GatewaySubject {
    stack: UnixStream,
    /// Read and not a whole frame yet.
    unread: Vec<u8>,
    /// Something was said that is no frame: the card hangs up, and a frame may have been cut.
    said_nonsense: bool,
}

/// The card's queues and the stack behind it.
pub(super) fn gateway(input: &[u8]) {
    let (stack, ours) = UnixStream::pair().expect("the host has descriptors");
    stack.set_nonblocking(true).expect("a socket");
    let gateway = Gateway::of_socket(ours, GUEST, ADDRESS).expect("a socket");
    let end = HostEnd::Gateway(Box::new(gateway));
    let card = NetworkCard::new(Some(end), MAC, Some(1500), CardRates::default());
    let card = card.expect("the host has descriptors");
    let mut subject = GatewaySubject { stack, unread: Vec::new(), said_nonsense: false };
    script::play(&mut Bench::new(Box::new(card)), &mut subject, input);
}

impl GatewaySubject {
    /// What the stack is given next: whole frames, and never one to the host's loopback or from somebody else.
    fn take_frame(&mut self) -> Option<Vec<u8>> {
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = self.stack.read(&mut bytes) {
            self.unread.extend_from_slice(&bytes[..length]);
        }
        let (length, rest) = self.unread.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        let bounds = MIN_FRAME_BYTES..=MAX_FRAME_BYTES;
        assert!(bounds.contains(&length), "a frame of {length} bytes");
        let frame = rest.get(..length)?.to_vec();
        self.unread.drain(..4 + length);
        check_frame(&frame);
        Some(frame)
    }

    fn say(&mut self, bytes: &[u8]) {
        // The card may have hung up; a stream that is full takes a part, behind which nothing makes sense.
        let said = self.stack.write(bytes);
        self.said_nonsense |= said.is_ok_and(|length| length < bytes.len());
    }
}

fn check_frame(frame: &[u8]) {
    if frame[12..14] == ETHER_ARP {
        return;
    }
    assert_eq!(frame[12..14], ETHER_IPV4, "the stack is given this version alone");
    let address = |at: usize| <[u8; 4]>::try_from(&frame[14 + at..18 + at]).map(Ipv4Addr::from);
    let (source, destination) = (address(12).expect("four"), address(16).expect("four"));
    assert_eq!(source, GUEST);
    assert!(!destination.is_loopback() && destination.octets()[0] != 0, "to {destination}");
    let header_bytes = usize::from(frame[14] & 0xf).max(5) * 4;
    if destination == ADDRESS && frame[23] == 6 {
        assert_ne!(frame[14 + header_bytes + 13] & (SYN | ACK), SYN, "a connection to the host");
    }
}

/// A packet of IPv4 with a port's worth of everything behind it.
fn packet(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, rest: [u8; 14]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend(ETHER_IPV4);
    frame.extend([0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0]);
    frame.extend(source.octets());
    frame.extend(destination.octets());
    frame.extend(rest);
    frame
}

fn chosen_packet(input: &mut Input<'_>) -> Vec<u8> {
    let addresses = [GUEST, ADDRESS, Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(192, 0, 2, 1)];
    let (source, destination) = (input.one_of(&addresses), input.one_of(&addresses));
    let protocol = input.one_of(&[17, 6, 1, 132]);
    let mut rest = [0; 14];
    rest[1] = input.u8() & 3;
    rest[3] = input.u8() & 3;
    rest[13] = input.u8();
    let mut frame = packet(source, destination, protocol, rest);
    if input.flag() {
        frame.truncate(input.below(64));
    }
    if input.flag()
        && let Some(byte) = frame.get_mut(input.below(32))
    {
        *byte = input.u8();
    }
    frame
}

impl Subject for GatewaySubject {
    fn message(&mut self, _queue: usize, input: &mut Input<'_>) -> Vec<u8> {
        let mut message = vec![0; HEADER_BYTES];
        message[0] = input.u8() & 1;
        message.extend(chosen_packet(input));
        message
    }

    fn host_step(&mut self, input: &mut Input<'_>) {
        match input.below(4) {
            0 => drop(self.take_frame()),
            1 => {
                self.said_nonsense = true;
                self.say(input.short_bytes());
            }
            2 => {
                let frame = vec![input.u8(); MIN_FRAME_BYTES + usize::from(input.u16())];
                let length = u32::try_from(frame.len()).expect("short");
                self.say(&[&length.to_be_bytes()[..], &frame].concat());
            }
            _ => {
                let frame = chosen_packet(input);
                self.said_nonsense |= frame.len() < MIN_FRAME_BYTES;
                let length = u32::try_from(frame.len()).expect("short");
                self.say(&[&length.to_be_bytes()[..], &frame].concat());
            }
        }
    }

    fn probe(&mut self, bench: &mut Bench) {
        while self.take_frame().is_some() {}
        let good = packet(GUEST, Ipv4Addr::new(192, 0, 2, 1), 17, [1; 14]);
        bench.request(TRANSMIT, &[&[0; HEADER_BYTES], &good], &[]).expect("a frame is taken");
        if !self.said_nonsense {
            assert_eq!(self.take_frame().expect("it arrives"), good);
        }
    }

    fn check(&mut self) {
        while self.take_frame().is_some() {}
    }
}
