//! Balloon, network card and share on `/dev/kvm`, each driven by a guest with real notifications and interrupts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{DEADLINE, Stub, config, device_program, elf, needs_kvm, program};
use crate::config::{BalloonConfig, MachineConfig, ShareConfig};
use crate::control::MachineExit;
use crate::kvm_machine::Tracking;
use crate::virtio::fs::tests::RealServer;
use crate::virtio::net::tests::{Network, card as network_card, from_guest, ip, to_guest};
use crate::virtio::{Balloon, BalloonHandle, Rng, Share, Tap, VirtioDevice};

/// KiB of a mapping of this size that are in the host's RAM. No other test has memory of that size.
fn resident_kib(mapping_kib: u64) -> u64 {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let field = |line: &str, name| {
        line.strip_prefix(name).map(|value| value.trim().trim_end_matches(" kB").parse::<u64>().unwrap())
    };
    let mut lines = maps.lines().skip_while(|line| field(line, "Size:") != Some(mapping_kib));
    lines.find_map(|line| field(line, "Rss:")).unwrap()
}

/// Where it shares the first one's interrupt line.
fn balloon_as_twentieth_device(memory_mib: u32) -> (Arc<BalloonHandle>, Vec<Box<dyn VirtioDevice>>) {
    let balloon = BalloonConfig { target_mib: 0, deflate_on_oom: false, report_free_pages: true };
    let balloon = Balloon::new(balloon, memory_mib).unwrap();
    let handle = balloon.handle();
    let mut devices: Vec<Box<dyn VirtioDevice>> = Vec::new();
    devices.resize_with(19, || Box::new(Rng));
    devices.push(Box::new(balloon));
    (handle, devices)
}

#[test]
fn a_guest_gives_memory_back_and_the_host_has_it() {
    needs_kvm!();
    const MEMORY_MIB: u32 = 45;
    let directory = tempfile::tempdir().unwrap();
    let kernel = directory.path().join("kernel");
    std::fs::write(&kernel, elf::wrap(device_program::balloon())).unwrap();
    let (handle, devices) = balloon_as_twentieth_device(MEMORY_MIB);
    let config = MachineConfig { memory_mib: MEMORY_MIB, ..config(kernel, 2) };
    let stub = Stub::start(&config, devices).unwrap();

    stub.prints("full ");
    let full_kib = resident_kib(u64::from(MEMORY_MIB) << 10);
    handle.set_target(1).unwrap();
    stub.prints("gave ");
    let after_kib = resident_kib(u64::from(MEMORY_MIB) << 10);
    assert!(full_kib >= 16 << 10, "{full_kib} KiB");
    // The guest has looked at the first of the pages since, which brought it back, with its neighbours if pages are huge.
    assert_eq!((handle.counters().actual_mib, handle.counters().inflated_bytes), (1, 1 << 20));
    assert!(after_kib < full_kib, "{after_kib} KiB are left of {full_kib}");
    handle.set_target(0).unwrap();
    assert_eq!(stub.exit(), MachineExit::GuestReset);
}

#[test]
fn frames_reach_a_guest_and_come_back() {
    needs_kvm!();
    let Some(mut network) = Network::new() else { return };
    let card = network_card(network.card.take(), None).unwrap();
    let statistics = card.handle().unwrap();
    let stub = Stub::boot(device_program::frame_echo(), 2, vec![Box::new(card)]);
    for number in 1..20 {
        network.send(&to_guest(number, 1000));
        assert_eq!(network.receive_from_guest(), from_guest(number, 1000));
    }
    network.send(&to_guest(b'q', 60));
    assert_eq!(network.receive_from_guest(), from_guest(b'q', 60));
    stub.prints("over");
    assert_eq!(stub.exit(), MachineExit::GuestReset);
    assert_eq!((statistics.counters().to_network_frames, statistics.counters().dropped_to_network), (20, 0));
}

#[test]
fn a_guest_reads_a_file_of_the_host_without_us() {
    needs_kvm!();
    let Some(server) = RealServer::start() else { return };
    let directory = tempfile::tempdir().unwrap();
    let kernel = directory.path().join("kernel");
    std::fs::write(&kernel, elf::wrap(device_program::read_file())).unwrap();
    let share = ShareConfig { tag: "data".into(), socket: server.socket() };
    let device = Share::connect(&share.tag, &share.socket).unwrap();
    let config = MachineConfig { shares: vec![share], ..config(kernel, 2) };
    let stub = Stub::start(&config, vec![Box::new(device)]).unwrap();
    assert_eq!(stub.exit(), MachineExit::GuestReset);
    assert_eq!(stub.printed(), RealServer::TEXT);
}

