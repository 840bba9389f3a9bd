//! One connection that carries bytes from the guest to the host in packets of 64 KiB, and the same without a device.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use virtio_queue::Queue;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress};

use super::{processor_time, variable};
use crate::memory::GuestMemoryMmap;
use crate::virtio::test_driver::{self, Driver, NEXT, WRITE};
use crate::virtio::{VirtioDevice, Vsock};

const PACKET_BYTES: u32 = 64 << 10;
const HEADER_BYTES: u32 = 44;
/// Packets under way: what the credit of one connection allows.
const PACKETS: u16 = 4;
/// Receive buffers: for credit updates, which are all that arrives.
const RECEIVE_BUFFERS: u16 = 16;
const MIB: u32 = 1 << 20;
const HOST_PORT: u32 = 52;
const DEADLINE: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };

/// Operations (virtio 1.2, section 5.10.6).
const REQUEST: u16 = 1;
const DATA: u16 = 5;
const CREDIT_REQUEST: u16 = 7;

struct Guest {
    memory: GuestMemoryMmap,
    receive: Driver,
    transmit: Driver,
    queues: [Queue; 3],
    receive_buffers: u64,
    headers: Vec<u64>,
    free: Vec<u16>,
    device: Vsock,
    sent: u32,
    /// As the device last told.
    buffer: u32,
    forwarded: u32,
}

pub(super) fn stream() {
    let mib = variable("BERTH_BENCH_MIB");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vsock.sock");
    let listener = UnixListener::bind(format!("{}_{HOST_PORT}", path.display())).unwrap();
    let mut guest = Guest::new(Vsock::listen(path, 3).unwrap());
    guest.send_header(REQUEST, 0);
    guest.work();
    let reader = read_everything(listener.accept().unwrap().0);
    let (begun, used) = (Instant::now(), processor_time());
    guest.stream(u64::from(mib) * u64::from(MIB));
    report(mib, begun.elapsed(), processor_time() - used);
    drop(guest);
    assert!(reader.join().unwrap() == u64::from(mib) * u64::from(MIB), "bytes got lost");
}

/// A thread that writes as much to a plain socket, in as large pieces.
pub(super) fn plain_stream() {
    let mib = variable("BERTH_BENCH_MIB");
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let reader = read_everything(theirs);
    let bytes = vec![7; PACKET_BYTES as usize];
    let (begun, used) = (Instant::now(), processor_time());
    for _ in 0..mib * (MIB / PACKET_BYTES) {
        ours.write_all(&bytes).unwrap();
    }
    report(mib, begun.elapsed(), processor_time() - used);
    drop(ours);
    reader.join().unwrap();
}

fn report(mib: u32, took: Duration, used: Duration) {
    let gigabytes = f64::from(mib) * f64::from(MIB) / 1e9;
    let (per_second, per_used) = (gigabytes / took.as_secs_f64(), gigabytes / used.as_secs_f64());
    println!("measured: {per_used:.2} GB per CPU-second, {per_second:.2} GB/s");
}

fn read_everything(mut socket: UnixStream) -> JoinHandle<u64> {
    thread::spawn(move || {
        let mut bytes = vec![0; MIB as usize];
        let mut count = 0;
        while let Ok(read @ 1..) = socket.read(&mut bytes) {
            count += read as u64;
        }
        count
    })
}

impl Guest {
    fn new(device: Vsock) -> Self {
        let memory = test_driver::memory(3);
        let (mut receive, receive_queue) = Driver::new(&memory, 0);
        let (mut transmit, transmit_queue) = Driver::new(&memory, 1);
        let (_events, event_queue) = Driver::new(&memory, 2);
        let receive_buffers = receive.reserve(usize::from(RECEIVE_BUFFERS) * 4096);
        for index in 0..RECEIVE_BUFFERS {
            receive.describe(index, Descriptor::new(buffer(receive_buffers, index), 4096, WRITE, 0));
            receive.make_available(index);
        }
        let headers = (0..PACKETS).map(|slot| lay_out(&mut transmit, slot)).collect();
        Self {
            memory,
            receive,
            transmit,
            queues: [receive_queue, transmit_queue, event_queue],
            receive_buffers,
            headers,
            free: (0..PACKETS).collect(),
            device,
            sent: 0,
            buffer: 0,
            forwarded: 0,
        }
    }

