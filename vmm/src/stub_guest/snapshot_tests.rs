//! Snapshots: guests that go on where they were, in other machines, with other disks and other names.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vm_memory::{Bytes, GuestAddress};

use super::{DEADLINE, Stub, config, elf, needs_kvm, program, snapshot_program};
use crate::config::{DiskAccess, DiskConfig, Extent, MachineConfig, SECTOR_BYTES};
use crate::control::SnapshotReport;
use crate::kvm_machine::Tracking;
use crate::virtio::{Block, Disk, Rng, VirtioDevice, Vsock};

fn save(stub: &Stub, directory: &Path) -> SnapshotReport {
    stub.machine.save(directory, Tracking::Off, false).unwrap()
}

/// The configuration that all stubs have; the kernel is of no interest to a restored one.
fn restored(directory: &Path) -> Stub {
    Stub::restore(&config("/no/kernel".into(), 1), directory, Vec::new()).unwrap()
}

/// The alphabet from its `start`-th letter on.
fn letters(start: usize) -> String {
    (0..52).map(|n| char::from(b'a' + u8::try_from((start + n) % 26).unwrap())).collect()
}

/// Which letter comes after what the guest printed.
fn next_letter(stub: &Stub) -> usize {
    stub.printed().len() % 26
}

#[test]
fn a_machine_goes_on_after_its_snapshot_and_so_do_two_others_from_it() {
    needs_kvm!();
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("snapshot");
    let stub = Stub::boot(snapshot_program::letters(), 1, Vec::new());
    stub.prints(&letters(0));
    stub.machine.pause();
    let next = next_letter(&stub);
    let report = stub.machine.save(&path, Tracking::Off, true).unwrap();
    assert_eq!(next_letter(&stub), next, "it was paused and stays so");
    assert!(report.memory_bytes_written < 1 << 20, "{report:?}");
    stub.machine.resume();
    stub.prints(&letters(next));

    let others = [restored(&path), restored(&path)];
    for other in &others {
        other.prints(&letters(next));
        assert!(other.printed().starts_with(&letters(next)));
    }
}

#[test]
fn a_snapshot_of_a_snapshot_goes_on_too() {
    needs_kvm!();
    let directory = TempDir::new().unwrap();
    let [first, second] = ["first", "second"].map(|name| directory.path().join(name));
    let stub = Stub::boot(snapshot_program::letters(), 1, Vec::new());
    stub.prints(&letters(0));
    save(&stub, &first);
    drop(stub);
    let stub = restored(&first);
    stub.prints("abc");
    save(&stub, &second);
    drop(stub);
    restored(&second).prints(&letters(0));
}

/// A disk of one sector that begins with `letter`.
fn disk_of(directory: &Path, letter: u8) -> DiskConfig {
    let path = directory.join(format!("disk-{}", char::from(letter)));
    std::fs::write(&path, [letter; 512]).unwrap();
    let extent = Extent { path, offset_bytes: 0, length_bytes: SECTOR_BYTES };
    DiskConfig { capacity_bytes: SECTOR_BYTES, access: DiskAccess::ReadOnly, extents: vec![extent] }
}

fn block(config: &DiskConfig) -> Vec<Box<dyn VirtioDevice>> {
    vec![Box::new(Block::new(Arc::new(Disk::open(config).unwrap()), 0))]
}

#[test]
fn a_disk_is_bound_anew_and_goes_on_where_its_queue_was() {
    needs_kvm!();
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("snapshot");
    let stub = Stub::boot(snapshot_program::disk_letters(), 1, block(&disk_of(directory.path(), b'A')));
    stub.prints("AAAA");
    for _ in 0..5 {
        std::fs::remove_dir_all(&path).ok();
        save(&stub, &path);
    }
    let before = stub.printed().len();
    stub.prints(&"A".repeat(before + 10));
    let config = config("/no/kernel".into(), 1);
    for letter in [b'B', b'C'] {
        let other = Stub::restore(&config, &path, block(&disk_of(directory.path(), letter))).unwrap();
        let text = char::from(letter).to_string().repeat(10);
        other.prints(&text);
    }
}

#[test]
fn a_disk_of_another_size_is_refused() {
    needs_kvm!();
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("snapshot");
    let disk = disk_of(directory.path(), b'A');
    let stub = Stub::boot(snapshot_program::disk_letters(), 1, block(&disk));
    stub.prints("A");
    save(&stub, &path);
    let config = config("/no/kernel".into(), 1);
    let larger = DiskConfig { capacity_bytes: 2 * SECTOR_BYTES, ..disk };
    let error = Stub::restore(&config, &path, block(&larger)).map(drop).unwrap_err().to_string();
    assert!(error.contains("virtio device 0") && error.contains("1024"), "{error}");
    let error = Stub::restore(&config, &path, vec![Box::new(Rng)]).map(drop).unwrap_err().to_string();
    assert!(error.contains("virtio device 0"), "{error}");
}

