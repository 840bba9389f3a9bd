//! Reading a manifest or an index from bytes that are not believed.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::descriptor::{Descriptor, null_as_default};
use super::media_type::{Class, Dialect, MediaType};
use super::platform::Platform;
use super::{MAX_DOCUMENT_BYTES, MAX_INDEX_ENTRIES, MAX_LAYERS};
use crate::image::digest::Digest;

/// A document exactly as it came: what is stored and pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawDocument {
    /// Of `content`.
    pub digest: Digest,
    /// What it was sent as.
    pub media_type: MediaType,
    pub content: Bytes,
}

/// A document that leads to images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    Manifest(Manifest),
    Index(Index),
}

/// One image: its configuration and its layers, base first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub dialect: Dialect,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

/// One image for several platforms, or several images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    pub dialect: Dialect,
    pub manifests: Vec<Descriptor>,
}

/// Why a document leads to no image. The first half of some is Docker's wording, which clients know.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("a document of more than {} MiB", MAX_DOCUMENT_BYTES >> 20)]
    TooLarge,
    #[error("not the JSON that it should be")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Contents(&'static str),
    #[error("it was sent as {sent}, and says of itself that it is {said}")]
    TypesDiffer { sent: MediaType, said: MediaType },
    #[error("unsupported media type {media_type:?}")]
    MediaType { media_type: String },
    #[error(
        "Docker Image manifest version 2, schema 1 is no longer supported; its author must upgrade the image to the \
         OCI format or to schema 2"
    )]
    Schema1,
    /// A Helm chart, a signature, a plugin …
    #[error("encountered remote {media_type:?}({class}) when fetching: it is no container image")]
    Artifact { media_type: String, class: &'static str },
    #[error("layer {digest}: {problem}")]
    Layer { digest: Digest, problem: String },
    #[error("no matching manifest for {platform} in the manifest list entries")]
    NoMatch { platform: Platform },
}

/// All fields that either kind has, so that one document cannot be read as both.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    #[serde(default)]
    schema_version: u64,
    #[serde(default, deserialize_with = "null_as_default")]
    media_type: MediaType,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    fs_layers: Option<IgnoredAny>,
}

impl RawDocument {
    /// Reads it.
    ///
    /// # Errors
    /// Those of [`Document::parse`].
    pub fn parse(&self) -> Result<Document, ManifestError> {
        Document::parse(&self.media_type, &self.content)
    }
}

impl Document {
    /// Reads a document that came as `sent` (a header, or the descriptor that led here; empty if nothing was said).
    ///
    /// # Errors
    /// It is too large, no manifest or index of a kind we know, contradicts its type, or exceeds a bound.
    pub fn parse(sent: &MediaType, content: &[u8]) -> Result<Self, ManifestError> {
        if content.len() as u64 > MAX_DOCUMENT_BYTES {
            return Err(ManifestError::TooLarge);
        }
        match sent.class() {
            Class::Manifest(_) | Class::Index(_) => {}
            Class::Schema1 => return Err(ManifestError::Schema1),
            // Some registries send every document as text or plain JSON: then it speaks for itself.
            _ if sent.is_empty() || matches!(sent.as_str(), "application/json" | "text/plain") => {}
            _ => return Err(ManifestError::MediaType { media_type: sent.to_string() }),
        }
        let fields: Fields = serde_json::from_slice(content)?;
        if fields.schema_version == 1 || fields.fs_layers.is_some() {
            return Err(ManifestError::Schema1);
        }
        if fields.schema_version != 2 {
            return Err(ManifestError::Contents("its schemaVersion is not 2"));
        }
        Self::from_fields(sent, fields)
    }

