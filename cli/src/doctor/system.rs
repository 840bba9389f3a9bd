//! The host itself: who we are on it, and which control groups it has.

use std::path::Path;

use super::report::Check;

pub(super) fn checks() -> Vec<Check> {
    vec![privileges(), control_groups()]
}

/// For systems that cannot run machines.
pub(super) fn only_a_client() -> Check {
    Check::warning(
        "machines",
        format!("{} runs no machines: berth is a client here", std::env::consts::OS),
        "name a daemon on a Linux host with -H",
    )
}

#[cfg(unix)]
fn privileges() -> Check {
    let user = rustix::process::geteuid();
    if user.is_root() {
        return Check::ok("privileges", "root");
    }
    Check::warning(
        "privileges",
        format!("user {}: not root", user.as_raw()),
        "run berthd as root, or give it directories of your own with --data-root and --exec-root",
    )
}

#[cfg(not(unix))]
fn privileges() -> Check {
    Check::ok("privileges", "not applicable")
}

/// Containers' limits are the guest's own control groups, so either version of the host's will do.
fn control_groups() -> Check {
    let version = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        "version 2 on the host"
    } else if Path::new("/sys/fs/cgroup/memory").exists() {
        "version 1 on the host"
    } else {
        "none on the host"
    };
    Check::ok("cgroup", format!("{version}; containers have version 2 inside their machine"))
}
