//! What may pass between a guest and a user-mode network stack.
//!
//! The stack makes a connection to wherever a packet of the guest's is for, with the rights of its own user, in the host's
//! own network: for it there is no difference between a server elsewhere and one on the host's loopback, and packets to its
//! own address are for the host's loopback by design. So the card looks at each frame before the stack does. The guest
//! sends as itself alone, and neither to the loopback's addresses nor, but as an answer, to the stack's own.
//!
//! Fragments are looked at as the stack does: it takes each for a whole packet, and so is each taken here.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Of an Ethernet frame.
const ETHER_TYPE: Range<usize> = 12..14;
const ETHER_BYTES: usize = 14;
const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;

/// Of a packet of IPv4 (RFC 791, section 3.1).
const PROTOCOL: usize = 9;
const SOURCE: Range<usize> = 12..16;
const DESTINATION: Range<usize> = 16..20;
const MIN_HEADER_BYTES: usize = 20;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Of a segment or a datagram.
const SOURCE_PORT: Range<usize> = 0..2;
const DESTINATION_PORT: Range<usize> = 2..4;
const TCP_FLAGS: usize = 13;
const SYN: u8 = 2;
const ACK: u8 = 16;

/// Who is spoken to by UDP may answer for so long: as long as the stack itself remembers.
const ANSWER_WITHIN: Duration = Duration::from_secs(180);
const PORTS: usize = 1 << 16;

/// Who the guest is, and whom it may answer.
#[derive(Debug)]
pub(super) struct Guard {
    guest: Ipv4Addr,
    gateway: Ipv4Addr,
    begun: Instant,
    /// By port of the gateway's: the guest's port that it last sent to, and when. Memory that is not touched costs nothing.
    asked: Box<[Asked]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    guest_port: u16,
    /// Since the beginning, and one: zero is never.
    second: u32,
}

/// What matters of a packet of IPv4.
#[derive(Clone, Copy, Debug)]
struct Packet<'f> {
    protocol: u8,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    payload: &'f [u8],
}

impl Guard {
    pub(super) fn new(guest: Ipv4Addr, gateway: Ipv4Addr) -> Self {
        let asked = vec![Asked::default(); PORTS].into_boxed_slice();
        Self { guest, gateway, begun: Instant::now(), asked }
    }

    /// Whether a frame of the guest's may go out.
    pub(super) fn admits(&self, frame: &[u8]) -> bool {
        match ether_type(frame) {
            Some(ARP) => true,
            Some(IPV4) => Packet::of(frame).is_some_and(|packet| self.admits_packet(packet)),
            _ => false,
        }
    }

    fn admits_packet(&self, packet: Packet<'_>) -> bool {
        let to = packet.destination;
        if packet.source != self.guest || to == self.guest {
            return false;
        }
        // The host takes addresses of "this network" for its own.
        let is_the_hosts = to.is_loopback() || to.octets()[0] == 0;
        if is_the_hosts || to.is_multicast() || to.is_broadcast() {
            return false;
        }
        to != self.gateway || self.admits_to_gateway(packet)
    }

    fn admits_to_gateway(&self, packet: Packet<'_>) -> bool {
        match packet.protocol {
            ICMP => true,
            // A connection that the guest begins would be to the host's loopback; of those that others began, this is none.
            TCP => packet.payload.get(TCP_FLAGS).is_some_and(|flags| flags & (SYN | ACK) != SYN),
            UDP => match (half(packet.payload, SOURCE_PORT), half(packet.payload, DESTINATION_PORT)) {
                (Some(from), Some(to)) => self.was_asked(from, to),
                _ => false,
            },
            _ => false,
        }
    }

    fn was_asked(&self, guest_port: u16, gateway_port: u16) -> bool {
        let asked = self.asked[usize::from(gateway_port)];
        let is_fresh = u64::from(self.second().saturating_sub(asked.second)) < ANSWER_WITHIN.as_secs();
        asked.second > 0 && asked.guest_port == guest_port && is_fresh
    }

    /// A frame goes in. What it asks may be answered.
    pub(super) fn note(&mut self, frame: &[u8]) {
        let packet = Packet::of(frame).filter(|_| ether_type(frame) == Some(IPV4));
        let Some(packet) = packet.filter(|packet| packet.protocol == UDP && packet.source == self.gateway)
        else {
            return;
        };
        let ports = (half(packet.payload, SOURCE_PORT), half(packet.payload, DESTINATION_PORT));
        if let (Some(gateway_port), Some(guest_port)) = ports {
            self.asked[usize::from(gateway_port)] = Asked { guest_port, second: self.second() };
        }
    }

    fn second(&self) -> u32 {
        u32::try_from(self.begun.elapsed().as_secs()).unwrap_or(u32::MAX - 1) + 1
    }
}

impl<'f> Packet<'f> {
    fn of(frame: &'f [u8]) -> Option<Self> {
        let packet = frame.get(ETHER_BYTES..)?;
        let header_bytes = usize::from(packet.first()? & 0xf) * 4;
        let address = |range: Range<usize>| {
            let octets: [u8; 4] = packet.get(range)?.try_into().ok()?;
            Some(Ipv4Addr::from(octets))
        };
        Some(Self {
            protocol: *packet.get(PROTOCOL)?,
            source: address(SOURCE)?,
            destination: address(DESTINATION)?,
            payload: packet.get(header_bytes.max(MIN_HEADER_BYTES)..)?,
        })
    }
}

