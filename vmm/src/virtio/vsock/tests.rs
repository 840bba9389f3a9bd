//! The socket device between real queues and real unix sockets: the test is the guest on one side, the host on the other.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use tempfile::TempDir;

use super::connection::BUFFER_BYTES;
use super::packet::{SHUTDOWN_RECEIVE, SHUTDOWN_SEND, STREAM};
use super::*;
use crate::virtio::test_driver::{self, Driver, Offer};

const GUEST_CID: u64 = 3;
const GUEST_PORT: u32 = 1024;
pub(super) const HOST_PORT: u32 = 52;
/// What the guest says it has room for.
const GUEST_BUFFER: u32 = 1 << 20;

pub(super) struct Bench {
    _directory: TempDir,
    pub(super) path: PathBuf,
    pub(super) memory: GuestMemoryMmap,
    pub(super) receive: Driver,
    transmit: Driver,
    pub(super) receive_queue: Queue,
    pub(super) transmit_queue: Queue,
    offers: Vec<Offer>,
    pub(super) device: Vsock,
}

impl Bench {
    /// A device whose guest has offered no receive buffers yet.
    pub(super) fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("vsock.sock");
        let memory = test_driver::memory(3);
        let (receive, receive_queue) = Driver::new(&memory, 0);
        let (transmit, transmit_queue) = Driver::new(&memory, 1);
        let device = Vsock::listen(path.clone(), 3).unwrap();
        Self {
            _directory: directory,
            path,
            memory,
            receive,
            transmit,
            receive_queue,
            transmit_queue,
            offers: Vec::new(),
            device,
        }
    }

    /// A guest that has offered this many receive buffers of 1044 bytes: 1000 for data.
    pub(super) fn with_buffers(count: usize) -> Self {
        let mut bench = Self::new();
        bench.offer_buffers(count);
        bench
    }

    fn offer_buffers(&mut self, count: usize) {
        for _ in 0..count {
            let offer = self.receive.offer(&[], &[HEADER_BYTES + 1000]);
            self.offers.push(offer);
        }
    }

    pub(super) fn run(&mut self) -> Result<UsedQueues, Broken> {
        let queues = &mut [&mut self.receive_queue, &mut self.transmit_queue];
        let mut used = self.device.queue_event(TRANSMIT_QUEUE, &self.memory, queues)?;
        let later = self.device.host_event(&self.memory, queues)?;
        [RECEIVE_QUEUE, TRANSMIT_QUEUE]
            .into_iter()
            .filter(|queue| later.contains(*queue))
            .for_each(|queue| used.add(queue));
        Ok(used)
    }

    /// The guest sends a packet; the device works.
    pub(super) fn send(&mut self, header: Header, data: &[u8]) {
        self.transmit.offer(&[&header.encode(), data], &[]);
        self.run().unwrap();
        self.transmit.returned();
    }

    /// What arrived at the guest; every buffer used is offered anew.
    pub(super) fn received(&mut self) -> Vec<(Header, Vec<u8>)> {
        self.run().unwrap();
        let mut packets = Vec::new();
        for (head, length) in self.receive.returned() {
            let index = self.offers.iter().position(|offer| offer.head == head).unwrap();
            let bytes = self.receive.written(&self.offers.remove(index));
            let header = Header::decode(bytes[..HEADER_BYTES].try_into().unwrap());
            assert_eq!(
                (header.source_cid, header.destination_cid, header.socket_type),
                (2, GUEST_CID, STREAM)
            );
            assert_eq!(header.length as usize, length - HEADER_BYTES);
            packets.push((header, bytes[HEADER_BYTES..length].to_vec()));
        }
        self.offer_buffers(packets.len());
        packets
    }

    /// The one packet that arrived.
    fn receive_one(&mut self) -> (Header, Vec<u8>) {
        let mut packets = self.received();
        assert_eq!(packets.len(), 1, "{packets:?}");
        packets.remove(0)
    }

    /// The host connects to the guest's port and is accepted; gives its socket and port.
    pub(super) fn connect_from_host(&mut self) -> (UnixStream, u32) {
        let mut host = self.dial();
        let (request, _) = self.receive_one();
        assert_eq!((request.operation, request.destination_port), (Operation::Request, GUEST_PORT));
        self.send(packet(request.source_port, Operation::Response), &[]);
        assert_eq!(read_line(&mut host), format!("OK {}\n", request.source_port));
        (host, request.source_port)
    }

    pub(super) fn dial(&self) -> UnixStream {
        let mut host = UnixStream::connect(&self.path).unwrap();
        host.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        host.write_all(format!("CONNECT {GUEST_PORT}\n").as_bytes()).unwrap();
        host
    }

    /// The guest connects to the host's port; gives the host's socket.
    fn connect_from_guest(&mut self) -> UnixStream {
        let path = format!("{}_{HOST_PORT}", self.path.display());
        let listener = UnixListener::bind(&path).unwrap();
        self.send(packet(HOST_PORT, Operation::Request), &[]);
        assert_eq!(self.receive_one().0.operation, Operation::Response);
        let host = listener.accept().unwrap().0;
        host.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        std::fs::remove_file(path).unwrap();
        host
    }

    pub(super) fn counters(&self) -> crate::control::VsockCounters {
        self.device.statistics().counters()
    }
}