#[test]
fn a_machine_goes_on_when_its_shares_server_dies() {
    needs_kvm!();
    let Some(mut server) = RealServer::start() else { return };
    let directory = tempfile::tempdir().unwrap();
    let kernel = directory.path().join("kernel");
    // Its driver starts, and then waits for an answer that never comes.
    std::fs::write(&kernel, elf::wrap(device_program::read_file())).unwrap();
    let share = ShareConfig { tag: "data".into(), socket: server.socket() };
    let device = Share::connect(&share.tag, &share.socket).unwrap();
    server.kill(&device);
    let config = MachineConfig { shares: vec![share], ..config(kernel, 1) };
    let stub = Stub::start(&config, vec![Box::new(device)]).unwrap();
    stub.prints("virtio device 0 (FileSystem) stopped: its server is gone");
    let begun = Instant::now();
    stub.machine.pause();
    stub.machine.resume();
    assert!(begun.elapsed() < DEADLINE.min(Duration::from_secs(10)), "and its processor obeys");
}

#[test]
fn a_card_goes_on_after_a_snapshot_on_another_interface() {
    needs_kvm!();
    let Some(mut network) = Network::new() else { return };
    let directory = tempfile::tempdir().unwrap();
    let snapshot = directory.path().join("snapshot");
    let card = network_card(network.card.take(), None).unwrap();
    let stub = Stub::boot(device_program::frame_echo(), 1, vec![Box::new(card)]);
    for number in 1..4 {
        network.send(&to_guest(number, 1000));
        assert_eq!(network.receive_from_guest(), from_guest(number, 1000));
    }
    stub.machine.pause();
    stub.machine.save(&snapshot, Tracking::Off, false).unwrap();
    stub.machine.resume();
    network.send(&to_guest(5, 100));
    assert_eq!(network.receive_from_guest(), from_guest(5, 100), "the machine itself goes on, too");
    drop(stub);

    let tap = Tap::open("card").unwrap();
    // A bridge takes its time with a port whose holder changes, and none with one that comes up.
    ip("link set card down");
    ip("link set card up");
    let card = network_card(Some(tap), None).unwrap();
    let config = config("/no/kernel".into(), 1);
    let stub = Stub::restore(&config, &snapshot, vec![Box::new(card)]).unwrap();
    for number in 6..20 {
        network.send(&to_guest(number, 1000));
        assert_eq!(network.receive_from_guest(), from_guest(number, 1000));
    }
    network.send(&to_guest(b'q', 60));
    stub.prints("over");
    assert_eq!(stub.exit(), MachineExit::GuestReset);
}

#[test]
fn a_balloon_goes_on_after_a_snapshot_with_another_wish() {
    needs_kvm!();
    const MEMORY_MIB: u32 = 46;
    let directory = tempfile::tempdir().unwrap();
    let path = |name| directory.path().join(name);
    std::fs::write(path("kernel"), elf::wrap(device_program::balloon())).unwrap();
    let (handle, devices) = balloon_as_twentieth_device(MEMORY_MIB);
    let config = MachineConfig { memory_mib: MEMORY_MIB, ..config(path("kernel"), 1) };
    let stub = Stub::start(&config, devices).unwrap();
    stub.prints("full ");
    stub.machine.pause();
    stub.machine.save(&path("snapshot"), Tracking::Off, false).unwrap();
    drop((stub, handle));

    let (handle, devices) = balloon_as_twentieth_device(MEMORY_MIB);
    handle.set_target(1).unwrap();
    let stub = Stub::restore(&config, &path("snapshot"), devices).unwrap();
    // What it gives back lies on the snapshot's file, and must not come back from there: the guest looks.
    stub.prints("gave ");
    assert_eq!(handle.counters().inflated_bytes, 1 << 20);
    handle.set_target(0).unwrap();
    assert_eq!(stub.exit(), MachineExit::GuestReset);
}

#[test]
fn a_machine_with_a_share_is_not_saved() {
    needs_kvm!();
    let Some(server) = RealServer::start() else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = |name| directory.path().join(name);
    std::fs::write(path("kernel"), elf::wrap(program::dots())).unwrap();
    let share = ShareConfig { tag: "data".into(), socket: server.socket() };
    let device = Share::connect(&share.tag, &share.socket).unwrap();
    let config = MachineConfig { shares: vec![share], ..config(path("kernel"), 1) };
    let stub = Stub::start(&config, vec![Box::new(device)]).unwrap();
    stub.prints("...");
    stub.machine.pause();
    let refusal = stub.machine.save(&path("snapshot"), Tracking::Off, false).unwrap_err();
    let refusal = format!("{:#}", anyhow::Error::from(refusal));
    assert!(refusal.contains("a machine with shares cannot be part of a snapshot"), "{refusal}");
    stub.machine.resume();
    stub.prints(&".".repeat(stub.printed().len() + 1));
}
