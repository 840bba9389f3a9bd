//! What a volume is: the noun, as it is kept and shown.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::name::VolumeName;

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
}

/// Where a volume's files are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backing {
    /// In a directory of the volume's own, as much as the host has room for.
    Directory,
    /// In a directory of the host's, which the volume is another name for.
    Bind { device: PathBuf, access: Access },
}

/// What the volume's options allow, whatever a container asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    #[default]
    ReadWrite,
    ReadOnly,
}

/// What Docker calls a volume that nobody gave a name.
pub(super) const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

impl Volume {
    /// Nobody gave it a name: it is of use to the container that it was made for.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.labels.contains_key(ANONYMOUS_LABEL)
    }
}
