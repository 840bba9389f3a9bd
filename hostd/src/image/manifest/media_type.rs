//! Media types, as far as they decide anything: what a document is, whether a blob is a layer.

use std::fmt;

use serde::{Deserialize, Serialize};

/// RFC 6838 allows 127 characters for each of two parts.
const MAX_BYTES: usize = 255;

/// Whose words a document uses. The two say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Oci,
    Docker,
}

/// What a media type says its content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Manifest(Dialect),
    Index(Dialect),
    Config(Dialect),
    /// A file system layer; its compression is recognised by its first bytes.
    Layer,
    /// A layer that its registry does not hold.
    ForeignLayer,
    /// Docker's manifests before 2016.
    Schema1,
    /// A Docker plugin's configuration.
    Plugin,
    Unknown,
}

/// A media type as it was written, without parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MediaType(String);

const CLASSES: [(&str, Class); 17] = [
    ("application/vnd.oci.image.manifest.v1+json", Class::Manifest(Dialect::Oci)),
    ("application/vnd.docker.distribution.manifest.v2+json", Class::Manifest(Dialect::Docker)),
    ("application/vnd.oci.image.index.v1+json", Class::Index(Dialect::Oci)),
    ("application/vnd.docker.distribution.manifest.list.v2+json", Class::Index(Dialect::Docker)),
    ("application/vnd.oci.image.config.v1+json", Class::Config(Dialect::Oci)),
    ("application/vnd.docker.container.image.v1+json", Class::Config(Dialect::Docker)),
    ("application/vnd.oci.image.layer.v1.tar", Class::Layer),
    ("application/vnd.oci.image.layer.v1.tar+gzip", Class::Layer),
    ("application/vnd.oci.image.layer.v1.tar+zstd", Class::Layer),
    ("application/vnd.docker.image.rootfs.diff.tar", Class::Layer),
    ("application/vnd.docker.image.rootfs.diff.tar.gzip", Class::Layer),
    ("application/vnd.docker.image.rootfs.diff.tar.zstd", Class::Layer),
    ("application/vnd.docker.image.rootfs.foreign.diff.tar", Class::ForeignLayer),
    ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Class::ForeignLayer),
    ("application/vnd.docker.distribution.manifest.v1+json", Class::Schema1),
    ("application/vnd.docker.distribution.manifest.v1+prettyjws", Class::Schema1),
    ("application/vnd.docker.plugin.v1+json", Class::Plugin),
];
const OCI_FOREIGN_LAYER_PREFIX: &str = "application/vnd.oci.image.layer.nondistributable.";

impl MediaType {
    /// The type that a `Content-Type` header or a document's field states; parameters behind `;` are dropped.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let essence = text.split(';').next().unwrap_or_default().trim();
        if essence.len() > MAX_BYTES {
            return Err("a media type of more than 255 bytes");
        }
        if essence.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err("a media type with characters that none can have");
        }
        Ok(Self(essence.to_owned()))
    }

    /// The type that is written for a class; `None` for those that have no one type.
    pub fn of(class: Class) -> Option<Self> {
        let found = CLASSES.iter().find(|(_, known)| *known == class);
        found.map(|(text, _)| Self((*text).to_owned()))
    }

    pub fn class(&self) -> Class {
        if self.0.starts_with(OCI_FOREIGN_LAYER_PREFIX) {
            return Class::ForeignLayer;
        }
        let found = CLASSES.iter().find(|(text, _)| *text == self.0);
        found.map_or(Class::Unknown, |(_, class)| *class)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for MediaType {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        Self::parse(&text)
    }
}

impl From<MediaType> for String {
    fn from(media_type: MediaType) -> Self {
        media_type.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_do_not_count_and_nonsense_is_refused() {
        let parsed = MediaType::parse("application/vnd.oci.image.index.v1+json; charset=utf-8").unwrap();
        assert_eq!(parsed.class(), Class::Index(Dialect::Oci));
        assert_eq!(MediaType::of(parsed.class()), Some(parsed));
        let foreign =
            MediaType::parse("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd").unwrap();
        assert_eq!(foreign.class(), Class::ForeignLayer);
        assert_eq!(MediaType::parse("text/html").unwrap().class(), Class::Unknown);
        assert!(MediaType::parse("text/ht\nml").is_err());
        assert!(MediaType::parse(&"x".repeat(256)).is_err());
    }
}
