//! What a container may do beyond using up resources: privileges, namespaces, devices. Nouns of its description.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::capabilities::{CapabilityName, CapabilitySet};
use crate::seccomp::Seccomp;

/// What its processes may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// Everything that its machine can do; the machine's own walls stand.
    pub privileged: bool,
    pub added_capabilities: Vec<CapabilityName>,
    pub dropped_capabilities: Vec<CapabilityName>,
    pub no_new_privileges: bool,
    pub seccomp: Seccomp,
    /// The words that said so, as the client wrote them.
    pub options: Vec<String>,
    /// `None` is Docker's list, or none at all for the privileged.
    pub masked_paths: Option<Vec<String>>,
    pub readonly_paths: Option<Vec<String>>,
}

impl Security {
    pub(super) fn capabilities(&self) -> CapabilitySet {
        if self.privileged {
            CapabilitySet::all()
        } else {
            CapabilitySet::tweaked(&self.added_capabilities, &self.dropped_capabilities)
        }
    }

    /// The privileged are filtered only if they ask for it.
    pub(super) fn effective_seccomp(&self) -> &Seccomp {
        match &self.seccomp {
            Seccomp::Default if self.privileged => &Seccomp::Unconfined,
            seccomp => seccomp,
        }
    }
}

/// Whose a container's namespace is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    #[default]
    Own,
    /// That of the machine that it runs in.
    Machine,
}

/// Docker's kinds of IPC namespaces, as far as they are nobody else's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ipc {
    #[default]
    Private,
    /// Its own, and others may join.
    Shareable,
    /// Its own, without /dev/shm.
    WithoutShm,
    Machine,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespaces {
    pub pid: Namespace,
    /// Or the one of this container, by name or id.
    pub pid_of: Option<String>,
    pub ipc: Ipc,
    /// Or the one of this container, by name or id.
    pub ipc_of: Option<String>,
    pub uts: Namespace,
    pub cgroup: Namespace,
    /// Its own if the daemon's settings say who its users are then.
    pub user: Namespace,
}

impl Namespaces {
    /// Whether others may have the container's IPC namespace, which is then also that of its /dev/shm.
    pub(super) fn shares_ipc(&self) -> bool {
        self.ipc_of.is_some() || matches!(self.ipc, Ipc::Shareable | Ipc::Machine)
    }
}

/// A device of the machine's that the container has a node of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// In the machine, as its kernel calls it: "/dev/fuse".
    pub path: String,
    pub path_in_container: String,
    /// Of the letters r, w and m.
    pub access: String,
}

/// "c 10:229 rwm": which devices may be used, with or without a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceRule {
    pub(super) kind: DeviceKind,
    /// `None` is every number.
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    pub(super) access: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeviceKind {
    Any,
    Block,
    Character,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid device cgroup rule format: '{0}'")]
pub struct InvalidDeviceRule(String);

/// Whether these are letters of device accesses, each once.
#[must_use]
pub fn is_device_access(text: &str) -> bool {
    let letters: Vec<char> = text.chars().collect();
    let once = |letter: &char| letters.iter().filter(|other| *other == letter).count() == 1;
    !letters.is_empty() && letters.iter().all(|letter| "rwm".contains(*letter) && once(letter))
}

impl FromStr for DeviceRule {
    type Err = InvalidDeviceRule;

    fn from_str(text: &str) -> Result<Self, InvalidDeviceRule> {
        let parse = || {
            let [kind, numbers, access] = text.split(' ').collect::<Vec<_>>()[..] else { return None };
            let kind = match kind {
                "a" => DeviceKind::Any,
                "b" => DeviceKind::Block,
                "c" => DeviceKind::Character,
                _ => return None,
            };
            let (major, minor) = numbers.split_once(':')?;
            let number = |text: &str| if text == "*" { Some(None) } else { Some(Some(text.parse().ok()?)) };
            let (major, minor) = (number(major)?, number(minor)?);
            is_device_access(access).then(|| Self { kind, major, minor, access: access.to_owned() })
        };
        parse().ok_or_else(|| InvalidDeviceRule(text.to_owned()))
    }
}

impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            DeviceKind::Any => 'a',
            DeviceKind::Block => 'b',
            DeviceKind::Character => 'c',
        };
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        write!(f, "{kind} {}:{} {}", number(self.major), number(self.minor), self.access)
    }
}

impl TryFrom<String> for DeviceRule {
    type Error = InvalidDeviceRule;

    fn try_from(text: String) -> Result<Self, InvalidDeviceRule> {
        text.parse()
    }
}

impl From<DeviceRule> for String {
    fn from(rule: DeviceRule) -> Self {
        rule.to_string()
    }
}

/// A limit of each process, as setrlimit(2) has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// "nofile"
    pub name: String,
    /// -1 is "unlimited".
    pub soft: i64,
    pub hard: i64,
}

impl Ulimit {
    /// `RLIMIT_…` on x86-64, by number; address space is none of Docker's names.
    const NAMES: [&str; 16] = [
        "cpu",
        "fsize",
        "data",
        "stack",
        "core",
        "rss",
        "nproc",
        "nofile",
        "memlock",
        "as",
        "locks",
        "sigpending",
        "msgqueue",
        "nice",
        "rtprio",
        "rttime",
    ];

    /// The kernel's number of what is limited; `None` for a name that it does not have.
    #[must_use]
    pub fn resource(&self) -> Option<u32> {
        (0..).zip(Self::NAMES).find(|(_, name)| *name == self.name && *name != "as").map(|(number, _)| number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_rules_are_read_as_docker_writes_them() {
        for text in ["c 10:229 rwm", "b *:* r", "a 7:* wm"] {
            assert_eq!(text.parse::<DeviceRule>().unwrap().to_string(), text);
        }
        for wrong in ["", "c", "c 1:3", "d 1:3 r", "c 1 r", "c 1:x r", "c 1:3 x", "c 1:3 rr", "c  1:3 r"] {
            let error = wrong.parse::<DeviceRule>().unwrap_err().to_string();
            assert_eq!(error, format!("invalid device cgroup rule format: '{wrong}'"));
        }
    }

    #[test]
    fn ulimits_have_the_kernels_numbers() {
        let number = |name: &str| Ulimit { name: name.into(), soft: 0, hard: 0 }.resource();
        assert_eq!((number("nofile"), number("rttime"), number("cpu")), (Some(7), Some(15), Some(0)));
        assert_eq!((number("as"), number("files")), (None, None));
    }

    #[test]
    fn the_privileged_are_filtered_only_on_request() {
        let privileged = |seccomp| Security { privileged: true, seccomp, ..Security::default() };
        assert_eq!(privileged(Seccomp::Default).effective_seccomp(), &Seccomp::Unconfined);
        assert_eq!(privileged(Seccomp::Builtin).effective_seccomp(), &Seccomp::Builtin);
        assert_eq!(Security::default().effective_seccomp(), &Seccomp::Default);
    }
}
