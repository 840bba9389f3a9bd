//! The block device on real queues and real files, with honest and hostile drivers.

use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir};
use virtio_queue::desc::split::Descriptor;

use super::*;
use crate::config::{DiskAccess, DiskConfig, Extent};
use crate::console_log::ConsoleLog;
use crate::virtio::test_driver::{self, Driver, INDIRECT, NEXT, WRITE};

pub(super) const READ: u32 = 0;
pub(super) const WRITE_SECTORS: u32 = 1;
pub(super) const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
pub(super) const DISCARD: u32 = 11;
pub(super) const WRITE_ZEROES: u32 = 13;
pub(super) const OK: u8 = 0;
pub(super) const IO_ERROR: u8 = 1;
const UNSUPPORTED: u8 = 2;

/// A disk, its device and its driver.
pub(super) struct Bench {
    pub(super) memory: GuestMemoryMmap,
    pub(super) driver: Driver,
    pub(super) queue: Queue,
    pub(super) disk: Arc<Disk>,
    pub(super) device: Block,
}

impl Bench {
    pub(super) fn new(capacity_bytes: u64, access: DiskAccess, extents: Vec<Extent>) -> Self {
        let disk = Arc::new(Disk::open(&DiskConfig { capacity_bytes, access, extents }).unwrap());
        let memory = test_driver::memory(1);
        let (driver, queue) = Driver::new(&memory, 0);
        Self { memory, driver, queue, device: Block::new(disk.clone(), 0), disk }
    }

    /// Notifies the device, and waits until it has answered everything.
    pub(super) fn run(&mut self) -> Result<UsedQueues, Broken> {
        let at_once = self.device.queue_event(0, &self.memory, &mut [&mut self.queue])?;
        let later = self.device.quiesce(&self.memory, &mut [&mut self.queue])?;
        Ok(if later.contains(0) { later } else { at_once })
    }

    /// One request: the data that came back, and the status.
    pub(super) fn request(&mut self, kind: u32, sector: u64, data: &[u8], room: usize) -> (Vec<u8>, u8) {
        let offer = self.driver.offer(&[&header(kind, sector), data], &[room, 1]);
        assert!(self.run().unwrap().contains(0));
        let returned = self.driver.returned();
        assert_eq!(returned.len(), 1);
        let mut bytes = self.driver.written(&offer);
        let status = bytes.pop().unwrap();
        let data_written = if status == OK { room } else { 0 };
        assert_eq!(returned[0], (offer.head, data_written + 1));
        (bytes, status)
    }

    pub(super) fn read(&mut self, sector: u64, length: usize) -> Vec<u8> {
        let (bytes, status) = self.request(READ, sector, &[], length);
        assert_eq!(status, OK);
        bytes
    }
}

pub(super) fn header(kind: u32, sector: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat()
}

pub(super) fn range(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &flags.to_le_bytes()].concat()
}

/// A file whose sectors are filled with their own number, from `first` on.
pub(super) fn numbered_file(first: u8, sectors: u8) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    (0..sectors).for_each(|n| file.write_all(&[first + n; 512]).unwrap());
    file
}

pub(super) fn extent(file: &NamedTempFile, first_sector: u64, sectors: u64) -> Extent {
    Extent { path: file.path().into(), offset_bytes: first_sector * 512, length_bytes: sectors * 512 }
}

/// A read-write disk of 64 KiB on one file.
pub(super) fn scratch() -> (Bench, NamedTempFile) {
    let file = NamedTempFile::new().unwrap();
    file.as_file().write_all_at(&[0xaa; 65536], 0).unwrap();
    let bench = Bench::new(65536, DiskAccess::ReadWrite, vec![extent(&file, 0, 128)]);
    (bench, file)
}

#[test]
fn a_read_crosses_extents_and_ends_in_zeros() {
    let (one, two) = (numbered_file(1, 4), numbered_file(10, 4));
    let mut bench = Bench::new(8 * 512, DiskAccess::ReadOnly, vec![extent(&one, 2, 2), extent(&two, 1, 3)]);
    let expected: Vec<u8> = [3, 4, 11, 12, 13, 0, 0, 0].iter().flat_map(|n| [*n; 512]).collect();
    assert_eq!(bench.read(0, 8 * 512), expected);
    assert_eq!(bench.read(1, 1024), expected[512..1536]);
    assert_eq!(bench.read(7, 512), expected[7 * 512..]);
}

