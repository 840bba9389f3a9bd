//! What a machine promises, each shown by a guest that would notice.

use std::time::Duration;

use super::{Stub, config, elf, needs_kvm, program, skip};
use crate::config::MachineConfig;
use crate::control::MachineExit;
use crate::virtio::mmio::tests::Mirror;

#[test]
fn a_guest_speaks_and_resets() {
    needs_kvm!();
    let stub = Stub::boot(program::hello(), 1, Vec::new());
    assert_eq!(stub.exit(), MachineExit::GuestReset);
    assert_eq!(stub.printed(), "stub guest speaks\n");
}

#[test]
fn device_registers_answer_and_other_addresses_read_as_ones() {
    needs_kvm!();
    let stub = Stub::boot(program::mmio(), 1, vec![Box::new(Mirror::new())]);
    assert_eq!(stub.exit(), MachineExit::GuestReset);
    assert_eq!(stub.printed(), "virt and ones\n");
}

#[test]
fn an_interrupt_reaches_the_guests_handler() {
    needs_kvm!();
    let stub = Stub::boot(program::interrupt(), 1, Vec::new());
    assert_eq!(stub.exit(), MachineExit::GuestReset);
    assert_eq!(stub.printed(), "interrupted and back\n");
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
fn linux_starts_and_prints_its_first_lines() {
    needs_kvm!();
    let Some(kernel) = std::env::var_os("BERTH_TEST_KERNEL") else {
        skip(module_path!(), "BERTH_TEST_KERNEL does not name a kernel");
        return;
    };
    let config = MachineConfig { command_line: "ignore_loglevel".to_owned(), ..config(kernel.into(), 2) };
    let stub = Stub::start(&config, Vec::new()).unwrap();
    stub.prints("Linux version");
    stub.prints("ignore_loglevel");
    // Both are in the MP table, which it has found.
    stub.prints("Processors: 2");
}
