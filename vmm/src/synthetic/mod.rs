//! Drivers that keep a device's queues as busy as a guest could: `cargo xtask bench vmm` runs them, nothing else does.
//!
//! Each prints lines that begin with `measured: `. But for restored memory no guest and no KVM
//! takes part: what is measured is the device.

mod block;
mod vsock;

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::stub_guest::snapshot_tests::cost_of_restored_memory;

/// A number that the caller sets in the environment.
fn variable(name: &str) -> u32 {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set")).parse().unwrap()
}

/// What this thread has used of a processor so far.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// In microseconds, page by page and with a working set.
#[test]
#[ignore = "a measurement: cargo xtask bench vmm"]
fn restored_memory() {
    let [memory_mib, places, distance] =
        ["BERTH_BENCH_MEMORY_MIB", "BERTH_BENCH_PLACES", "BERTH_BENCH_DISTANCE"].map(variable);
    for cost in cost_of_restored_memory(memory_mib, places, distance) {
        println!("measured: {}", cost.as_micros());
    }
}

#[test]
#[ignore = "a measurement: cargo xtask bench vmm"]
fn block_reads() {
    block::reads();
}

#[test]
#[ignore = "a measurement: cargo xtask bench vmm"]
fn vsock_stream() {
    vsock::stream();
}

#[test]
#[ignore = "a measurement: cargo xtask bench vmm"]
fn unix_socket_stream() {
    vsock::plain_stream();
}