#[test]
fn a_read_fills_split_buffers_in_order() {
    let file = numbered_file(1, 2);
    let mut bench = Bench::new(1024, DiskAccess::ReadOnly, vec![extent(&file, 0, 2)]);
    let offer = bench.driver.offer(&[&header(READ, 0)], &[100, 500, 424, 1]);
    bench.run().unwrap();
    let bytes = bench.driver.written(&offer);
    assert_eq!(bytes, [&[1; 512][..], &[2; 512], &[OK]].concat());
}

#[test]
fn writes_reach_the_file_and_are_counted() {
    let (mut bench, file) = scratch();
    assert_eq!(bench.request(WRITE_SECTORS, 3, &[7; 1024], 0).1, OK);
    assert_eq!(bench.request(FLUSH, 0, &[], 0).1, OK);
    let mut bytes = [0; 2048];
    file.as_file().read_exact_at(&mut bytes, 2 * 512).unwrap();
    assert_eq!(bytes[..512], [0xaa; 512]);
    assert_eq!(bytes[512..1536], [7; 1024]);
    assert_eq!(bytes[1536..], [0xaa; 512]);
    let counters = bench.disk.counters();
    assert_eq!((counters.writes, counters.written_bytes, counters.flushes, counters.errors), (1, 1024, 1, 0));
}

#[test]
fn discarded_blocks_leave_the_file_and_read_as_zeros() {
    let (mut bench, file) = scratch();
    let before = file.as_file().metadata().unwrap().blocks();
    let ranges = [range(0, 32, 0), range(64, 64, 0)].concat();
    assert_eq!(bench.request(DISCARD, 0, &ranges, 0).1, OK);
    let after = file.as_file().metadata().unwrap();
    assert_eq!(before - after.blocks(), 96, "freed on the host");
    assert_eq!(after.len(), 65536, "and as long as before");
    assert_eq!(bench.read(0, 1024), [0; 1024]);
    assert_eq!(bench.read(32, 512), [0xaa; 512]);
    assert_eq!(bench.disk.counters().discarded_bytes, 96 * 512);
}

#[test]
fn zeroed_sectors_read_as_zeros() {
    let (mut bench, _file) = scratch();
    for flags in [0, 1] {
        assert_eq!(bench.request(WRITE_SECTORS, 8, &[9; 4096], 0).1, OK);
        let status = bench.request(WRITE_ZEROES, 0, &range(8, 8, flags), 0).1;
        // A file system that cannot keep blocks while zeroing them says so, and the driver writes zeros itself.
        assert!(status == OK || (flags == 0 && status == UNSUPPORTED));
        assert_eq!(bench.read(8, 4096) == [0; 4096], status == OK);
    }
}

#[test]
fn an_unbound_disk_reads_zeros_until_it_is_bound_once() {
    let file = numbered_file(5, 2);
    let mut bench = Bench::new(2048, DiskAccess::ReadWrite, vec![]);
    assert_eq!(bench.read(0, 2048), [0; 2048]);
    assert_eq!(bench.request(WRITE_SECTORS, 0, &[1; 512], 0).1, IO_ERROR);
    assert_eq!(bench.request(DISCARD, 0, &range(0, 4, 0), 0).1, OK, "there is nothing to free");
    bench.disk.bind(0, None, &[extent(&file, 0, 2)]).unwrap();
    assert_eq!(bench.read(0, 1024), [[5; 512], [6; 512]].concat());
    assert_eq!(bench.request(WRITE_SECTORS, 0, &[1; 512], 0).1, OK);
    assert_eq!(bench.request(WRITE_SECTORS, 2, &[1; 512], 0).1, IO_ERROR, "behind the last extent");
    assert!(matches!(bench.disk.bind(0, None, &[extent(&file, 0, 2)]), Err(BindError::Bound)));
}

