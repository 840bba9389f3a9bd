//! A share with a real server, asked for a file through the queues in shared memory; and with servers that misbehave.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vmm_sys_util::eventfd::EFD_NONBLOCK;

use super::*;
use crate::virtio::test_driver::{self, Driver};

/// Where Debian has it (package qemu-system-common).
const VIRTIOFSD: &str = "/usr/lib/qemu/virtiofsd";
const DEADLINE: Duration = Duration::from_secs(20);
const VERSION_1: u64 = 1 << VIRTIO_F_VERSION_1;
const REQUESTS: usize = 1;

/// A server of a directory with one file in it. Ends with the test.
pub(crate) struct RealServer {
    process: Child,
    directory: TempDir,
}

impl RealServer {
    pub(crate) const TEXT: &str = "read through a share\n";

    /// `None`, and said so, where there is none.
    pub(crate) fn start() -> Option<Self> {
        if !Path::new(VIRTIOFSD).exists() {
            crate::stub_guest::skip(&format!("there is no {VIRTIOFSD}"));
            return None;
        }
        if !rustix::process::geteuid().is_root() {
            crate::stub_guest::skip(&format!("{VIRTIOFSD} needs root"));
            return None;
        }
        let directory = TempDir::new().unwrap();
        let shared = directory.path().join("shared");
        std::fs::create_dir(&shared).unwrap();
        std::fs::write(shared.join("file"), Self::TEXT).unwrap();
        // Who connects before it serves waits.
        let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
        let mut command = Command::new(VIRTIOFSD);
        command.args(["--fd=0", "-o", &format!("source={}", shared.display())]);
        command.stdin(OwnedFd::from(listener)).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().unwrap();
        Some(Self { process, directory })
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// Ends the server of `share`. A child of its own goes on for a moment.
    pub(crate) fn kill(&mut self, share: &Share) {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let deadline = Timespec::try_from(DEADLINE).unwrap();
        let fd = share.host_fd().unwrap();
        assert_eq!(poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&deadline)).unwrap(), 1);
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// A driver that speaks FUSE.
struct Bench {
    memory: GuestMemoryMmap,
    drivers: Vec<Driver>,
    queues: Vec<Queue>,
    kicks: Vec<EventFd>,
    call: EventFd,
    share: Share,
}

impl Bench {
    fn new(share: Share) -> Self {
        let memory = crate::memory::allocate_shareable(16 << 20).unwrap();
        let (drivers, queues) = (0..2).map(|index| Driver::new(&memory, index)).unzip();
        let event = || EventFd::new(EFD_NONBLOCK).unwrap();
        Self { memory, drivers, queues, kicks: vec![event(), event()], call: event(), share }
    }

    fn start(&mut self) -> Result<(), Broken> {
        let Self { memory, queues, kicks, call, .. } = self;
        self.share.activate(VERSION_1);
        self.share.hand_over(&Wires { memory, queues, kicks, call })
    }