fn ether_type(frame: &[u8]) -> Option<u16> {
    half(frame, ETHER_TYPE)
}

fn half(bytes: &[u8], range: Range<usize>) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(range)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    fn guard() -> Guard {
        Guard::new(GUEST, GATEWAY)
    }

    fn frame(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; ETHER_BYTES];
        frame[ETHER_TYPE].copy_from_slice(&IPV4.to_be_bytes());
        let mut packet = [0; MIN_HEADER_BYTES];
        (packet[0], packet[PROTOCOL]) = (0x45, protocol);
        packet[SOURCE].copy_from_slice(&source.octets());
        packet[DESTINATION].copy_from_slice(&destination.octets());
        frame.extend(packet);
        frame.extend(payload);
        frame
    }

    fn datagram(from: u16, to: u16) -> Vec<u8> {
        [&from.to_be_bytes()[..], &to.to_be_bytes(), &[0, 8, 0, 0]].concat()
    }

    fn segment(flags: u8) -> Vec<u8> {
        let mut segment = vec![0; 20];
        segment[TCP_FLAGS] = flags;
        segment
    }

    #[test]
    fn a_guest_reaches_others_and_not_the_hosts_loopback() {
        let guard = guard();
        for (to, passes) in [
            ([192, 0, 2, 1], true),
            ([10, 0, 0, 77], true),
            ([127, 0, 0, 1], false),
            ([127, 255, 0, 9], false),
            ([0, 0, 0, 0], false),
            ([0, 1, 2, 3], false),
            ([224, 0, 0, 1], false),
            ([255, 255, 255, 255], false),
            ([10, 0, 0, 2], false),
        ] {
            for (protocol, payload) in [(TCP, segment(SYN)), (UDP, datagram(1, 2)), (ICMP, vec![8; 8])] {
                assert_eq!(guard.admits(&frame(GUEST, to.into(), protocol, &payload)), passes, "{to:?}");
            }
        }
    }

    #[test]
    fn a_guest_is_nobody_but_itself() {
        let guard = guard();
        for source in [[10, 0, 0, 3], [127, 0, 0, 1], [0, 0, 0, 0], [10, 0, 0, 1]] {
            assert!(!guard.admits(&frame(source.into(), [192, 0, 2, 1].into(), UDP, &datagram(1, 2))));
        }
    }

    #[test]
    fn the_gateway_is_answered_and_not_asked() {
        let mut guard = guard();
        let to_gateway = |protocol, payload: &[u8]| frame(GUEST, GATEWAY, protocol, payload);
        assert!(guard.admits(&to_gateway(ICMP, &[8; 8])));
        assert!(!guard.admits(&to_gateway(132, &[0; 20])));
        for (flags, passes) in
            [(SYN, false), (SYN | 1, false), (SYN | 0xc0, false), (SYN | ACK, true), (ACK, true), (4, true)]
        {
            assert_eq!(guard.admits(&to_gateway(TCP, &segment(flags))), passes, "{flags:#x}");
        }
        assert!(!guard.admits(&to_gateway(TCP, &segment(ACK)[..13])), "without flags");

        let answer = to_gateway(UDP, &datagram(53, 40_000));
        assert!(!guard.admits(&answer));
        guard.note(&frame([192, 0, 2, 1].into(), GUEST, UDP, &datagram(40_000, 53)));
        assert!(!guard.admits(&answer), "somebody else asked");
        guard.note(&frame(GATEWAY, GUEST, UDP, &datagram(40_000, 53)));
        assert!(guard.admits(&answer));
        assert!(!guard.admits(&to_gateway(UDP, &datagram(54, 40_000))));
        assert!(!guard.admits(&to_gateway(UDP, &datagram(53, 40_001))));
        assert!(!guard.admits(&to_gateway(UDP, &[0, 53, 0])));
        guard.begun -= ANSWER_WITHIN;
        assert!(!guard.admits(&answer), "too late");
    }

    #[test]
    fn what_is_no_packet_of_ipv4_stays_but_arp() {
        let guard = guard();
        let good = frame(GUEST, [192, 0, 2, 1].into(), UDP, &datagram(1, 2));
        let of_type = |kind: u16| {
            let mut frame = good.clone();
            frame[ETHER_TYPE].copy_from_slice(&kind.to_be_bytes());
            frame
        };
        assert!(guard.admits(&of_type(ARP)));
        assert!(!guard.admits(&of_type(0x86dd)) && !guard.admits(&of_type(0x8100)));
        for length in 0..ETHER_BYTES + MIN_HEADER_BYTES {
            assert!(!guard.admits(&good[..length]), "{length} bytes");
        }
        let mut options_beyond_the_end = good;
        options_beyond_the_end[ETHER_BYTES] = 0x4f;
        assert!(!guard.admits(&options_beyond_the_end));
        let mut odd = guard;
        odd.note(&options_beyond_the_end);
        odd.note(&[]);
    }
}