#[test]
fn files_that_do_not_fit_are_not_bound() {
    let file = numbered_file(5, 2);
    let bench = Bench::new(4096, DiskAccess::ReadOnly, vec![]);
    let directory = TempDir::new().unwrap();
    let missing = Extent { path: PathBuf::from("/nonexistent"), offset_bytes: 0, length_bytes: 512 };
    let no_file = Extent { path: directory.path().into(), offset_bytes: 0, length_bytes: 512 };
    for extents in [vec![extent(&file, 0, 3)], vec![extent(&file, 0, 16)], vec![missing], vec![no_file]] {
        assert!(bench.disk.bind(0, None, &extents).is_err(), "{extents:?}");
    }
    bench.disk.bind(0, None, &[extent(&file, 1, 1)]).unwrap();
}

#[test]
fn a_read_only_disk_refuses_every_change() {
    let file = numbered_file(1, 8);
    let mut bench = Bench::new(4096, DiskAccess::ReadOnly, vec![extent(&file, 0, 8)]);
    assert_eq!(bench.request(WRITE_SECTORS, 0, &[9; 512], 0).1, IO_ERROR);
    assert_eq!(bench.request(DISCARD, 0, &range(0, 8, 0), 0).1, IO_ERROR);
    assert_eq!(bench.request(WRITE_ZEROES, 0, &range(0, 8, 1), 0).1, IO_ERROR);
    assert_eq!(bench.read(0, 512), [1; 512]);
    assert_eq!(bench.disk.counters().errors, 3);
    assert_ne!(bench.device.features() & 1 << bindings::VIRTIO_BLK_F_RO, 0);
    assert_eq!(bench.device.features() & 1 << bindings::VIRTIO_BLK_F_DISCARD, 0);
}

#[test]
fn impossible_requests_are_answered_with_an_error() {
    let (mut bench, _file) = scratch();
    let last = 128;
    for (kind, sector, data, room, expected) in [
        (READ, last, vec![], 512, IO_ERROR),
        (READ, last - 1, vec![], 1024, IO_ERROR),
        (READ, u64::MAX, vec![], 512, IO_ERROR),
        (READ, u64::MAX / 512, vec![], 512, IO_ERROR),
        (READ, 0, vec![], 100, IO_ERROR),
        (READ, 0, vec![], 0, IO_ERROR),
        (WRITE_SECTORS, last, vec![0; 512], 0, IO_ERROR),
        (WRITE_SECTORS, 0, vec![0; 511], 0, IO_ERROR),
        (GET_ID, 0, vec![], 19, UNSUPPORTED),
        (DISCARD, 0, range(0, 129, 0), 0, IO_ERROR),
        (DISCARD, 0, range(u64::MAX, 1, 0), 0, IO_ERROR),
        (DISCARD, 0, range(0, 0, 0), 0, IO_ERROR),
        (DISCARD, 0, range(0, 8, 2), 0, IO_ERROR),
        (DISCARD, 0, vec![0; 15], 0, IO_ERROR),
        (DISCARD, 0, range(0, 8, 0).repeat(33), 0, IO_ERROR),
        (WRITE_ZEROES, 0, vec![], 0, IO_ERROR),
        (99, 0, vec![], 512, UNSUPPORTED),
    ] {
        let what = format!("request {kind} at {sector}, {} bytes in, {room} out", data.len());
        assert_eq!(bench.request(kind, sector, &data, room).1, expected, "{what}");
    }
    assert_eq!(bench.read(0, 512), [0xaa; 512], "and the device goes on");
}

#[test]
fn the_disk_says_who_it_is() {
    let (mut bench, _file) = scratch();
    let (id, status) = bench.request(GET_ID, 0, &[], ID_BYTES);
    assert_eq!((&id[..8], status), (&b"berth-0\0"[..], OK));
    let mut config = [0xff; 64];
    bench.device.read_config(0, &mut config);
    assert_eq!(config[..8], 128u64.to_le_bytes());
    assert_eq!(config[60..], [0; 4], "zeros beyond the end");
    bench.device.read_config(u64::MAX, &mut config);
    assert_eq!(config, [0; 64]);
}

/// What the console log says of a disk's failures.
struct Log {
    directory: TempDir,
}