    /// Asks something of node `node`; gives the error number and what came with it.
    fn ask(&mut self, opcode: u32, node: u64, body: &[u8], room: usize) -> (i32, Vec<u8>) {
        let length = u32::try_from(40 + body.len()).unwrap();
        let header =
            [&length.to_le_bytes()[..], &opcode.to_le_bytes(), &[7; 8], &node.to_le_bytes(), &[0; 16]]
                .concat();
        // Empty buffers are none that a server takes.
        let readable: Vec<&[u8]> = [&header, body].into_iter().filter(|part| !part.is_empty()).collect();
        let writable: Vec<usize> = [16, room].into_iter().filter(|room| *room > 0).collect();
        let offer = self.drivers[REQUESTS].offer(&readable, &writable);
        self.kicks[REQUESTS].write(1).unwrap();
        let end = Instant::now() + DEADLINE;
        let returned = loop {
            let returned = self.drivers[REQUESTS].returned();
            if !returned.is_empty() {
                break returned;
            }
            assert!(Instant::now() < end, "request {opcode} is not answered");
            std::thread::sleep(Duration::from_millis(1));
        };
        assert_eq!(returned[0].0, offer.head);
        let bytes = self.drivers[REQUESTS].written(&offer);
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| bytes[at + byte]));
        let (length, error) = (word(0) as usize, word(4).cast_signed());
        assert_eq!((length, &bytes[8..16]), (returned[0].1, &[7; 8][..]));
        (error, bytes[16..length].to_vec())
    }

    /// Reads the file as a kernel would.
    fn read_file(&mut self) -> String {
        const ROOT: u64 = 1;
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        let (error, init) = self.ask(26, 0, &words(&[7, 31, 1 << 16, 0]), 64);
        assert_eq!((error, &init[..4]), (0, &7u32.to_le_bytes()[..]), "FUSE, version 7");
        let (error, entry) = self.ask(1, ROOT, b"file\0", 128);
        assert_eq!(error, 0);
        let node = u64::from_le_bytes(entry[..8].try_into().unwrap());
        let (error, open) = self.ask(14, node, &words(&[0, 0]), 16);
        assert_eq!(error, 0);
        let read = [&open[..8], &[0; 8], &words(&[4096, 0]), &[0; 16]].concat();
        let (error, bytes) = self.ask(15, node, &read, 4096);
        assert_eq!(error, 0);
        assert_eq!(self.ask(1, ROOT, b"missing\0", 128).0, -libc::ENOENT);
        String::from_utf8(bytes).unwrap()
    }
}

#[test]
fn a_file_is_read_through_the_queues_and_the_driver_is_called() {
    let Some(server) = RealServer::start() else { return };
    let mut bench = Bench::new(Share::connect("data", &server.socket()).unwrap());
    bench.start().unwrap();
    assert_eq!(bench.read_file(), RealServer::TEXT);
    assert!(bench.call.read().is_ok(), "interrupts come from the server itself");
    assert!(bench.share.server.as_ref().unwrap().interruption().is_none());

    // Another driver, after a reset: the same server begins anew.
    bench.ask(38, 0, &[], 0);
    bench.share.reset();
    let Bench { memory, .. } = &bench;
    let (drivers, queues) = (0..2).map(|index| Driver::new(memory, index + 2)).unzip();
    (bench.drivers, bench.queues) = (drivers, queues);
    bench.start().unwrap();
    assert_eq!(bench.read_file(), RealServer::TEXT);
}

#[test]
fn the_server_sees_nothing_before_a_driver_is_ready() {
    let Some(server) = RealServer::start() else { return };
    let mut share = Share::connect("data", &server.socket()).unwrap();
    let mut config = [0xff; 42];
    share.read_config(0, &mut config);
    assert_eq!((&config[..5], &config[36..]), (&b"data\0"[..], &[1, 0, 0, 0, 0, 0][..]));
    assert_ne!(share.ring_features() & 1 << VIRTIO_RING_F_INDIRECT_DESC, 0);
    share.reset();
    assert!(share.server.is_some(), "there was nothing to stop");
    assert_eq!(share.save().unwrap_err(), StateError::NotSavable("a machine with shares"));
}

#[test]
fn a_server_that_dies_breaks_the_device_and_nothing_else() {
    let Some(mut server) = RealServer::start() else { return };
    let mut bench = Bench::new(Share::connect("data", &server.socket()).unwrap());
    bench.start().unwrap();
    assert_eq!(bench.read_file(), RealServer::TEXT);
    server.kill(&bench.share);
    let broken = bench.share.host_event(&bench.memory, &mut []).unwrap_err();
    assert!(broken.0.contains("server is gone"), "{broken}");
    assert!(bench.share.host_fd().is_none());
    bench.share.reset();
    assert!(bench.start().unwrap_err().0.contains("server is gone"), "the next driver hears it, too");
}

/// A server that takes one message after the other and answers as it is told: bytes, or the end for `None`.
fn fake(mut answer: impl FnMut(u32) -> Option<Vec<u8>> + Send + 'static) -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        while let Some(request) = next_request(&mut stream) {
            let Some(bytes) = answer(request) else { return };
            if stream.write_all(&bytes).is_err() {
                return;
            }
        }
    });
    (directory, path)
}

