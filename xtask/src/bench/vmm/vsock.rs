//! The vsock device on its own queues, 64 KiB a packet, beside a plain unix socket: goal 17.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use super::drivers::Drivers;
use crate::progress;

const MIB: u32 = 2048;
/// Enough for a ratio, and bearable under strace.
const TRACED_MIB: u32 = 64;
const MIB_VARIABLE: &str = "BERTH_BENCH_MIB";

pub(super) struct Measured {
    /// Sent to the host, by CPU time of the device's thread.
    pub(super) gigabytes_per_cpu_second: f64,
    /// The same of a thread that writes to a plain socket.
    pub(super) plain_gigabytes_per_cpu_second: f64,
    /// `None` without strace.
    pub(super) system_calls_per_mib: Option<f64>,
}

pub(super) fn measure(drivers: &Drivers, directory: &Path) -> anyhow::Result<Measured> {
    progress::heading("the vsock device on synthetic queues");
    let variables = [(MIB_VARIABLE, MIB.to_string())];
    let (mut ours, mut plain) = (0.0, 0.0);
    for name in ["vsock_stream", "unix_socket_stream", "unix_socket_stream", "vsock_stream"] {
        let sum = if name == "vsock_stream" { &mut ours } else { &mut plain };
        *sum += drivers.run(name, &variables)? / 2.0;
    }
    let system_calls_per_mib = if Command::new("strace").arg("--version").output().is_ok() {
        let log = directory.join("strace-vsock");
        drivers.trace("vsock_stream", &[(MIB_VARIABLE, TRACED_MIB.to_string())], &log)?;
        let calls = calls_of_device(&fs::read_to_string(&log)?).context("the vsock device sent nothing")?;
        Some(f64::from(calls) / f64::from(TRACED_MIB))
    } else {
        None
    };
    Ok(Measured {
        gigabytes_per_cpu_second: ours,
        plain_gigabytes_per_cpu_second: plain,
        system_calls_per_mib,
    })
}

/// The calls of the thread that sends messages: the other one reads them, as the host would.
fn calls_of_device(log: &str) -> Option<u32> {
    let mut calls: BTreeMap<&str, u32> = BTreeMap::new();
    let mut device = None;
    for line in log.lines().filter(|line| !line.contains(" resumed>")) {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        *calls.entry(thread).or_default() += 1;
        if call.trim_start().starts_with("sendmsg(") {
            device = Some(thread);
        }
    }
    calls.get(device?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sending_threads_calls_count() {
        let log = "7   read(3, 1) = 1\n8   sendmsg(4, <unfinished ...>\n7   read(3, 1) = 1\n\
                   8   <... sendmsg resumed>) = 9\n8   epoll_wait(5) = 0\n";
        assert_eq!(calls_of_device(log), Some(2));
        assert_eq!(calls_of_device("7   read(3, 1) = 1\n"), None);
    }
}