/// A packet from the guest's port to a port of the host.
pub(super) fn packet(host_port: u32, operation: Operation) -> Header {
    Header {
        source_cid: GUEST_CID,
        destination_cid: 2,
        source_port: GUEST_PORT,
        destination_port: host_port,
        length: 0,
        socket_type: STREAM,
        operation,
        flags: 0,
        buffer_bytes: GUEST_BUFFER,
        forwarded_bytes: 0,
    }
}

pub(super) fn data(host_port: u32, length: usize) -> Header {
    Header { length: u32::try_from(length).unwrap(), ..packet(host_port, Operation::ReadWrite) }
}

pub(super) fn shutdown(host_port: u32, flags: u32) -> Header {
    Header { flags, ..packet(host_port, Operation::Shutdown) }
}

fn read_line(host: &mut UnixStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.last() != Some(&b'\n') {
        host.read_exact(&mut byte).unwrap();
        line.extend(byte);
    }
    String::from_utf8(line).unwrap()
}

fn read(host: &mut UnixStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    host.read_exact(&mut bytes).unwrap();
    bytes
}

fn assert_end(host: &mut UnixStream) {
    assert_eq!(host.read(&mut [0; 16]).unwrap(), 0);
}

#[test]
fn the_host_connects_and_bytes_flow_both_ways() {
    let mut bench = Bench::with_buffers(8);
    let (mut host, port) = bench.connect_from_host();
    bench.send(data(port, 5), b"hello");
    assert_eq!(read(&mut host, 5), b"hello");
    host.write_all(b"world").unwrap();
    let (header, bytes) = bench.receive_one();
    assert_eq!((header.operation, &bytes[..]), (Operation::ReadWrite, &b"world"[..]));
    assert_eq!(header.forwarded_bytes, 5);
    let counters = bench.counters();
    assert_eq!((counters.connections, counters.to_host_bytes, counters.to_guest_bytes), (1, 5, 5));
}

#[test]
fn the_guest_connects_to_the_socket_of_its_port() {
    let mut bench = Bench::with_buffers(8);
    let mut host = bench.connect_from_guest();
    bench.send(data(HOST_PORT, 5), b"ready");
    assert_eq!(read(&mut host, 5), b"ready");
}

#[test]
fn a_port_nobody_listens_on_is_refused() {
    let mut bench = Bench::with_buffers(8);
    bench.send(packet(HOST_PORT, Operation::Request), &[]);
    let (reset, _) = bench.receive_one();
    assert_eq!(reset.operation, Operation::Reset);
    assert_eq!((reset.source_port, reset.destination_port), (HOST_PORT, GUEST_PORT));
    assert_eq!(bench.counters().refused_packets, 1);
}

