//! What a machine promises, each shown by a guest that would notice.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::{DEADLINE, Stub, config, elf, needs_kvm, program, skip};
use crate::config::{DiskAccess, DiskConfig, Extent, MachineConfig, SECTOR_BYTES};
use crate::console_log::ConsoleLog;
use crate::control::{MachineExit, VcpuCounters};
use crate::device_set::DeviceSet;
use crate::machine::Machine;
use crate::virtio::mmio::tests::Mirror;
use crate::virtio::{Block, Console, Disk, Rng, VirtioDevice, Vsock};

#[test]
fn a_guest_speaks_and_resets() {
    needs_kvm!();
    let stub = Stub::boot(program::hello(), 1, Vec::new());
    assert_eq!(stub.exit(), MachineExit::GuestReset);
    assert_eq!(stub.printed(), "stub guest speaks\n");
}

#[test]
fn what_a_processor_did_is_counted() {
    needs_kvm!();
    let stub = Stub::boot(program::hello(), 1, Vec::new());
    assert_eq!(stub.exit(), MachineExit::GuestReset);
    let counters = stub.machine.vcpu_counters();
    let [VcpuCounters { exits: Some(exits), .. }] = *counters else {
        return skip(&format!("this KVM does not count: {counters:?}"));
    };
    // One for each byte, and one for the reset.
    assert!(exits > stub.printed().len() as u64, "{counters:?}");
}

#[test]
fn memory_beyond_the_devices_gap_is_no_obstacle() {
    needs_kvm!();
    let directory = tempfile::tempdir().unwrap();
    let kernel = directory.path().join("kernel");
    std::fs::write(&kernel, elf::wrap(program::hello())).unwrap();
    let config = MachineConfig { memory_mib: 5 << 10, ..config(kernel, 1) };
    let stub = Stub::start(&config, Vec::new()).unwrap();
    assert_eq!(stub.exit(), MachineExit::GuestReset);
}

#[test]
fn device_registers_answer_and_other_addresses_read_as_ones() {
    needs_kvm!();
    let stub = Stub::boot(program::mmio(), 1, vec![Box::new(Mirror::new())]);
    assert_eq!(stub.exit(), MachineExit::GuestReset);
    assert_eq!(stub.printed(), "virt and ones\n");
}

#[test]
fn a_machine_has_its_devices_in_guest_order() {
    needs_kvm!();
    let directory = tempfile::tempdir().unwrap();
    let path = |name| directory.path().join(name);
    std::fs::write(path("kernel"), elf::wrap(program::device_kinds())).unwrap();
    let log = Arc::new(ConsoleLog::create(&path("console"), 1 << 20).unwrap());
    let disk = DiskConfig { capacity_bytes: SECTOR_BYTES, access: DiskAccess::ReadOnly, extents: Vec::new() };
    let block = |index| {
        let disk = Arc::new(Disk::open(&disk).unwrap());
        Box::new(Block::new(disk, index)) as Box<dyn VirtioDevice>
    };
    let set = DeviceSet {
        snapshot: None,
        disks: vec![block(0), block(1)],
        vsock: Box::new(Vsock::listen(path("vsock"), 3).unwrap()),
        rng: Box::new(Rng),
        console: Box::new(Console::new(log.clone())),
        network_cards: vec![],
        balloon: None,
        shares: vec![],
        share_servers: vec![],
        console_log: log,
    };
    let (sender, exits) = channel();
    let machine = Machine::start(&config(path("kernel"), 1), set, sender).unwrap();
    assert_eq!(exits.recv_timeout(DEADLINE).unwrap(), MachineExit::GuestReset);
    machine.shut_down();
    // Disks (2), vsock (19), entropy (4), console (3); printed through the serial port into the same log.
    assert_eq!(std::fs::read_to_string(path("console")).unwrap(), "22C43");
}

#[test]
fn an_interrupt_reaches_the_guests_handler() {
    needs_kvm!();
    let stub = Stub::boot(program::interrupt(), 1, Vec::new());
    assert_eq!(stub.exit(), MachineExit::GuestReset);
    assert_eq!(stub.printed(), "interrupted and back\n");
}

#[test]
fn breakpoints_work_where_kernel_code_is_interpreted_too() {
    needs_kvm!();
    let stub = Stub::boot(program::breakpoint(), 1, Vec::new());
    assert_eq!(stub.exit(), MachineExit::GuestReset);
    assert_eq!(stub.printed(), "break and on\n");
}

