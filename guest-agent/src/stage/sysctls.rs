//! Kernel parameters of a new container's network namespace, as Docker sets them.

use std::io::ErrorKind;

use berth_protocol::agent::ErrorCode;

use crate::failure::{During, Failure};

/// Ports below 1024 and ICMP echo for every user: the namespace is the container's own.
const DEFAULTS: [(&str, &str); 2] = [
    ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
    ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"),
];

/// Writes the defaults; a kernel without one of them has nothing to permit.
pub(super) fn set() -> Result<(), Failure> {
    for (path, value) in DEFAULTS {
        match std::fs::write(path, value) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            written => written.during(ErrorCode::Internal, || format!("write {path}"))?,
        }
    }
    Ok(())
}