#[test]
fn a_host_that_the_guest_refuses_sees_its_socket_close() {
    let mut bench = Bench::with_buffers(8);
    let mut host = bench.dial();
    let (request, _) = bench.receive_one();
    bench.send(packet(request.source_port, Operation::Reset), &[]);
    assert_end(&mut host);
    assert_eq!(bench.received(), []);
}

#[test]
fn a_host_waits_for_a_guest_that_is_not_there_yet() {
    let mut bench = Bench::new();
    let _host = bench.dial();
    let gone = bench.dial();
    assert_eq!(bench.run().unwrap(), UsedQueues::NONE);
    drop(gone);
    bench.run().unwrap();
    bench.device.reset();
    bench.offer_buffers(4);
    assert_eq!(bench.receive_one().0.operation, Operation::Request, "for the host that still waits");
}

#[test]
fn many_buffers_are_filled_by_one_read() {
    let mut bench = Bench::with_buffers(20);
    let (mut host, _) = bench.connect_from_host();
    let bytes: Vec<u8> = (0..2500u32).map(|n| n.to_le_bytes()[0]).collect();
    host.write_all(&bytes).unwrap();
    let packets = bench.received();
    let lengths: Vec<u32> = packets.iter().map(|(header, _)| header.length).collect();
    assert_eq!(lengths, [1000, 1000, 500]);
    assert_eq!(packets.into_iter().flat_map(|(_, bytes)| bytes).collect::<Vec<_>>(), bytes);
}

#[test]
fn nothing_is_sent_beyond_the_guests_credit() {
    let mut bench = Bench::with_buffers(20);
    let (mut host, port) = bench.connect_from_host();
    bench.send(Header { buffer_bytes: 100, ..packet(port, Operation::CreditUpdate) }, &[]);
    host.write_all(&[1; 250]).unwrap();
    let packets = bench.received();
    assert_eq!(packets[0].0.length, 100);
    assert_eq!(packets[1].0.operation, Operation::CreditRequest);
    assert_eq!(packets.len(), 2);
    let credit = Header { buffer_bytes: 100, forwarded_bytes: 100, ..packet(port, Operation::CreditUpdate) };
    bench.send(credit, &[]);
    assert_eq!(bench.received()[0].0.length, 100);
}

#[test]
fn a_slow_host_keeps_the_guests_bytes_within_its_credit() {
    let mut bench = Bench::with_buffers(20);
    let (mut host, port) = bench.connect_from_host();
    let chunk = vec![7; 16 << 10];
    let mut sent = 0;
    let mut told = 0;
    // Until the guest, were it honest, would wait for credit.
    while sent + chunk.len() <= told + BUFFER_BYTES as usize {
        bench.send(data(port, chunk.len()), &chunk);
        sent += chunk.len();
        for (header, _) in bench.received() {
            assert_eq!(header.operation, Operation::CreditUpdate);
            told = header.forwarded_bytes as usize;
        }
    }
    assert!(told < sent, "the socket is full");
    let mut arrived = 0;
    while arrived < sent {
        arrived += host.read(&mut [0; 65536]).unwrap();
        for (header, _) in bench.received() {
            told = header.forwarded_bytes as usize;
        }
    }
    assert_eq!(arrived, sent, "everything arrives once the host reads");
    assert!(sent - told < BUFFER_BYTES as usize / 2, "and the guest knows that it may go on");
}

#[test]
fn a_guest_beyond_its_credit_is_cut_off() {
    let mut bench = Bench::with_buffers(20);
    let (_host, port) = bench.connect_from_host();
    let chunk = vec![7; 64 << 10];
    let cut_off = (0..64).any(|_| {
        bench.send(data(port, chunk.len()), &chunk);
        bench.received().iter().any(|(header, _)| header.operation == Operation::Reset)
    });
    assert!(cut_off);
}

