//! Kernel parameters of a new container's namespaces: those that Docker sets, and those that were asked for.
//!
//! That a parameter belongs to a namespace of the container's own is the host's to check.

use std::io::ErrorKind;
use std::path::PathBuf;

use berth_protocol::agent::{ErrorCode, StartContainer};

use crate::container::ids::IdMap;
use crate::failure::{During, Failure};

/// Ports below 1024 and ICMP echo for every user: the namespace is the container's own.
const FIRST_PORT: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
const PING_GROUPS: &str = "/proc/sys/net/ipv4/ping_group_range";
const HIGHEST_GROUP: u32 = i32::MAX.cast_unsigned();

/// Writes the defaults, where the kernel has them, and over them what was asked for, which it must have.
pub(super) fn set(container: &StartContainer) -> Result<(), Failure> {
    // Of a namespace's groups, only those that there are.
    let highest = IdMap::highest_from_root(&container.groups).unwrap_or(HIGHEST_GROUP);
    for (path, value) in [(FIRST_PORT, "0".to_owned()), (PING_GROUPS, format!("0 {highest}"))] {
        match std::fs::write(path, value) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            written => written.during(ErrorCode::Internal, || format!("write {path}"))?,
        }
    }
    for (name, value) in &container.sysctls {
        let path = path(name).ok_or_else(|| Failure::invalid(format!("{name:?} is no kernel parameter")))?;
        std::fs::write(path, value)
            .during(ErrorCode::InvalidRequest, || format!("set the kernel parameter {name} to {value:?}"))?;
    }
    Ok(())
}

/// Dots between the words of a name stand for directories; a name with slashes is a path already, and may have dots.
fn path(name: &str) -> Option<PathBuf> {
    let separator = if name.contains('/') { '/' } else { '.' };
    let words: Vec<&str> = name.split(separator).collect();
    let is_word = |word: &&str| !word.is_empty() && *word != "." && *word != ".." && !word.contains('\0');
    words.iter().all(is_word).then(|| ["/proc/sys"].iter().chain(&words).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_path_below_proc_sys() {
        assert_eq!(path("net.core.somaxconn").unwrap(), PathBuf::from("/proc/sys/net/core/somaxconn"));
        let dotted = PathBuf::from("/proc/sys/net/ipv4/conf/eth0.1/forwarding");
        assert_eq!(path("net/ipv4/conf/eth0.1/forwarding").unwrap(), dotted);
        for wrong in ["", ".", "net..core", "net/../../x", "/etc/passwd", "a/", "a\0b"] {
            assert_eq!(path(wrong), None, "{wrong:?}");
        }
    }
}
