//! What a container has mounted, decided when it was made and kept in its record.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::request::{HostSource, ImageSource};
use crate::image::ImageId;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// An absolute path without `.`, `..` and needless slashes.
    pub target: String,
    pub read_only: bool,
    /// What the client wrote behind the target: "ro,z".
    pub mode: String,
    pub source: PointSource,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PointSource {
    Host(HostSource),
    Volume(VolumePoint),
    Image(ImagePoint),
}

/// An image at its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagePoint {
    /// What the reference meant when the container was made.
    pub id: ImageId,
    pub source: ImageSource,
}

/// A volume at its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumePoint {
    pub name: String,
    /// Nobody named it: it goes with the last container that has it, if that is asked for.
    pub anonymous: bool,
    pub driver: String,
    /// With the labels, what it is made with if it is not there.
    pub driver_options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub subpath: String,
    /// While it is empty, it gets what the image has there.
    pub copy: bool,
}

impl MountPoint {
    /// The volume that is there, if it is one.
    #[must_use]
    pub fn volume(&self) -> Option<&VolumePoint> {
        match &self.source {
            PointSource::Volume(volume) => Some(volume),
            PointSource::Host(_) | PointSource::Image(_) => None,
        }
    }

    /// Whether it takes a share.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.image().is_none()
    }

    /// The image that is there, if it is one.
    #[must_use]
    pub fn image(&self) -> Option<&ImagePoint> {
        match &self.source {
            PointSource::Image(image) => Some(image),
            PointSource::Host(_) | PointSource::Volume(_) => None,
        }
    }
}
