//! Descriptors (OCI image-spec 1.1, descriptor.md): how one document names another document or a blob.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::media_type::MediaType;
use super::platform::Platform;
use crate::image::digest::Digest;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: MediaType,
    pub digest: Digest,
    #[serde(rename = "size")]
    pub size_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Where else the content may be had. Never followed.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
}

impl Descriptor {
    /// With nothing but what every descriptor has.
    #[must_use]
    pub fn new(media_type: MediaType, digest: Digest, size_bytes: u64) -> Self {
        let (platform, annotations, urls) = (None, BTreeMap::new(), Vec::new());
        Self { media_type, digest, size_bytes, platform, annotations, urls }
    }
}

pub(super) fn null_as_default<'de, T, D>(source: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Default,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(source)?.unwrap_or_default())
}
