//! The host itself: who we are on it, and which control groups it has.

use std::path::Path;

use super::report::Check;

pub(super) fn checks() -> Vec<Check> {
    vec![privileges(), networks(is_privileged()), control_groups()]
}

/// For systems that cannot run machines.
pub(super) fn only_a_client() -> Check {
    Check::warning(
        "machines",
        format!("{} runs no machines: berth is a client here", std::env::consts::OS),
        "name a daemon on a Linux host with -H",
    )
}

/// Whether the daemon, started by us, would have the rights that bridges take.
#[cfg(unix)]
pub(super) fn is_privileged() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(not(unix))]
pub(super) fn is_privileged() -> bool {
    false
}

fn networks(is_privileged: bool) -> Check {
    if is_privileged {
        return Check::ok("networks", "bridges of the host");
    }
    Check::warning(
        "networks",
        "user mode: containers reach others and publish ports, but do not reach each other",
        "run berthd as root",
    )
}

#[cfg(unix)]
fn privileges() -> Check {
    let user = rustix::process::geteuid();
    if is_privileged() {
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

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    #[test]
    fn who_may_make_no_bridges_is_told_what_is_missing() {
        assert_eq!(networks(true).verdict, Verdict::Ok);
        let without = networks(false);
        assert_eq!(without.verdict, Verdict::Warning);
        assert!(without.found.contains("user mode"));
    }
}
