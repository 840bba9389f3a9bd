//! What a volume is: the noun, as it is kept and shown.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::name::VolumeName;

/// What Docker calls a volume that nobody gave a name.
pub(in crate::engine) const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// A volume, for as long as it exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub name: VolumeName,
    pub created_at: Timestamp,
    pub labels: BTreeMap<String, String>,
    /// As they were asked for.
    pub options: BTreeMap<String, String>,
    /// What they mean.
    pub backing: Backing,
    #[serde(default)]
    pub(super) content: Content,
}

/// Where a volume's files are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backing {
    /// In a directory of the volume's own, as much as the host has room for.
    Directory,
    /// In a file system of the volume's own, as much as that has room for.
    Limited { size_bytes: u64 },
    /// In a directory of the host's, which the volume is another name for.
    Bind { device: PathBuf, access: Access },
    /// In memory of the host's, for as long as a container that runs has it.
    Memory(MemoryOptions),
}

/// What the volume's options allow, whatever a container asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    #[default]
    ReadWrite,
    ReadOnly,
}

/// As tmpfs(5) has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryOptions {
    /// Each with its value, checked.
    pub(super) words: BTreeMap<String, String>,
    pub(super) access: Access,
}

/// What a volume had of an image's files before anybody used it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Content {
    /// All of it, or nothing.
    #[default]
    Whole,
    /// Some of it: a daemon is copying, or has died while it did.
    Begun,
}

impl Volume {
    /// Nobody gave it a name: it is of use to the container that it was made for.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.labels.contains_key(ANONYMOUS_LABEL)
    }

    /// Nobody may write to it, whatever a container asks for.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        let (Backing::Bind { access, .. } | Backing::Memory(MemoryOptions { access, .. })) = &self.backing
        else {
            return false;
        };
        *access == Access::ReadOnly
    }
}