fn next_request(stream: &mut UnixStream) -> Option<u32> {
    let mut header = [0; 12];
    stream.read_exact(&mut header).ok()?;
    let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| header[at + byte]));
    let mut body = vec![0; word(8) as usize];
    stream.read_exact(&mut body).ok()?;
    Some(word(0))
}

fn reply(request: u32, value: u64) -> Vec<u8> {
    [&request.to_le_bytes()[..], &5u32.to_le_bytes(), &8u32.to_le_bytes(), &value.to_le_bytes()].concat()
}

/// What a server of ours would say.
fn honest(request: u32) -> Vec<u8> {
    match request {
        1 => reply(request, VERSION_1 | PROTOCOL_FEATURES),
        15 => reply(request, u64::MAX),
        17 => reply(request, 64),
        11 => reply(request, 0),
        _ => Vec::new(),
    }
}

#[test]
fn servers_that_are_none_are_refused_with_the_reason() {
    type Answer = fn(u32) -> Option<Vec<u8>>;
    let cases: [(&str, Answer); 9] = [
        ("is gone", |_| None),
        ("in time", |_| Some(Vec::new())),
        ("in time", |request| Some(honest(request)[..honest(request).len() / 2].to_vec())),
        ("something else", |_| Some(vec![0xff; 20])),
        ("something else", |_| Some(vec![0; 5000])),
        ("something else", |request| Some(reply(request + 1, u64::MAX))),
        ("version 1", |request| Some(if request == 1 { reply(1, PROTOCOL_FEATURES) } else { Vec::new() })),
        ("features of", |request| Some(if request == 1 { reply(1, VERSION_1) } else { Vec::new() })),
        ("a queue", |request| Some(if request == 17 { reply(17, 1) } else { honest(request) })),
    ];
    for (problem, answer) in cases {
        let (_directory, path) = fake(answer);
        let error = anyhow::Error::from(Share::connect("data", &path).unwrap_err());
        assert!(format!("{error:#}").contains(problem), "{error:#}, not {problem}");
    }
    let error = Share::connect("data", Path::new("/nonexistent/socket")).unwrap_err().to_string();
    assert!(error.contains("nobody serves it at /nonexistent/socket"), "{error}");
}

#[test]
fn a_server_that_falls_silent_holds_a_driver_up_for_a_while_only() {
    let mut questions = 0;
    let (_directory, path) = fake(move |request| {
        questions += u32::from(request == 1);
        Some(if questions < 2 { honest(request) } else { Vec::new() })
    });
    let mut bench = Bench::new(Share::connect("data", &path).unwrap());
    let begun = Instant::now();
    assert!(bench.start().unwrap_err().0.contains("does not answer GetFeatures in time"));
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(bench.share.host_fd().is_none(), "and is not asked again");
}

#[test]
fn a_server_that_speaks_without_being_asked_is_let_go() {
    let (_directory, path) = fake(|request| Some(if request == 16 { vec![1] } else { honest(request) }));
    // The word that nobody asked for comes before the next answer, or after the last.
    match Share::connect("data", &path) {
        Err(error) => assert!(error.to_string().contains("something else"), "{error}"),
        Ok(_) => panic!("the answer to the next question was not looked at"),
    }
    let (_directory, path) =
        fake(|request| Some([honest(request), if request == 17 { vec![1] } else { vec![] }].concat()));
    let mut share = Share::connect("data", &path).unwrap();
    let memory = test_driver::memory(1);
    let broken = share.host_event(&memory, &mut []).unwrap_err();
    assert!(broken.0.contains("without being asked"), "{broken}");
    assert!(share.host_event(&memory, &mut []).is_ok(), "once");
}

#[test]
fn memory_that_cannot_be_shared_is_not() {
    let (_directory, path) = fake(|request| Some(honest(request)));
    let mut bench = Bench::new(Share::connect("data", &path).unwrap());
    bench.memory = test_driver::memory(2);
    assert!(bench.start().unwrap_err().0.contains("not shareable"));
}
