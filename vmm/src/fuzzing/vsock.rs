//! The socket device between a hostile driver and a host that connects, writes, reads, stops and goes away.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use tempfile::TempDir;

use super::bench::Bench;
use super::input::Input;
use super::script::{self, Subject};
use super::simple_devices;
use crate::virtio::Vsock;

const GUEST_CID: u32 = 3;
const HOST_CID: u64 = 2;
const HEADER_BYTES: usize = 44;
const RECEIVE_QUEUE: usize = 0;
const TRANSMIT_QUEUE: usize = 1;
/// Ports of the guest's that connections use.
const GUEST_PORTS: [u32; 4] = [1024, 1025, 0, u32::MAX];
/// Ports at which the host listens, and one at which it does not.
const LISTENING: [u32; 2] = [52, 53];
const NOBODY: u32 = 999;
/// The first port that the device gives to a connection of the host's.
const FIRST_LOCAL_PORT: u32 = (1 << 30) + 1;
const MAX_HOSTS: usize = 8;
const REQUEST: u8 = 1;
const RESET: u16 = 3;

struct VsockSubject {
    _directory: TempDir,
    path: PathBuf,
    listeners: Vec<UnixListener>,
    hosts: Vec<UnixStream>,
}

/// The socket device's queues and the host's sockets.
pub(super) fn vsock(input: &[u8]) {
    thread_local! {
        static SUBJECT: std::cell::RefCell<VsockSubject> = std::cell::RefCell::new(VsockSubject::new());
    }
    SUBJECT.with_borrow_mut(|subject| {
        let device = Vsock::listen(subject.path.clone(), GUEST_CID).expect("nobody listens there");
        let mut bench = Bench::new(Box::new(device));
        script::play(&mut bench, subject, input);
        drop(bench);
        subject.clean_up();
    });
}