    fn from_fields(sent: &MediaType, fields: Fields) -> Result<Self, ManifestError> {
        let said = fields.media_type.clone();
        let is_known = |class| matches!(class, Class::Manifest(_) | Class::Index(_));
        if is_known(sent.class()) && !said.is_empty() && said != *sent {
            return Err(ManifestError::TypesDiffer { sent: sent.clone(), said });
        }
        let class = if is_known(sent.class()) { sent.class() } else { said.class() };
        match (class, fields.config, fields.layers, fields.manifests) {
            (Class::Manifest(dialect), Some(config), layers, None) => {
                let layers = layers.unwrap_or_default();
                Ok(Self::Manifest(Manifest { dialect, config, layers }.checked()?))
            }
            (Class::Index(dialect), None, None, Some(manifests)) => {
                Ok(Self::Index(Index { dialect, manifests }.checked()?))
            }
            // OCI's documents need not name their type: then their fields tell.
            (Class::Unknown, config, layers, manifests) if said.is_empty() => {
                let class = if manifests.is_some() {
                    Class::Index(Dialect::Oci)
                } else {
                    Class::Manifest(Dialect::Oci)
                };
                let media_type = MediaType::of(class).expect("both are in the table");
                let fields =
                    Fields { schema_version: 2, media_type, config, layers, manifests, fs_layers: None };
                Self::from_fields(&MediaType::default(), fields)
            }
            (Class::Manifest(_) | Class::Index(_), ..) => {
                Err(ManifestError::Contents("its fields are not those of its media type"))
            }
            (Class::Schema1, ..) => Err(ManifestError::Schema1),
            _ => Err(ManifestError::MediaType { media_type: said.to_string() }),
        }
    }
}

impl Manifest {
    fn checked(self) -> Result<Self, ManifestError> {
        if self.layers.len() > MAX_LAYERS {
            return Err(ManifestError::Contents("more than 512 layers"));
        }
        let total = self.blobs().try_fold(0_u64, |total, blob| total.checked_add(blob.size_bytes));
        // Above this, sizes do not fit the numbers that databases and file systems count with.
        if total.is_none_or(|total| i64::try_from(total).is_err()) {
            return Err(ManifestError::Contents("sizes that no file can have"));
        }
        Ok(self)
    }

    /// That this is an image that can be had from its registry whole; artifacts have manifests too.
    ///
    /// # Errors
    /// It is an artifact, or has blobs that are too large, of unknown types or elsewhere.
    pub fn check_is_image(&self) -> Result<(), ManifestError> {
        let config = &self.config;
        let artifact = |class| ManifestError::Artifact { media_type: config.media_type.to_string(), class };
        match config.media_type.class() {
            Class::Config(_) => {}
            Class::Plugin => return Err(artifact("plugin")),
            _ => return Err(artifact("unknown")),
        }
        if config.size_bytes > MAX_DOCUMENT_BYTES {
            return Err(ManifestError::Contents("its configuration has more than 4 MiB"));
        }
        for layer in &self.layers {
            let refused = |problem: String| ManifestError::Layer { digest: layer.digest, problem };
            match layer.media_type.class() {
                Class::ForeignLayer => {
                    return Err(refused("a foreign layer, which its registry does not hold".to_owned()));
                }
                Class::Layer if !layer.urls.is_empty() => {
                    return Err(refused("a layer at URLs of its own".to_owned()));
                }
                Class::Layer => {}
                _ => return Err(refused(format!("unsupported media type {:?}", layer.media_type.as_str()))),
            }
        }
        Ok(())
    }

    /// The configuration, then the layers, base first.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.config).chain(&self.layers)
    }
}

impl Index {
    fn checked(self) -> Result<Self, ManifestError> {
        if self.manifests.len() > MAX_INDEX_ENTRIES {
            return Err(ManifestError::Contents("more than 1024 manifests"));
        }
        Ok(self)
    }

    /// The entry that serves this platform best; of equals the first. One that names no platform is the last resort.
    ///
    /// Attestations are for the platform `unknown/unknown`, which nobody wants.
    ///
    /// # Errors
    /// No entry serves the platform.
    pub fn choose(&self, wanted: &Platform) -> Result<&Descriptor, ManifestError> {
        let leads_on =
            |entry: &&Descriptor| matches!(entry.media_type.class(), Class::Manifest(_) | Class::Index(_));
        let distance = |entry: &Descriptor| match &entry.platform {
            Some(offered) => wanted.distance_to(offered),
            None => Some(usize::MAX),
        };
        let candidates =
            self.manifests.iter().filter(leads_on).filter_map(|entry| Some((distance(entry)?, entry)));
        let best = candidates.min_by_key(|(distance, _)| *distance);
        best.map(|(_, entry)| entry).ok_or_else(|| ManifestError::NoMatch { platform: wanted.normalized() })
    }
}

#[cfg(test)]
mod tests;