#[test]
fn the_host_half_closes_and_still_reads() {
    let mut bench = Bench::with_buffers(8);
    let (mut host, port) = bench.connect_from_host();
    host.write_all(b"last words").unwrap();
    host.shutdown(Shutdown::Write).unwrap();
    let packets = bench.received();
    assert_eq!(packets[0].1, b"last words");
    assert_eq!((packets[1].0.operation, packets[1].0.flags), (Operation::Shutdown, SHUTDOWN_SEND));
    bench.send(data(port, 6), b"answer");
    assert_eq!(read(&mut host, 6), b"answer");
    bench.send(shutdown(port, SHUTDOWN_RECEIVE | SHUTDOWN_SEND), &[]);
    assert_eq!(bench.receive_one().0.operation, Operation::Reset);
    assert_end(&mut host);
}

#[test]
fn a_host_that_is_gone_ends_both_directions() {
    let mut bench = Bench::with_buffers(8);
    let (mut host, port) = bench.connect_from_host();
    host.write_all(b"bye").unwrap();
    drop(host);
    let packets = bench.received();
    assert_eq!(packets[0].1, b"bye");
    assert_eq!(packets[1].0.flags, SHUTDOWN_SEND | SHUTDOWN_RECEIVE);
    bench.send(data(port, 9), b"too late,");
    bench.send(packet(port, Operation::CreditRequest), &[]);
    assert_eq!(bench.receive_one().0.forwarded_bytes, 9, "taken and thrown away");
}

#[test]
fn the_guest_half_closes_and_still_reads() {
    let mut bench = Bench::with_buffers(8);
    let (mut host, port) = bench.connect_from_host();
    bench.send(data(port, 4), b"done");
    bench.send(shutdown(port, SHUTDOWN_SEND), &[]);
    assert_eq!(read(&mut host, 4), b"done");
    assert_end(&mut host);
    host.write_all(b"reply").unwrap();
    assert_eq!(bench.receive_one().1, b"reply");
}

