//! A small world for tests: bridges, cards and a way out in the network namespace of the calling thread, and the frames
//! that go over them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};

use super::links::{Bridge, Links};
use super::parameters::{Ipv6, enable_forwarding, prepare_bridge};
use super::pools::IpVersion;

/// What the kernel puts before a frame of a TAP interface with virtio headers.
const VIRTIO_HEADER_BYTES: usize = 10;
/// A frame that comes at all comes at once; hosts under load are slow.
const DEADLINE: Duration = Duration::from_secs(20);

const ETHER_IPV4: u16 = 0x0800;
const ETHER_ARP: u16 = 0x0806;
const ETHER_IPV6: u16 = 0x86dd;

/// An Ethernet frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame(Vec<u8>);

pub(super) struct Lan {
    links: Links,
    cards: std::cell::RefCell<HashMap<String, File>>,
}

impl Lan {
    pub(super) fn new() -> Self {
        enable_forwarding(IpVersion::V4).unwrap();
        ip(&["link", "set", "lo", "up"]);
        Self { links: Links::open("berth:test".into()).unwrap(), cards: std::cell::RefCell::default() }
    }

    /// A bridge with cards on it. Returns the bridge's MAC address.
    pub(super) async fn network(&self, bridge: &str, address: &str, cards: &[&str]) -> [u8; 6] {
        let addresses = vec![address.parse().unwrap()];
        self.links.ensure_bridge(&Bridge { name: bridge.into(), addresses, mtu: 1500 }).await.unwrap();
        prepare_bridge(bridge, Ipv6::Off).unwrap();
        for card in cards {
            self.links.make_card(card, bridge, 1500).await.unwrap();
            self.hold(card);
        }
        mac_of(bridge)
    }

    /// A link to other hosts, `out0`. Returns its MAC address.
    pub(super) async fn outside(&self, address: &str) -> [u8; 6] {
        berth_vmm::make_tap("out0").unwrap();
        self.hold("out0");
        ip(&["address", "add", address, "dev", "out0"]);
        ip(&["link", "set", "out0", "up"]);
        mac_of("out0")
    }

    /// In the place of a machine.
    fn hold(&self, name: &str) {
        let descriptor = berth_vmm::open_tap(name).unwrap();
        fcntl_setfl(&descriptor, OFlags::NONBLOCK).unwrap();
        self.cards.borrow_mut().insert(name.to_owned(), descriptor.into());
    }

    /// Spares the tests the answers to the host's ARP requests.
    pub(super) fn neighbour(&self, address: &str, link: &str, mac: [u8; 6]) {
        let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
        ip(&["neighbour", "replace", address, "lladdr", &mac, "dev", link]);
    }

    /// As the guest behind the card would.
    pub(super) fn send(&self, card: &str, frame: &Frame) {
        let cards = self.cards.borrow();
        let written =
            (&cards[card]).write(&[&[0; VIRTIO_HEADER_BYTES], frame.0.as_slice()].concat()).unwrap();
        assert_eq!(written, VIRTIO_HEADER_BYTES + frame.0.len());
    }

    /// All that arrives at the card, up to the frame that is looked for.
    pub(super) fn until(&self, card: &str, is_it: impl Fn(&Frame) -> bool) -> Vec<Frame> {
        let end = Instant::now() + DEADLINE;
        let mut seen = Vec::new();
        while Instant::now() < end {
            let Some(frame) = self.next(card) else { continue };
            seen.push(frame);
            if seen.last().is_some_and(&is_it) {
                return seen;
            }
        }
        panic!("what was looked for did not arrive at {card}, only {seen:?}");
    }

    pub(super) fn arrives(&self, card: &str, is_it: impl Fn(&Frame) -> bool) -> bool {
        !self.until(card, is_it).is_empty()
    }

    fn next(&self, card: &str) -> Option<Frame> {
        let cards = self.cards.borrow();
        let mut file = &cards[card];
        let mut buffer = [0; 2048];
        match file.read(&mut buffer) {
            Ok(length) => return Some(Frame(buffer[VIRTIO_HEADER_BYTES..length].to_vec())),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        let soon = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        poll(&mut [PollFd::new(&file, PollFlags::IN)], Some(&soon)).unwrap();
        None
    }

    pub(super) fn host_sends_udp(&self, to: &str) {
        UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"hello", to).unwrap();
    }

    /// The connection is never answered; what counts is its first packet.
    pub(super) fn host_connects(&self, to: &str) -> JoinHandle<()> {
        let to = to.parse().unwrap();
        let connect = move || drop(TcpStream::connect_timeout(&to, Duration::from_millis(300)));
        // A thread begins in its maker's namespace.
        std::thread::spawn(connect)
    }
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().unwrap();
    assert!(status.success(), "ip {arguments:?}");
}