fn nothing_to_do(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

impl VsockSubject {
    fn new() -> Self {
        let directory = simple_devices::directory();
        let path = directory.path().join("vsock");
        let listen = |port| {
            let listener = UnixListener::bind(format!("{}_{port}", path.display())).expect("a new directory");
            listener.set_nonblocking(true).expect("a socket");
            listener
        };
        let listeners = LISTENING.map(listen).into();
        Self { _directory: directory, path, listeners, hosts: Vec::new() }
    }

    /// Nothing of one input is left for the next.
    fn clean_up(&mut self) {
        self.hosts.clear();
        for listener in &self.listeners {
            while listener.accept().is_ok() {}
        }
        std::fs::remove_file(&self.path).expect("the device's socket");
    }

    fn add(&mut self, host: UnixStream) {
        host.set_nonblocking(true).expect("a socket");
        if self.hosts.len() < MAX_HOSTS {
            self.hosts.push(host);
        }
    }

    fn connect(&mut self, command: &[u8]) {
        // Too many may wait already.
        if let Ok(mut host) = UnixStream::connect(&self.path) {
            host.write_all(command).expect("an empty socket has room");
            self.add(host);
        }
    }
}

/// `struct virtio_vsock_hdr` (virtio 1.2, section 5.10.6), with contents chosen by the input.
fn header(input: &mut Input<'_>, length: usize) -> [u8; HEADER_BYTES] {
    let kind = input.u8();
    let operation = input.below(9);
    let ports = input.u8();
    let guest_port = GUEST_PORTS[usize::from(ports & 3)];
    let host_port = match ports >> 2 & 7 {
        0 | 1 => LISTENING[usize::from(ports >> 2 & 1)],
        2 => NOBODY,
        nth => FIRST_LOCAL_PORT + u32::from(nth - 3),
    };
    let length = u32::try_from(length).expect("messages are small");
    // One bit each for what a driver gets right.
    let length = if kind & 1 == 0 { length } else { input.u32() };
    let guest_cid = if kind & 2 == 0 { GUEST_CID.into() } else { input.u64() };
    let host_cid = if kind & 4 == 0 { HOST_CID } else { input.u64() };
    let socket_type = if kind & 8 == 0 { 1 } else { input.u16() };
    let buffer_bytes = if kind & 16 == 0 { 1 << 16 } else { input.u32() };
    let forwarded_bytes = if kind & 32 == 0 { u32::from(input.u16()) } else { input.u32() };
    let operation = u16::try_from(operation).expect("below 9");
    encode(&[
        &u64::to_le_bytes(guest_cid),
        &u64::to_le_bytes(host_cid),
        &u32::to_le_bytes(guest_port),
        &u32::to_le_bytes(host_port),
        &u32::to_le_bytes(length),
        &u16::to_le_bytes(socket_type),
        &u16::to_le_bytes(operation),
        &u32::to_le_bytes(u32::from(kind >> 6)),
        &u32::to_le_bytes(buffer_bytes),
        &u32::to_le_bytes(forwarded_bytes),
    ])
}

fn encode(fields: &[&[u8]]) -> [u8; HEADER_BYTES] {
    fields.concat().try_into().expect("the header's fields")
}

impl Subject for VsockSubject {
    fn message(&mut self, queue: usize, input: &mut Input<'_>) -> Vec<u8> {
        if queue != TRANSMIT_QUEUE {
            return input.short_bytes().to_vec();
        }
        let length = match input.u8() {
            short @ 0..=200 => usize::from(short),
            long => usize::from(long - 200) << 9,
        };
        let mut message = header(input, length).to_vec();
        message.resize(HEADER_BYTES + length, 0xd7);
        message
    }

    fn host_step(&mut self, input: &mut Input<'_>) {
        let step = input.below(9);
        let count = self.hosts.len();
        match step {
            0 => {
                let port = input.one_of(&GUEST_PORTS);
                self.connect(format!("CONNECT {port}\n").as_bytes());
            }
            1 => self.connect(input.short_bytes()),
            2 => {
                let accepted: Vec<_> = self.listeners.iter().filter_map(|one| one.accept().ok()).collect();
                accepted.into_iter().for_each(|(host, _)| self.add(host));
            }
            _ if count == 0 => {}
            3 => drop(self.hosts.swap_remove(input.below(count))),
            4 => {
                let side = input.one_of(&[Shutdown::Read, Shutdown::Write, Shutdown::Both]);
                // It may be gone.
                drop(self.hosts[input.below(count)].shutdown(side));
            }
            5 | 6 => {
                let host = &mut self.hosts[input.below(count)];
                let length = if step == 5 { usize::from(input.u8()) } else { usize::from(input.u16()) };
                let written = host.write(&vec![0xe1; length]);
                assert!(written.as_ref().err().is_none_or(nothing_to_do), "{written:?}");
            }
            _ => {
                let host = &mut self.hosts[input.below(count)];
                let mut bytes = vec![0; usize::from(input.u16())];
                let read = host.read(&mut bytes);
                assert!(read.as_ref().err().is_none_or(nothing_to_do), "{read:?}");
            }
        }
    }

    /// A guest that asks for a port at which nobody listens is told so.
    fn probe(&mut self, bench: &mut Bench) {
        self.hosts.clear();
        bench.run();
        let buffers: Vec<_> =
            (0..32).map(|_| bench.offer_honestly(RECEIVE_QUEUE, &[], &[HEADER_BYTES, 64])[0].0).collect();
        let request = encode(&[
            &u64::from(GUEST_CID).to_le_bytes(),
            &HOST_CID.to_le_bytes(),
            &77u32.to_le_bytes(),
            &NOBODY.to_le_bytes(),
            &[0; 4],
            &[1, 0, REQUEST, 0],
            &[0; 12],
        ]);
        let answer = bench.request(TRANSMIT_QUEUE, &[&request], &[]);
        assert!(answer.is_some(), "a packet is taken");
        let is_refusal = |address: &u64| {
            let header = bench.space.read(*address, HEADER_BYTES);
            header[16..24] == [NOBODY.to_le_bytes(), 77u32.to_le_bytes()].concat()
                && header[30..32] == RESET.to_le_bytes()
        };
        assert!(buffers.iter().any(is_refusal), "a refusal arrives");
    }
}