#[test]
fn a_guest_that_reads_no_more_stops_the_host_writing() {
    let mut bench = Bench::with_buffers(8);
    let (mut host, port) = bench.connect_from_host();
    bench.send(shutdown(port, SHUTDOWN_RECEIVE), &[]);
    assert_eq!(host.write_all(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    bench.send(data(port, 5), b"still");
    assert_eq!(read(&mut host, 5), b"still");
}

#[test]
fn the_last_bytes_of_a_guest_that_is_gone_still_arrive() {
    let mut bench = Bench::with_buffers(20);
    let (mut host, port) = bench.connect_from_host();
    let chunk = vec![9; BUFFER_BYTES as usize];
    bench.send(data(port, 200_000), &chunk[..200_000]);
    bench.received();
    bench.send(data(port, 200_000), &chunk[..200_000]);
    bench.send(shutdown(port, SHUTDOWN_RECEIVE | SHUTDOWN_SEND), &[]);
    assert!(bench.received().iter().any(|(header, _)| header.operation == Operation::Reset));
    let mut arrived = 0;
    while arrived < 400_000 {
        arrived += host.read(&mut [0; 65536]).unwrap();
        bench.run().unwrap();
    }
    assert_eq!(arrived, 400_000);
    assert_end(&mut host);
}

#[test]
fn packets_to_nobody_are_refused_and_resets_are_not() {
    use Operation::*;
    let mut bench = Bench::with_buffers(20);
    for operation in [Response, Shutdown, ReadWrite, CreditUpdate, CreditRequest, Unknown(77)] {
        bench.send(packet(99, operation), &[]);
        assert_eq!(bench.receive_one().0.operation, Reset, "{operation:?}");
    }
    bench.send(packet(99, Reset), &[]);
    assert_eq!(bench.received(), []);
}

#[test]
fn packets_that_lie_about_who_and_what_are_refused() {
    let mut bench = Bench::with_buffers(20);
    let (mut host, port) = bench.connect_from_host();
    bench.send(Header { source_cid: 4, ..data(port, 1) }, b"x");
    assert_eq!(bench.received(), [], "nobody to answer");
    bench.send(Header { socket_type: 2, ..data(port, 1) }, b"x");
    bench.run().unwrap();
    let refusal = bench.receive.returned();
    assert_eq!(refusal.len(), 1);
    bench.send(Header { destination_cid: 1, ..data(port, 1) }, b"x");
    assert_eq!(bench.receive.returned().len(), 1);
    bench.send(data(port, 2), b"ok");
    assert_eq!(read(&mut host, 2), b"ok", "the connection is unharmed");
    bench.send(data(port, 100), b"fewer bytes than said");
    assert_end(&mut host);
}

#[test]
fn a_connection_reset_by_the_guest_closes_the_hosts_socket() {
    let mut bench = Bench::with_buffers(8);
    let (mut host, port) = bench.connect_from_host();
    bench.send(packet(port, Operation::Reset), &[]);
    assert_end(&mut host);
}

#[test]
fn a_guest_that_takes_no_packets_is_not_heard_for_ever() {
    let mut bench = Bench::new();
    for _ in 0..2000 {
        bench.transmit.offer(&[&packet(99, Operation::ReadWrite).encode()], &[]);
        bench.run().unwrap();
    }
    let taken = bench.transmit.returned().len();
    assert!(taken <= 256, "{taken} packets were answered, and nowhere to put the answers");
}

#[test]
fn connections_take_turns() {
    let mut bench = Bench::with_buffers(2);
    let (mut one, port_one) = bench.connect_from_host();
    let (mut two, _) = bench.connect_from_host();
    one.write_all(&[1; 30_000]).unwrap();
    two.write_all(&[2; 30_000]).unwrap();
    let mut from_one = 0;
    for _ in 0..10 {
        from_one += bench.received().iter().filter(|(header, _)| header.source_port == port_one).count();
    }
    assert!((8..=12).contains(&from_one), "{from_one} of 20 buffers");
}

#[test]
fn hundreds_of_connections_live_at_once() {
    let mut bench = Bench::with_buffers(32);
    let mut hosts: Vec<(UnixStream, u32)> = (0..200).map(|_| bench.connect_from_host()).collect();
    for (host, port) in &mut hosts {
        bench.send(data(*port, 4), &port.to_le_bytes());
        assert_eq!(read(host, 4), port.to_le_bytes());
    }
    hosts.clear();
    let ends: usize = std::iter::repeat_with(|| bench.received().len()).take(50).sum();
    assert_eq!(ends, 200);
}

#[test]
fn a_reset_device_forgets_the_guest_and_serves_the_next() {
    let mut bench = Bench::with_buffers(8);
    let (mut host, _) = bench.connect_from_host();
    bench.device.reset();
    assert_end(&mut host);
    let (mut host, port) = bench.connect_from_host();
    bench.send(data(port, 2), b"hi");
    assert_eq!(read(&mut host, 2), b"hi");
}

#[test]
fn buffers_and_headers_too_small_break_the_device() {
    let mut bench = Bench::new();
    bench.receive.offer(&[], &[HEADER_BYTES]);
    let _host = bench.dial();
    assert!(bench.run().is_err());
    let mut bench = Bench::new();
    bench.transmit.offer(&[&[0; HEADER_BYTES - 1]], &[]);
    assert!(bench.run().is_err());
}

#[test]
fn a_host_that_dies_with_bytes_untaken_frees_them() {
    let mut bench = Bench::with_buffers(20);
    let (host, port) = bench.connect_from_host();
    let chunk = vec![7; 16 << 10];
    for _ in 0..16 {
        bench.send(data(port, chunk.len()), &chunk);
        bench.received();
    }
    drop(host);
    let ends = bench.received();
    let (shutdown, _) = ends.last().unwrap();
    assert_eq!((shutdown.operation, shutdown.flags), (Operation::Shutdown, SHUTDOWN_SEND | SHUTDOWN_RECEIVE));
    assert_eq!(shutdown.forwarded_bytes as usize, 16 * chunk.len(), "thrown away, and said so");
    assert_eq!(bench.device.switchboard.untaken_bytes(), 0);
}