/// The thread's own: /sys shows those of the namespace it was mounted in.
fn mac_of(link: &str) -> [u8; 6] {
    let output = Command::new("ip").args(["-brief", "link", "show", "dev", link]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mac = text.split_whitespace().find(|word| word.matches(':').count() == 5).unwrap();
    let bytes: Vec<u8> = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

impl Frame {
    pub(super) fn new(to: [u8; 6], from: [u8; 6], kind: u16, payload: &[u8]) -> Self {
        Self([&to[..], &from, &kind.to_be_bytes(), payload].concat())
    }

    pub(super) fn with_bytes(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn kind(&self) -> u16 {
        u16::from_be_bytes([self.0[12], self.0[13]])
    }

    pub(super) fn is_arp_request_for(&self, address: IpAddr) -> bool {
        self.kind() == ETHER_ARP && self.0[20..22] == [0, 1] && self.0[38..42] == octets(address)
    }

    /// Of a packet of IPv4.
    pub(super) fn source(&self) -> Option<IpAddr> {
        let octets: [u8; 4] = self.0.get(26..30)?.try_into().ok()?;
        (self.kind() == ETHER_IPV4).then(|| octets.into())
    }

    fn ports_of(&self, protocol: u8) -> Option<(u16, u16)> {
        let port = |at: usize| Some(u16::from_be_bytes(self.0.get(at..at + 2)?.try_into().ok()?));
        (self.kind() == ETHER_IPV4 && self.0[23] == protocol).then_some(())?;
        Some((port(34)?, port(36)?))
    }

    /// Where a datagram of IPv4 is for.
    pub(super) fn udp_port(&self) -> Option<u16> {
        self.ports_of(17).map(|(_from, to)| to)
    }

    /// From where a segment of IPv4 comes, and where it is for.
    pub(super) fn tcp_ports(&self) -> Option<(u16, u16)> {
        self.ports_of(6)
    }
}

pub(super) fn arp_request(from: [u8; 6], sender: IpAddr, target: IpAddr) -> Frame {
    let fixed = [0, 1, 8, 0, 6, 4, 0, 1];
    let payload = [&fixed[..], &from, &octets(sender), &[0; 6], &octets(target)].concat();
    Frame::new([0xff; 6], from, ETHER_ARP, &payload)
}

pub(super) fn ipv4_udp(
    from: [u8; 6],
    to: [u8; 6],
    source: IpAddr,
    target: IpAddr,
    port: u16,
    to_port: u16,
) -> Frame {
    // A checksum of zero is none.
    let datagram =
        [&port.to_be_bytes()[..], &to_port.to_be_bytes(), &12_u16.to_be_bytes(), &[0, 0], b"test"].concat();
    Frame::new(to, from, ETHER_IPV4, &ipv4(17, source, target, &datagram))
}

pub(super) fn ipv4_tcp_syn(
    from: [u8; 6],
    to: [u8; 6],
    source: IpAddr,
    target: IpAddr,
    port: u16,
    to_port: u16,
) -> Frame {
    let mut segment =
        [&port.to_be_bytes()[..], &to_port.to_be_bytes(), &[0; 8], &[0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]]
            .concat();
    let pseudo_header = [octets(source), octets(target), vec![0, 6, 0, 20]].concat();
    let sum = checksum(&[pseudo_header, segment.clone()].concat());
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    Frame::new(to, from, ETHER_IPV4, &ipv4(6, source, target, &segment))
}

fn ipv4(protocol: u8, source: IpAddr, target: IpAddr, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let mut header =
        [&[0x45, 0][..], &length, &[0, 0, 0, 0, 64, protocol, 0, 0], &octets(source), &octets(target)]
            .concat();
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [header, payload.to_vec()].concat()
}

pub(super) fn ipv6_udp(from: [u8; 6], to: [u8; 6], source: IpAddr, target: IpAddr) -> Frame {
    let datagram = [0, 1, 0, 2, 0, 8, 0, 0];
    Frame::new(to, from, ETHER_IPV6, &ipv6(17, source, target, &datagram))
}

/// Nobody but the filter reads it: it has no checksum.
pub(super) fn neighbour_advertisement(from: [u8; 6], to: [u8; 6], source: IpAddr, of: IpAddr) -> Frame {
    let message = [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &octets(of)].concat();
    let all: IpAddr = "ff02::1".parse().unwrap();
    Frame::new(to, from, ETHER_IPV6, &ipv6(58, source, all, &message))
}

fn ipv6(protocol: u8, source: IpAddr, target: IpAddr, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[0x60, 0, 0, 0][..], &length, &[protocol, 255], &octets(source), &octets(target), payload].concat()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}