impl Log {
    fn of(disk: &Disk) -> Self {
        let directory = TempDir::new().unwrap();
        let log = ConsoleLog::create(&directory.path().join("console"), 1 << 16).unwrap();
        disk.tell_failures(Arc::new(log), 3);
        Self { directory }
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("console")).unwrap()
    }
}

#[test]
fn a_disk_that_shrinks_under_its_guest_fails_and_is_not_patched_with_zeros() {
    let (mut bench, file) = scratch();
    let log = Log::of(&bench.disk);
    file.as_file().set_len(4096).unwrap();
    assert_eq!(bench.request(READ, 7, &[], 1024).1, IO_ERROR, "half of it is gone");
    assert_eq!(bench.request(READ, 64, &[], 512).1, IO_ERROR);
    assert_eq!(bench.request(WRITE_SECTORS, 100, &[1; 512], 0).1, IO_ERROR);
    assert_eq!(bench.request(DISCARD, 0, &range(64, 8, 0), 0).1, IO_ERROR);
    assert_eq!(bench.request(WRITE_ZEROES, 0, &range(64, 8, 1), 0).1, IO_ERROR);
    assert_eq!(file.as_file().metadata().unwrap().len(), 4096, "nothing made it long again");
    assert_eq!(bench.read(0, 4096), [0xaa; 4096], "what is left can be rescued");
    let text = log.text();
    assert!(text.contains("disk 3: cannot read 512 bytes at 32768: "), "{text}");
    assert!(text.contains("disk 3: cannot write 512 bytes at 51200: the disk's file was cut to 4096 bytes"));
    assert_eq!(bench.disk.counters().errors, 5);
}

#[test]
fn a_disk_that_is_deleted_under_its_guest_can_be_read_and_not_flushed() {
    let (mut bench, file) = scratch();
    let log = Log::of(&bench.disk);
    assert_eq!(bench.request(FLUSH, 0, &[], 0).1, OK);
    file.close().unwrap();
    assert_eq!(bench.read(0, 512), [0xaa; 512]);
    assert_eq!(bench.request(FLUSH, 0, &[], 0).1, IO_ERROR, "nobody will find it again");
    assert!(log.text().contains("disk 3: cannot flush: the disk's file was deleted"), "{}", log.text());
}

#[test]
fn a_disk_that_never_had_a_name_has_none_to_lose() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(4096).unwrap();
    let path = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file)));
    let extent = Extent { path, offset_bytes: 0, length_bytes: 4096 };
    let mut bench = Bench::new(4096, DiskAccess::ReadWrite, vec![extent]);
    assert_eq!(bench.request(FLUSH, 0, &[], 0).1, OK);
}

#[test]
fn a_guest_that_retries_does_not_fill_the_log() {
    let (mut bench, file) = scratch();
    let log = Log::of(&bench.disk);
    file.as_file().set_len(0).unwrap();
    for _ in 0..100 {
        assert_eq!(bench.request(READ, 0, &[], 512).1, IO_ERROR);
    }
    assert_eq!(log.text().lines().count(), 8);
    assert!(log.text().ends_with("further failures are only counted\n"));
    assert_eq!(bench.disk.counters().errors, 100);
}

/// A file system of 64 KiB for this thread alone; `None`, and said so, where that is not allowed.
fn tiny_file_system(at: &Path) -> Option<()> {
    use nix::mount::{MsFlags, mount};
    let none: Option<&str> = None;
    let mounted = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none))
        .and_then(|()| mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some("size=64k")));
    mounted.map_err(|error| crate::stub_guest::skip(&format!("cannot mount a tmpfs: {error}"))).ok()
}

#[test]
fn a_full_host_disk_is_the_guests_io_error_and_room_makes_it_good_again() {
    let directory = TempDir::new().unwrap();
    let Some(()) = tiny_file_system(directory.path()) else { return };
    let path = directory.path().join("scratch");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(1 << 20).unwrap();
    let ballast = directory.path().join("ballast");
    std::fs::write(&ballast, [1; 48 << 10]).unwrap();
    let extent = Extent { path, offset_bytes: 0, length_bytes: 1 << 20 };
    let mut bench = Bench::new(1 << 20, DiskAccess::ReadWrite, vec![extent]);
    let log = Log::of(&bench.disk);
    let data = vec![7; 32 << 10];
    assert_eq!(bench.request(WRITE_SECTORS, 0, &data, 0).1, IO_ERROR);
    assert!(log.text().contains("cannot write 32768 bytes at 0: No space left on device"), "{}", log.text());
    std::fs::remove_file(ballast).unwrap();
    assert_eq!(bench.request(WRITE_SECTORS, 0, &data, 0).1, OK);
    assert_eq!(bench.read(0, 32 << 10), data);
}

