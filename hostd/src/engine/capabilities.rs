//! Capabilities by their names, and which of them a container has.

use serde::{Deserialize, Serialize};

/// capabilities(7), by number.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Docker's default (moby, `oci/caps/defaults.go`).
const DEFAULT: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// A word of `--cap-add` and `--cap-drop`, in its full form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CapabilityName(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown capability: \"{0}\"")]
pub struct UnknownCapability(String);

impl CapabilityName {
    const ALL: &str = "ALL";

    /// "net_admin", "CAP_NET_ADMIN" and "all" in any case.
    ///
    /// # Errors
    /// A name that no capability has.
    pub fn parse(word: &str) -> Result<Self, UnknownCapability> {
        let mut name = word.trim().to_ascii_uppercase();
        if name == Self::ALL {
            return Ok(Self(name));
        }
        if !name.starts_with("CAP_") {
            name.insert_str(0, "CAP_");
        }
        if NAMES.contains(&name.as_str()) { Ok(Self(name)) } else { Err(UnknownCapability(name)) }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn is_all(&self) -> bool {
        self.0 == Self::ALL
    }
}

/// A set; bit n is capability number n.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CapabilitySet(u64);

impl CapabilitySet {
    pub(super) fn all() -> Self {
        Self::of(|_| true)
    }

    /// Docker's default with what was added and without what was dropped; what was named in both is there.
    pub(super) fn tweaked(add: &[CapabilityName], drop: &[CapabilityName]) -> Self {
        let named = |list: &[CapabilityName], name: &str| list.iter().any(|word| word.as_str() == name);
        let adds_all = add.iter().any(CapabilityName::is_all);
        let drops_all = drop.iter().any(CapabilityName::is_all);
        Self::of(|name| {
            let kept = (adds_all || (!drops_all && DEFAULT.contains(&name))) && !named(drop, name);
            kept || (!adds_all && named(add, name))
        })
    }

    fn of(wanted: impl Fn(&str) -> bool) -> Self {
        Self((0..).zip(NAMES).filter(|(_, name)| wanted(name)).fold(0, |set, (number, _)| set | 1 << number))
    }

    pub(super) fn bits(self) -> u64 {
        self.0
    }

    pub(super) fn names(self) -> Vec<&'static str> {
        (0..).zip(NAMES).filter(|(number, _)| self.0 & (1 << number) != 0).map(|(_, name)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tweaked(add: &[&str], drop: &[&str]) -> CapabilitySet {
        let parse = |words: &[&str]| -> Vec<CapabilityName> {
            words.iter().map(|word| CapabilityName::parse(word).unwrap()).collect()
        };
        CapabilitySet::tweaked(&parse(add), &parse(drop))
    }

    #[test]
    fn the_default_is_dockers() {
        assert_eq!(tweaked(&[], &[]).bits(), 0xa804_25fb);
        assert_eq!(CapabilitySet::all().bits(), 0x01ff_ffff_ffff);
    }

    #[test]
    fn adding_and_dropping_follow_dockers_rules() {
        assert_eq!(tweaked(&["net_admin"], &["CAP_CHOWN"]).bits(), 0xa804_25fa | 1 << 12);
        assert_eq!(tweaked(&["ALL"], &[]), CapabilitySet::all());
        assert_eq!(tweaked(&["all"], &["chown"]).bits(), CapabilitySet::all().bits() & !1);
        assert_eq!(tweaked(&[], &["ALL"]).bits(), 0);
        assert_eq!(tweaked(&["CHOWN", "kill"], &["ALL"]).names(), ["CAP_CHOWN", "CAP_KILL"]);
        assert_eq!(tweaked(&["CHOWN"], &["CHOWN"]).bits(), 0xa804_25fb);
    }

    #[test]
    fn a_name_that_is_none_is_told_in_full() {
        let message = CapabilityName::parse("fly").unwrap_err().to_string();
        assert_eq!(message, "unknown capability: \"CAP_FLY\"");
        assert_eq!(CapabilityName::parse("all").unwrap().as_str(), "ALL");
    }
}
