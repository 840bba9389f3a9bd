//! Targets for devices without a life of their own: block, console, rng.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;

use super::bench::Bench;
use super::input::Input;
use super::script::{self, Subject};
use crate::config::{DiskAccess, DiskConfig, Extent};
use crate::console_log::ConsoleLog;
use crate::virtio::{Block, Console, Disk, Rng, VirtioDevice};

/// Files are made once for all inputs, in memory where the host has a file system there.
pub(super) fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a directory for a few small files")
}

pub(super) struct RngSubject;

/// The entropy device's queue.
pub(super) fn rng(input: &[u8]) {
    script::play(&mut Bench::new(Box::new(Rng)), &mut RngSubject, input);
}

impl Subject for RngSubject {
    fn message(&mut self, _queue: usize, input: &mut Input<'_>) -> Vec<u8> {
        input.short_bytes().to_vec()
    }

    fn probe(&mut self, bench: &mut Bench) {
        let answer = bench.request(0, &[], &[64]).expect("a buffer is filled");
        assert_eq!(answer.length, 64);
        assert_ne!(answer.bytes, [0; 64]);
    }
}

const CONSOLE_LIMIT_BYTES: u64 = 4096;

struct ConsoleSubject {
    directory: TempDir,
    log: Arc<ConsoleLog>,
}

/// The console's queues; what is printed never outgrows the log.
pub(super) fn console(input: &[u8]) {
    thread_local! {
        static SUBJECT: std::cell::RefCell<ConsoleSubject> = std::cell::RefCell::new(ConsoleSubject::new());
    }
    SUBJECT.with_borrow_mut(|subject| {
        let mut bench = Bench::new(Box::new(Console::new(subject.log.clone())));
        script::play(&mut bench, subject, input);
    });
}

impl ConsoleSubject {
    fn new() -> Self {
        let directory = directory();
        let log = ConsoleLog::create(&directory.path().join("console"), CONSOLE_LIMIT_BYTES);
        Self { directory, log: Arc::new(log.expect("a small file")) }
    }

    fn kept(&self) -> Vec<u8> {
        std::fs::read(self.directory.path().join("console")).expect("the log is there")
    }
}

impl Subject for ConsoleSubject {
    fn message(&mut self, _queue: usize, input: &mut Input<'_>) -> Vec<u8> {
        input.short_bytes().to_vec()
    }

    fn probe(&mut self, bench: &mut Bench) {
        bench.request(1, &[b"is it ", b"there?"], &[]).expect("text is taken");
        assert!(self.kept().ends_with(b"is it there?"));
    }

    fn check(&mut self) {
        assert!(self.kept().len() as u64 <= CONSOLE_LIMIT_BYTES);
    }
}

const SECTOR: usize = 512;
/// Two extents of a file, with bytes around them that belong to nobody.
const EXTENT_BYTES: u64 = 16 << 10;
const EXTENT_STARTS: [u64; 2] = [8 << 10, 40 << 10];
const FILE_BYTES: usize = 64 << 10;
/// The rest of the disk reads as zeros.
const CAPACITY_BYTES: u64 = 64 << 10;
const FOREIGN: u8 = 0x5a;

struct BlockSubject {
    _directory: TempDir,
    path: PathBuf,
    file: File,
    access: DiskAccess,
}

/// The block device's queue, in front of a file of which it must not touch everything.
pub(super) fn block(input: &[u8]) {
    let mut input = Input::new(input);
    let access = if input.flag() { DiskAccess::ReadOnly } else { DiskAccess::ReadWrite };
    let rest = input.bytes(usize::MAX);
    with_disk_of(access, |device, subject| script::play(&mut Bench::new(device), subject, rest));
}

/// With a disk's device, and the file behind it.
pub(super) fn with_disk(call: impl FnOnce(Box<dyn VirtioDevice>, &mut dyn Subject)) {
    with_disk_of(DiskAccess::ReadWrite, call);
}

fn with_disk_of(access: DiskAccess, call: impl FnOnce(Box<dyn VirtioDevice>, &mut dyn Subject)) {
    thread_local! {
        static SUBJECT: std::cell::RefCell<BlockSubject> = std::cell::RefCell::new(BlockSubject::new());
    }
    SUBJECT.with_borrow_mut(|subject| {
        subject.access = access;
        subject.file.write_all_at(&[FOREIGN; FILE_BYTES], 0).expect("a small file");
        call(Box::new(Block::new(Arc::new(subject.disk()), 0)), subject);
    });
}

impl BlockSubject {
    fn new() -> Self {
        let directory = directory();
        let path = directory.path().join("disk");
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path);
        Self { _directory: directory, file: open.expect("a small file"), path, access: DiskAccess::ReadWrite }
    }

    fn disk(&self) -> Disk {
        let extent =
            |offset_bytes| Extent { path: self.path.clone(), offset_bytes, length_bytes: EXTENT_BYTES };
        let config = DiskConfig {
            capacity_bytes: CAPACITY_BYTES,
            access: self.access,
            extents: EXTENT_STARTS.map(extent).to_vec(),
        };
        Disk::open(&config).expect("the extents lie in the file")
    }
}

impl Subject for BlockSubject {
    /// A request's header, and data for it.
    fn message(&mut self, _queue: usize, input: &mut Input<'_>) -> Vec<u8> {
        let kind = u32::from(input.u8());
        let sector = match input.u8() {
            255 => input.u64(),
            near => u64::from(near),
        };
        let mut message = [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat();
        match input.u8() {
            whole @ 0..=4 => message.resize(16 + usize::from(whole) * SECTOR, 0xb7),
            // Ranges to discard or to fill with zeros.
            5..=8 => {
                for _ in 0..input.u8() % 40 {
                    let start = if input.flag() { input.u64() } else { u64::from(input.u8()) };
                    let sectors = if input.flag() { input.u32() } else { u32::from(input.u8()) };
                    let flags = u32::from(input.u8() & 3);
                    message.extend(start.to_le_bytes());
                    message.extend([sectors, flags].map(u32::to_le_bytes).as_flattened());
                }
            }
            _ => message.extend(input.short_bytes()),
        }
        message
    }

    fn probe(&mut self, bench: &mut Bench) {
        let header = [0u8; 16];
        let answer = bench.request(0, &[&header], &[SECTOR, 1]).expect("a read is answered");
        assert_eq!(answer.length as usize, SECTOR + 1);
        let mut sector = [0; SECTOR];
        self.file.read_exact_at(&mut sector, EXTENT_STARTS[0]).expect("the file is there");
        assert_eq!(answer.bytes, [&sector[..], &[0]].concat());
    }

    fn check(&mut self) {
        let mut contents = vec![0; FILE_BYTES];
        self.file.read_exact_at(&mut contents, 0).expect("nobody makes the file shorter");
        if self.access == DiskAccess::ReadWrite {
            for start in EXTENT_STARTS {
                let range = start..start + EXTENT_BYTES;
                let index = |at: u64| usize::try_from(at).expect("a small file");
                contents[index(range.start)..index(range.end)].fill(FOREIGN);
            }
        }
        assert!(contents == [FOREIGN; FILE_BYTES], "a write outside of the extents");
        assert_eq!(self.file.metadata().expect("it is open").len(), FILE_BYTES as u64);
    }
}
