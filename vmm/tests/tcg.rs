//! Whole machines on software emulation: every device through QEMU's transports, and every way a machine ends.
#![expect(clippy::unwrap_used, reason = "tests state their expectations with it")]

use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

use berth_vmm::config::{DiskAccess, DiskConfig, files};
use berth_vmm::control::{MachineExit, Reply, Request, RunState};
use tempfile::NamedTempFile;

#[expect(dead_code, reason = "the machines of linux_devices.rs use the rest of it")]
mod harness;

use harness::{Machine, config, disk, eventually, is_alive, kernel_or_skip, whole};

/// A file of `mib` MiB that begins with `name`.
fn file(name: &str, mib: u64) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(mib << 20).unwrap();
    file.as_file().write_all_at(name.as_bytes(), 0).unwrap();
    file
}

fn failure(exit: MachineExit) -> String {
    match exit {
        MachineExit::Failed { message } => message,
        other => panic!("{other:?} is no failure"),
    }
}

fn kill(pid: u32, signal: &str) {
    assert!(std::process::Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

#[test]
fn disks_come_in_order_and_keep_what_is_written() {
    let Some(kernel) = kernel_or_skip("disks_come_in_order_and_keep_what_is_written") else { return };
    let (first, second) = (file("first", 1), file("second", 2));
    let disks = vec![disk(&first, DiskAccess::ReadOnly), disk(&second, DiskAccess::ReadWrite)];
    let machine = Machine::boot(&harness::with_disks(config(&kernel), disks));
    assert_eq!(machine.ask("read vda 0 5", &[]), b"first");
    assert_eq!(machine.ask("read vdb 0 6", &[]), b"second");
    assert_eq!(machine.ask("size vdb", &[]), b"4096");

    let bytes = vec![0xa5; 1 << 20];
    assert_eq!(machine.ask("write vdb 524288", &bytes), b"done");
    let mut written = vec![0; 1 << 20];
    second.as_file().read_exact_at(&mut written, 524_288).unwrap();
    assert!(written == bytes, "what the guest synced is in the file");
    assert_eq!(machine.ask("write vda 0", b"changed"), b"failed");

    let before = second.as_file().metadata().unwrap().blocks();
    assert_eq!(machine.ask("discard vdb 524288 1048576", &[]), b"done");
    let after = second.as_file().metadata().unwrap().blocks();
    assert_eq!((before - after) * 512, 1 << 20, "what the guest freed came back to the host");
}

#[test]
fn a_disk_is_bound_while_the_machine_runs() {
    let Some(kernel) = kernel_or_skip("a_disk_is_bound_while_the_machine_runs") else { return };
    let late = file("late", 1);
    let unbound = DiskConfig { capacity_bytes: 1 << 48, access: DiskAccess::ReadWrite, extents: vec![] };
    let machine = Machine::boot(&harness::with_disks(config(&kernel), vec![unbound]));
    let read_it = |at: u64| machine.ask(&format!("read vda {at} 4"), &[]);
    let bind = |start_bytes, access| {
        let extents = vec![whole(&late)];
        machine.control(&Request::BindDisk { disk: 0, start_bytes, access, extents })
    };
    assert_eq!(read_it(0), [0; 4]);
    assert_eq!(bind(0, Some(DiskAccess::ReadOnly)), Reply::Done);
    assert_eq!(read_it(0), b"late");
    assert_eq!(machine.ask("write vda 0", b"changed"), b"failed");
    // A part far away, of a disk that is larger than any file.
    let far = 1 << 47;
    assert_eq!(bind(far, None), Reply::Done);
    assert_eq!(machine.ask(&format!("write vda {far}"), b"LATE"), b"done");
    assert_eq!(machine.control(&Request::UnbindDisk { disk: 0, start_bytes: far }), Reply::Done);
    assert_eq!(machine.ask(&format!("write vda {far}"), b"more"), b"failed");
    let mut written = [0; 4];
    late.as_file().read_exact_at(&mut written, 0).unwrap();
    assert_eq!(&written, b"LATE");
    let Reply::Counters(counters) = machine.control(&Request::Counters) else { panic!("no counters") };
    assert!(counters.disks[0].reads >= 2 && counters.console_bytes > 0);
}

#[test]
fn connections_carry_much_and_many() {
    let Some(kernel) = kernel_or_skip("connections_carry_much_and_many") else { return };
    let machine = Machine::boot(&config(&kernel));
    let megabytes = vec![7; 8 << 20];
    assert_eq!(machine.ask("count", &megabytes), b"8388608");
    let received = machine.ask("send 8388608", &[]);
    assert!(received.len() == 8 << 20 && received.iter().all(|byte| *byte == b'x'));

    let mut connections: Vec<_> = (0..100).map(|_| machine.command("echo")).collect();
    for (number, connection) in connections.iter_mut().enumerate() {
        connection.write_all(&number.to_le_bytes()).unwrap();
    }
    for (number, connection) in connections.iter_mut().enumerate() {
        let mut answer = [0; 8];
        connection.read_exact(&mut answer).unwrap();
        assert_eq!(answer, number.to_le_bytes());
    }
    assert!(machine.connect(4711).is_none(), "nobody listens there");
    assert_ne!(machine.ask("random", &[]), [0; 32], "the entropy device answers");
}

#[test]
fn a_paused_machine_stands_still() {
    let Some(kernel) = kernel_or_skip("a_paused_machine_stands_still") else { return };
    let machine = Machine::boot(&config(&kernel));
    let state = || match machine.control(&Request::Status) {
        Reply::Status(status) => status.state,
        other => panic!("{other:?} is no status"),
    };
    let mut echo = machine.command("echo");
    assert_eq!(machine.control(&Request::Pause), Reply::Done);
    assert_eq!(state(), RunState::Paused);
    echo.write_all(b"x").unwrap();
    echo.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(echo.read(&mut [0]).is_err(), "no answer from a guest that stands still");
    assert_eq!(machine.control(&Request::Resume), Reply::Done);
    assert_eq!(state(), RunState::Running);
    echo.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_eq!(echo.read(&mut [0]).unwrap(), 1);
}

#[test]
fn two_processors_are_two() {
    let Some(kernel) = kernel_or_skip("two_processors_are_two") else { return };
    let mut config = config(&kernel);
    config.vcpus = 2;
    assert_eq!(Machine::boot(&config).ask("processors", &[]), b"2");
}

#[test]
fn a_guest_that_resets_ends_its_machine() {
    let Some(kernel) = kernel_or_skip("a_guest_that_resets_ends_its_machine") else { return };
    let mut machine = Machine::boot(&config(&kernel));
    machine.command("print these words are the last");
    eventually("the words are printed", || machine.console().contains("these words are the last"));
    machine.command("reset");
    assert_eq!(machine.exit(), MachineExit::GuestReset);
    for socket in [files::CONTROL, files::VSOCK] {
        assert!(!machine.file(socket).exists());
    }
}

#[test]
fn a_guest_that_panics_leaves_its_words() {
    let Some(kernel) = kernel_or_skip("a_guest_that_panics_leaves_its_words") else { return };
    let mut machine = Machine::boot(&config(&kernel));
    machine.command("panic");
    assert_eq!(machine.exit(), MachineExit::GuestReset);
    assert!(machine.console().contains("Attempted to kill init"), "{}", machine.console());
}

#[test]
fn a_machine_is_shut_down_by_request_and_by_signal() {
    let Some(kernel) = kernel_or_skip("a_machine_is_shut_down_by_request_and_by_signal") else { return };
    let mut machine = Machine::boot(&config(&kernel));
    let qemu = machine.qemu();
    assert_eq!(machine.control(&Request::ShutDown), Reply::Done);
    assert_eq!(machine.exit(), MachineExit::ShutDown);
    assert!(!is_alive(qemu));

    let mut machine = Machine::start(&config(&kernel));
    kill(machine.pid(), "-TERM");
    assert_eq!(machine.exit(), MachineExit::ShutDown);
}

#[test]
fn nothing_survives_a_killed_berth_vmm() {
    let Some(kernel) = kernel_or_skip("nothing_survives_a_killed_berth_vmm") else { return };
    let machine = Machine::boot(&config(&kernel));
    let qemu = machine.qemu();
    assert!(is_alive(qemu));
    kill(machine.pid(), "-KILL");
    eventually("QEMU is gone", || !is_alive(qemu));
}

#[test]
fn a_killed_qemu_fails_the_machine_by_name() {
    let Some(kernel) = kernel_or_skip("a_killed_qemu_fails_the_machine_by_name") else { return };
    let mut machine = Machine::boot(&config(&kernel));
    kill(machine.qemu(), "-KILL");
    assert_eq!(failure(machine.exit()), "qemu-system-x86_64 was killed by signal 9");
    let mut machine = Machine::boot(&config(&kernel));
    kill(machine.qemu(), "-TERM");
    let message = failure(machine.exit());
    assert!(message.contains("was told to quit (host-signal)"), "{message}");
}

#[test]
fn a_state_directory_runs_one_machine() {
    let Some(kernel) = kernel_or_skip("a_state_directory_runs_one_machine") else { return };
    let machine = Machine::boot(&config(&kernel));
    let (status, complaint) = machine.start_again();
    assert!(!status.success());
    assert!(complaint.contains(&format!("in use by process {}", machine.pid())), "{complaint}");
    assert_eq!(machine.ask("echo", b"undisturbed"), b"undisturbed");
}

#[test]
fn a_machine_that_cannot_start_says_why() {
    let kernel = std::path::Path::new("/nonexistent/kernel");
    let mut config = config(kernel);
    config.qemu = "/nonexistent/qemu".into();
    let message = failure(Machine::start(&config).exit());
    assert_eq!(message, "/nonexistent/qemu is not installed: apt-get install qemu-system-x86");

    config.vcpus = 0;
    let message = failure(Machine::start(&config).exit());
    assert_eq!(message, "machine.json: machine configuration: vcpus: 1 to 32 are possible");

    config.vcpus = 1;
    config.disks = vec![DiskConfig {
        capacity_bytes: 512,
        access: DiskAccess::ReadOnly,
        extents: vec![berth_vmm::config::Extent {
            path: "/nonexistent/disk".into(),
            offset_bytes: 0,
            length_bytes: 512,
        }],
    }];
    let message = failure(Machine::start(&config).exit());
    assert_eq!(message, "disk 0: /nonexistent/disk: No such file or directory (os error 2)");
}

#[test]
fn a_kernel_that_is_none_is_qemus_complaint() {
    let Some(_) = kernel_or_skip("a_kernel_that_is_none_is_qemus_complaint") else { return };
    let message = failure(Machine::start(&config(std::path::Path::new("/nonexistent/kernel"))).exit());
    assert!(message.starts_with("qemu-system-x86_64 failed with status 1: "), "{message}");
    assert!(message.contains("/nonexistent/kernel"), "{message}");
}

#[test]
fn a_host_may_call_before_the_guest_is_there() {
    let Some(kernel) = kernel_or_skip("a_host_may_call_before_the_guest_is_there") else { return };
    let machine = Machine::start(&config(&kernel));
    let begun = Instant::now();
    // The guest's kernel refuses what its init does not listen for yet; until it is there, the call waits.
    eventually("the guest accepts", || machine.connect(1024).is_some());
    assert!(begun.elapsed() > Duration::from_millis(50), "no machine boots that fast");
}
