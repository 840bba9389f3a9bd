//! How a container's output is kept, as its request says it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Who keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    #[default]
    JsonFile,
    /// As `JsonFile`, with bounds of its own and a file that is nobody else's to read.
    Local,
    /// Nobody: only who is attached sees it.
    None,
}

/// A log grows no further than this, and then begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// Of one file; a single record may be longer.
    pub max_bytes: u64,
    /// With the one that is written to; at least 1.
    pub max_files: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogSettings {
    pub driver: LogDriver,
    /// As the client wrote them.
    pub options: BTreeMap<String, String>,
    pub rotation: Option<Rotation>,
    /// Which of the container's labels and variables stand beside each record.
    pub labels: Vec<String>,
    pub variables: Vec<String>,
    /// What the container is called beside each record.
    pub tag: Option<String>,
}

impl LogDriver {
    /// Docker's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::JsonFile => "json-file",
            Self::Local => "local",
            Self::None => "none",
        }
    }
}