#[test]
fn a_disk_is_read_and_written_through_its_queue() {
    needs_kvm!();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let text = b"from sector one\n";
    file.write_all(&[&[0; 512], &text[..], &[0; 1024]].concat()).unwrap();
    file.as_file().set_len(4 * SECTOR_BYTES).unwrap();
    let extent = Extent { path: file.path().into(), offset_bytes: 0, length_bytes: 4 * SECTOR_BYTES };
    let config =
        DiskConfig { capacity_bytes: 4 * SECTOR_BYTES, access: DiskAccess::ReadWrite, extents: vec![extent] };
    let disk = Arc::new(Disk::open(&config).unwrap());

    let stub = Stub::boot(program::copy_sector(), 1, vec![Box::new(Block::new(disk.clone(), 0))]);
    assert_eq!(stub.exit(), MachineExit::GuestReset);
    assert_eq!(stub.printed().as_bytes(), text);
    let mut copy = [0; 16];
    file.as_file().read_exact_at(&mut copy, 2 * SECTOR_BYTES).unwrap();
    assert_eq!(&copy, text);
    assert_eq!((disk.counters().reads, disk.counters().writes), (1, 1));
}

#[test]
fn a_connection_to_the_guest_carries_bytes_both_ways() {
    needs_kvm!();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vsock.sock");
    let vsock = Vsock::listen(path.clone(), 3).unwrap();
    // Before the guest has a driver: the connection waits for it.
    let mut connection = UnixStream::connect(&path).unwrap();
    connection.set_read_timeout(Some(DEADLINE)).unwrap();
    connection.write_all(b"CONNECT 1234\n").unwrap();
    let stub = Stub::boot(program::vsock_echo(), 1, vec![Box::new(vsock)]);

    let mut reader = BufReader::new(connection.try_clone().unwrap());
    let mut greeting = String::new();
    reader.read_line(&mut greeting).unwrap();
    assert!(greeting.starts_with("OK "), "{greeting:?}");
    // More than the guest's buffer of 64 KiB in all, so that credit has to go around.
    for round in 0..24u8 {
        let sent = [round; 8192];
        connection.write_all(&sent).unwrap();
        let mut echoed = [0xff; 8192];
        reader.read_exact(&mut echoed).unwrap();
        assert!(sent == echoed, "round {round}");
    }
    drop((connection, reader));
    stub.prints("closed");
    assert_eq!(stub.exit(), MachineExit::GuestReset);
}

#[test]
fn the_first_processor_starts_the_second() {
    needs_kvm!();
    let stub = Stub::boot(program::two_processors(), 2, Vec::new());
    assert_eq!(stub.exit(), MachineExit::GuestReset);
    assert_eq!(stub.printed(), "2 first too\n");
}

#[test]
fn a_paused_machine_stands_still_until_resumed() {
    needs_kvm!();
    let stub = Stub::boot(program::dots(), 2, Vec::new());
    stub.prints("...");
    stub.machine.pause();
    let then = stub.printed().len();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(stub.printed().len(), then);
    stub.machine.resume();
    stub.prints(&".".repeat(then + 1));
}

#[test]
fn a_guest_that_never_exits_can_be_paused_and_dropped() {
    needs_kvm!();
    let stub = Stub::boot(program::tight_loop(), 1, Vec::new());
    stub.prints("loop");
    for _ in 0..20 {
        stub.machine.pause();
        stub.machine.resume();
    }
    drop(stub);
}

#[test]
fn a_triple_fault_is_a_reset() {
    needs_kvm!();
    let stub = Stub::boot(program::triple_fault(), 1, Vec::new());
    assert_eq!(stub.exit(), MachineExit::GuestReset);
}

#[test]
fn a_guest_that_kvm_cannot_run_ends_with_its_position() {
    needs_kvm!();
    let stub = Stub::boot(program::run_from_nowhere(), 1, Vec::new());
    let MachineExit::Failed { message } = stub.exit() else { panic!("another end") };
    assert!(message.contains("vCPU 0") && message.contains("0xe0000000"), "{message}");
}

#[test]
fn a_file_that_is_no_kernel_is_refused_by_name() {
    needs_kvm!();
    let entry_nowhere = {
        let mut kernel = elf::wrap(program::hello());
        kernel[24..32].copy_from_slice(&(1u64 << 40).to_le_bytes());
        kernel
    };
    for kernel in [b"#!/bin/sh\n".as_slice(), &[], &entry_nowhere] {
        let error = Stub::try_boot(kernel, 1, Vec::new()).map(drop).unwrap_err().to_string();
        assert!(error.contains("/kernel is no uncompressed x86-64 ELF kernel"), "{error}");
    }
}

#[test]
fn linux_finds_its_processors_and_its_command_line() {
    needs_kvm!();
    let Some(kernel) = std::env::var_os("BERTH_TEST_KERNEL") else {
        skip("BERTH_TEST_KERNEL does not name a kernel");
        return;
    };
    let config = MachineConfig { command_line: "ignore_loglevel".to_owned(), ..config(kernel.into(), 2) };
    let stub = Stub::start(&config, Vec::new()).unwrap();
    // Both are in the MP table, which it has found.
    stub.prints("Processors: 2");
    stub.prints("Kernel command line: ");
    stub.prints(" ignore_loglevel");
}
