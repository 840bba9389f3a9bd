//! Mounts as they are asked for.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Everything about mounts that a container is asked to have, beside file systems in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountRequests {
    pub requests: Vec<MountRequest>,
    /// Where a volume of the container's own is, unless something else is there; with those of the image.
    pub own_volumes: BTreeSet<String>,
    pub volumes_from: Vec<VolumesFrom>,
    /// Of volumes that do not name one.
    pub volume_driver: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRequest {
    /// An absolute path.
    pub target: String,
    pub read_only: bool,
    pub source: MountSource,
    pub written: Written,
}

/// Which of two ways to ask the client chose, as far as nothing else says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Written {
    /// "source:target:mode", and what of it is the mode.
    Line {
        text: String,
        mode: String,
    },
    Fields {
        consistency: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    Host(HostSource),
    Volume(VolumeSource),
    Image(ImageSource),
}

/// The files of an image, which nobody can write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSource {
    /// As the client wrote it.
    pub reference: String,
    /// What of the image is mounted; empty is all of it.
    pub subpath: String,
}

/// A directory or file of the host's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSource {
    /// An absolute path.
    pub path: String,
    pub if_missing: IfMissing,
    pub propagation: Propagation,
    pub below: MountsBelow,
}

/// What becomes of a mount whose source is not there when the container starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IfMissing {
    /// A directory is made.
    Make,
    Refuse,
}

/// What is mounted below a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountsBelow {
    #[default]
    Come,
    /// It comes, and is not to be written even by force.
    ComeReadOnly,
    /// It comes, and can be written although what it lies on cannot.
    ComeWritable,
    StayAway,
}

/// How mounts spread between two places. None do between a machine and its host, so that these say all that there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    #[default]
    Rprivate,
    Private,
    /// What the host mounts later is to be seen, and is not: a warning says so.
    Rslave,
    Slave,
}

impl Propagation {
    pub const ALL: [Self; 4] = [Self::Rprivate, Self::Private, Self::Rslave, Self::Slave];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rprivate => "rprivate",
            Self::Private => "private",
            Self::Rslave => "rslave",
            Self::Slave => "slave",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeSource {
    /// `None` is a new one, of the container's own.
    pub name: Option<String>,
    pub driver: String,
    pub driver_options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    /// An empty volume does not get what the image has there.
    pub no_copy: bool,
    /// What of the volume is mounted; empty is all of it.
    pub subpath: String,
}

/// What another container has mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumesFrom {
    /// As the client wrote it.
    pub text: String,
    /// Its id, the beginning of that, or its name.
    pub container: String,
    pub read_only: bool,
}