/// Connects to the echo in the guest and has it echo.
fn echoes(socket: &Path) -> UnixStream {
    let mut connection = UnixStream::connect(socket).unwrap();
    connection.set_read_timeout(Some(DEADLINE)).unwrap();
    connection.write_all(b"CONNECT 1234\n").unwrap();
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    let mut greeting = String::new();
    reader.read_line(&mut greeting).unwrap();
    assert!(greeting.starts_with("OK "), "{greeting:?}");
    connection.write_all(b"hello").unwrap();
    let mut echoed = [0; 5];
    reader.read_exact(&mut echoed).unwrap();
    assert_eq!(&echoed, b"hello");
    connection
}

#[test]
fn two_machines_from_one_snapshot_have_sockets_of_their_own() {
    needs_kvm!();
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("snapshot");
    let vsock = |name, cid| {
        let socket = directory.path().join(name);
        let device: Vec<Box<dyn VirtioDevice>> = vec![Box::new(Vsock::listen(socket.clone(), cid).unwrap())];
        (socket, device)
    };
    let (socket, devices) = vsock("first", 3);
    let stub = Stub::boot(program::vsock_echo(), 1, devices);
    let _open = echoes(&socket);
    save(&stub, &path);
    let _another = echoes(&socket);
    let config = config("/no/kernel".into(), 1);
    let machines = [("second", 4), ("third", 5)].map(|(name, cid)| {
        let (socket, devices) = vsock(name, cid);
        (Stub::restore(&config, &path, devices).unwrap(), socket)
    });
    for (_machine, socket) in &machines {
        echoes(socket);
    }
    for (machine, _socket) in &machines {
        machine.prints("closed");
    }
}

#[test]
fn all_processors_go_on() {
    needs_kvm!();
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("snapshot");
    let stub = Stub::boot(program::two_processors(), 2, Vec::new());
    // Wherever they are by now: before, between or after their greetings.
    save(&stub, &path);
    let before = stub.printed();
    let other = Stub::restore(&config("/no/kernel".into(), 2), &path, Vec::new()).unwrap();
    if before.ends_with("too\n") {
        return;
    }
    assert_eq!(other.exit(), crate::control::MachineExit::GuestReset);
    assert!("2 first too\n".ends_with(&other.printed()), "{before:?} and then {:?}", other.printed());
}

/// A guest that has written to places in its memory, and will write there again.
fn touching(memory_mib: u32, places: u32, distance: u32, devices: Vec<Box<dyn VirtioDevice>>) -> Stub {
    let directory = TempDir::new().unwrap();
    let kernel = directory.path().join("kernel");
    std::fs::write(&kernel, elf::wrap(snapshot_program::touch())).unwrap();
    let config = MachineConfig { memory_mib, ..config(kernel, 1) };
    let stub = Stub::start(&config, devices).unwrap();
    stub.machine.memory().write_obj(distance, GuestAddress(0x6004)).unwrap();
    stub.machine.memory().write_obj(places, GuestAddress(0x6000)).unwrap();
    stub.prints("ready");
    stub
}

/// Has it write; gives how long that takes.
fn go(stub: &Stub) -> Duration {
    let begun = Instant::now();
    stub.machine.memory().write_obj(1u8, GuestAddress(0x7000)).unwrap();
    stub.prints("done");
    begun.elapsed()
}

fn word_at(stub: &Stub, address: u64) -> u16 {
    stub.machine.memory().read_obj(GuestAddress(address)).unwrap()
}

#[test]
fn a_second_snapshot_writes_what_changed_and_is_whole_by_itself() {
    needs_kvm!();
    let directory = TempDir::new().unwrap();
    let [first, second, third] = ["1", "2", "3"].map(|name| directory.path().join(name));
    let disk = disk_of(directory.path(), b'A');
    let stub = touching(32, 2048, 4096, block(&disk));
    let report = stub.machine.save(&first, Tracking::On, false).unwrap();
    assert!(!report.is_incremental && report.memory_bytes_written >= 8 << 20, "{report:?}");
    let report = stub.machine.save(&second, Tracking::On, false).unwrap();
    assert!(report.is_incremental && report.memory_bytes_written < 256 << 10, "{report:?}");
    let changes = std::fs::metadata(second.join("changes")).unwrap();
    assert!(changes.blocks() * 512 < 512 << 10, "{} blocks", changes.blocks());
    // What this process writes is a change too: the guest waits for it.
    go(&stub);
    let report = stub.machine.save(&third, Tracking::Off, false).unwrap();
    assert!(report.is_incremental && report.memory_bytes_written >= 8 << 20, "{report:?}");
    drop(stub);
    std::fs::remove_dir_all(&first).unwrap();

    let config = config("/no/kernel".into(), 1);
    let other = Stub::restore(&config, &second, block(&disk)).unwrap();
    assert_eq!(word_at(&other, 0xf0_0000), 0x0101);
    go(&other);
    assert_eq!(other.printed(), "done");
    let other = Stub::restore(&config, &third, block(&disk)).unwrap();
    for at in [0x7f_f000, 0x80_0000, 0xf0_0000, 0xff_f000, 0x100_0000] {
        let expected = if (0x80_0000..0x100_0000).contains(&at) { 0x0102 } else { 0 };
        assert_eq!(word_at(&other, at), expected, "{at:#x}");
    }
}