#[test]
fn chains_that_cannot_be_answered_break_the_device() {
    let read = header(READ, 0);
    type Describe = fn(&mut Driver, u64);
    let hostile: [(&str, Describe); 9] = [
        ("no status byte", |driver, header| driver.describe(0, Descriptor::new(header, 16, 0, 0))),
        ("half a header", |driver, header| {
            driver.describe(0, Descriptor::new(header, 8, NEXT, 1));
            driver.describe(1, Descriptor::new(header + 64, 513, WRITE, 0));
        }),
        ("a loop", |driver, header| {
            driver.describe(0, Descriptor::new(header, 16, NEXT, 1));
            driver.describe(1, Descriptor::new(header + 64, 16, NEXT | WRITE, 1));
        }),
        ("a link out of the table", |driver, header| {
            driver.describe(0, Descriptor::new(header, 16, NEXT, 64));
        }),
        ("an address outside memory", |driver, header| {
            driver.describe(0, Descriptor::new(header, 16, NEXT, 1));
            driver.describe(1, Descriptor::new(1 << 40, 513, WRITE, 0));
        }),
        ("a length outside memory", |driver, header| {
            driver.describe(0, Descriptor::new(header, 16, NEXT, 1));
            driver.describe(1, Descriptor::new(0x8000, u32::MAX, WRITE, 0));
        }),
        ("an address that wraps around", |driver, header| {
            driver.describe(0, Descriptor::new(header, 16, NEXT, 1));
            driver.describe(1, Descriptor::new(u64::MAX - 100, 513, WRITE, 0));
        }),
        ("a readable part behind a writable one", |driver, header| {
            driver.describe(0, Descriptor::new(header, 16, WRITE | NEXT, 1));
            driver.describe(1, Descriptor::new(header, 16, 0, 0));
        }),
        ("an indirect table of no size", |driver, header| {
            driver.describe(0, Descriptor::new(header, 7, INDIRECT, 0));
        }),
    ];
    for (what, describe) in hostile {
        let (mut bench, _file) = scratch();
        let place = bench.driver.place(&read);
        describe(&mut bench.driver, place);
        bench.driver.make_available(0);
        assert!(bench.run().is_err(), "{what}");
    }
}

#[test]
fn a_head_or_an_index_out_of_bounds_breaks_the_device() {
    let (mut bench, _file) = scratch();
    bench.driver.make_available(64);
    assert!(bench.run().is_err());
    let (mut bench, _file) = scratch();
    bench.driver.claim_available(65);
    assert!(bench.run().is_err());
}

#[test]
fn an_indirect_chain_longer_than_allowed_breaks_the_device() {
    let (mut bench, _file) = scratch();
    let header = bench.driver.place(&header(READ, 0));
    let table: Vec<u8> = (1..=600u16)
        .flat_map(|next| {
            let (address, flags): (u64, u16) =
                if next == 1 { (header, NEXT) } else { (0x8000, NEXT | WRITE) };
            [&address.to_le_bytes()[..], &1u32.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()]
                .concat()
        })
        .collect();
    let length = u32::try_from(table.len()).unwrap();
    let place = bench.driver.place(&table);
    bench.driver.describe(0, Descriptor::new(place, length, INDIRECT, 0));
    bench.driver.make_available(0);
    assert!(bench.run().is_err());
}

#[test]
fn a_queue_that_is_not_set_up_is_left_alone() {
    let (mut bench, _file) = scratch();
    bench.driver.offer(&[&header(READ, 0)], &[512, 1]);
    virtio_queue::QueueT::set_ready(&mut bench.queue, false);
    assert_eq!(bench.run().unwrap(), UsedQueues::NONE);
    assert!(bench.device.queue_event(7, &bench.memory, &mut []).is_ok());
}