    fn stream(&mut self, bytes: u64) {
        let mut left = bytes / u64::from(PACKET_BYTES);
        while left > 0 || self.free.len() < usize::from(PACKETS) {
            while left > 0 && !self.free.is_empty() && self.room() >= PACKET_BYTES {
                self.send_header(DATA, PACKET_BYTES);
                left -= 1;
            }
            let before = (self.forwarded, self.free.len());
            self.work();
            if (self.forwarded, self.free.len()) == before && (left == 0 || self.room() < PACKET_BYTES) {
                self.wait();
            }
        }
        self.settle();
    }

    /// Returns when the host has taken everything.
    fn settle(&mut self) {
        self.send_header(CREDIT_REQUEST, 0);
        self.work();
        while self.forwarded != self.sent {
            self.wait();
            if !self.free.is_empty() {
                self.send_header(CREDIT_REQUEST, 0);
            }
            self.work();
        }
    }

    fn room(&self) -> u32 {
        self.buffer - self.sent.wrapping_sub(self.forwarded)
    }

    fn send_header(&mut self, operation: u16, length: u32) {
        let slot = self.free.pop().expect("a free packet");
        let at = self.headers[usize::from(slot)];
        let mut header = Vec::new();
        for id in [3u64, 2] {
            header.extend(id.to_le_bytes());
        }
        for field in [1024, HOST_PORT, length] {
            header.extend(field.to_le_bytes());
        }
        header.extend([1, 0]);
        header.extend(operation.to_le_bytes());
        for field in [0, 1 << 20, 0] {
            header.extend(u32::to_le_bytes(field));
        }
        self.memory.write_slice(&header, GuestAddress(at)).unwrap();
        self.transmit.make_available(slot * 2);
        self.sent = self.sent.wrapping_add(length);
    }

    /// Notifies the device and takes in what it did.
    fn work(&mut self) {
        let [receive, transmit, events] = &mut self.queues;
        self.device.queue_event(1, &self.memory, &mut [receive, transmit, events]).unwrap();
        self.take_in();
    }

    fn take_in(&mut self) {
        self.free.extend(self.transmit.returned().into_iter().map(|(head, _)| head / 2));
        for (head, _length) in self.receive.returned() {
            let packet = buffer(self.receive_buffers, head);
            [self.buffer, self.forwarded] = self.memory.read_obj(GuestAddress(packet + 36)).unwrap();
            self.receive.make_available(head);
        }
    }

    /// As the event loop does, when there is nothing the guest could send.
    fn wait(&mut self) {
        let fd = self.device.host_fd().unwrap();
        assert_eq!(poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&DEADLINE)).unwrap(), 1);
        let [receive, transmit, events] = &mut self.queues;
        self.device.host_event(&self.memory, &mut [receive, transmit, events]).unwrap();
        self.take_in();
    }
}

fn buffer(first: u64, index: u16) -> u64 {
    first + 4096 * u64::from(index)
}

/// A packet's two descriptors, which stay as they are: where its header lies is the result.
fn lay_out(transmit: &mut Driver, slot: u16) -> u64 {
    let header = transmit.place(&[0; HEADER_BYTES as usize]);
    let data = transmit.reserve(PACKET_BYTES as usize);
    transmit.describe(slot * 2, Descriptor::new(header, HEADER_BYTES, NEXT, slot * 2 + 1));
    transmit.describe(slot * 2 + 1, Descriptor::new(data, PACKET_BYTES, 0, 0));
    header
}