#[test]
fn a_recorded_working_set_is_loaded_and_right() {
    needs_kvm!();
    let directory = TempDir::new().unwrap();
    let [first, second] = ["1", "2"].map(|name| directory.path().join(name));
    let stub = touching(32, 2048, 4096, Vec::new());
    assert!(stub.machine.record_working_set().unwrap_err().to_string().contains("not restored"));
    stub.machine.save(&first, Tracking::On, false).unwrap();
    stub.machine.memory().write_obj(0x0707u16, GuestAddress(0x90_0002)).unwrap();
    assert!(stub.machine.save(&second, Tracking::Off, false).unwrap().is_incremental);
    drop(stub);
    for path in [&first, &second] {
        let stub = restored(path);
        go(&stub);
        let mib = stub.machine.record_working_set().unwrap();
        assert!((8..=12).contains(&mib), "{mib}");
        drop(stub);
        for _twice in 0..2 {
            let stub = restored(path);
            assert_eq!(word_at(&stub, 0x80_0000), 0x0101);
            go(&stub);
            assert_eq!((word_at(&stub, 0x80_0000), word_at(&stub, 0xff_f000)), (0x0102, 0x0102));
            assert_eq!(word_at(&stub, 0x90_0002), if *path == first { 0 } else { 0x0707 });
        }
    }
    let working_set = first.join("working-set");
    std::fs::write(&working_set, b"BRTHWSET and nonsense").unwrap();
    go(&restored(&first));
}

/// From the opening of its files until the guest's first byte; prints what it measures.
#[test]
#[ignore = "a measurement: run it alone, on an idle host"]
fn how_soon_a_restored_guest_speaks() {
    needs_kvm!();
    for memory_mib in [128, 1024] {
        let directory = TempDir::new().unwrap();
        let (path, kernel) = (directory.path().join("snapshot"), directory.path().join("kernel"));
        std::fs::write(&kernel, elf::wrap(snapshot_program::letters())).unwrap();
        let config = MachineConfig { memory_mib, ..config(kernel, 1) };
        let stub = Stub::start(&config, Vec::new()).unwrap();
        stub.prints("abc");
        save(&stub, &path);
        drop(stub);
        let mut times: Vec<Duration> = Vec::new();
        for _ in 0..20 {
            let begun = Instant::now();
            let stub = Stub::restore(&config, &path, Vec::new()).unwrap();
            let printed = stub.printed.bytes.lock().unwrap();
            drop(stub.printed.more.wait_while(printed, |bytes| bytes.is_empty()).unwrap());
            times.push(begun.elapsed());
        }
        times.sort();
        eprintln!("{memory_mib} MiB: min {:?}, p50 {:?}, max {:?}", times[0], times[10], times[19]);
    }
}

/// What it takes to restore a guest and to have it write to `places` in its memory, a `distance` in bytes apart, beyond
/// what it takes it to write to them again: without and with a working set, the best of a few times each.
pub(crate) fn cost_of_restored_memory(memory_mib: u32, places: u32, distance: u32) -> [Duration; 2] {
    const TIMES: usize = 5;
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("snapshot");
    save(&touching(memory_mib, places, distance, Vec::new()), &path);
    let config = MachineConfig { memory_mib, ..config("/no/kernel".into(), 1) };
    let once = || {
        let begun = Instant::now();
        let stub = Stub::restore(&config, &path, Vec::new()).unwrap();
        go(&stub);
        let whole = begun.elapsed();
        stub.printed.bytes.lock().unwrap().clear();
        (whole.saturating_sub(go(&stub)), stub)
    };
    let best = || (0..TIMES).map(|_| once().0).min().expect("a few times");
    let page_by_page = best();
    once().1.machine.record_working_set().unwrap();
    [page_by_page, best()]
}
