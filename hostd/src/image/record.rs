//! What the store knows of an image: the typed view of its configuration (OCI image-spec 1.1, config.md).
//!
//! The configuration itself is kept byte for byte; this is read from it each time. Fields that clients set to
//! `null` count as absent, as they do for Docker.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use super::digest::Digest;

/// An image's identity: the digest of its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageId(pub Digest);

impl ImageId {
    /// The first 12 digits.
    #[must_use]
    pub fn short(&self) -> String {
        self.0.short()
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One image of the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    pub id: ImageId,
    /// Familiar, with tag (`busybox:latest`), sorted.
    pub names: Vec<String>,
    /// Familiar, with the manifest's digest (`busybox@sha256:…`), sorted.
    pub repo_digests: Vec<String>,
    pub created: Option<Timestamp>,
    /// Bytes of all regular files of all layers.
    pub size_bytes: u64,
    pub os: String,
    pub architecture: String,
    pub variant: Option<String>,
    pub author: String,
    pub history: Vec<History>,
    /// Diff ids, base first.
    pub layers: Vec<Digest>,
    pub config: ImageConfig,
}

/// How a container of this image runs unless the request says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    #[serde(deserialize_with = "null_as_default")]
    pub env: Vec<String>,
    #[serde(deserialize_with = "null_as_default")]
    pub working_dir: String,
    #[serde(deserialize_with = "null_as_default")]
    pub user: String,
    #[serde(deserialize_with = "null_as_default")]
    pub labels: BTreeMap<String, String>,
    /// `80/tcp`, `53/udp`.
    #[serde(deserialize_with = "keys_of_object", serialize_with = "object_of_keys")]
    pub exposed_ports: BTreeSet<String>,
    #[serde(deserialize_with = "keys_of_object", serialize_with = "object_of_keys")]
    pub volumes: BTreeSet<String>,
    pub stop_signal: Option<String>,
    /// In seconds.
    pub stop_timeout: Option<i64>,
    pub shell: Option<Vec<String>>,
    /// Docker's own addition, as it stands.
    pub healthcheck: Option<serde_json::Value>,
    pub on_build: Option<Vec<String>>,
}

/// One step of how the image was built.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct History {
    #[serde(deserialize_with = "time_or_none")]
    pub created: Option<Timestamp>,
    #[serde(deserialize_with = "null_as_default")]
    pub created_by: String,
    #[serde(deserialize_with = "null_as_default")]
    pub author: String,
    #[serde(deserialize_with = "null_as_default")]
    pub comment: String,
    #[serde(deserialize_with = "null_as_default")]
    pub empty_layer: bool,
}

/// An image's configuration file.
#[derive(Debug, Deserialize)]
pub(crate) struct Configuration {
    #[serde(default, deserialize_with = "time_or_none")]
    pub(crate) created: Option<Timestamp>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) author: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) variant: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) os: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) config: ImageConfig,
    pub(crate) rootfs: RootFs,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) history: Vec<History>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct RootFs {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) diff_ids: Vec<Digest>,
}

/// Why bytes are no configuration of an image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidConfiguration {
    #[error("its configuration: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it is made for {0}, not for linux")]
    OperatingSystem(String),
    #[error("its root file system is not made of layers")]
    RootFs,
    #[error("layers length mismatch: expected {expected}, got {got}")]
    Layers { expected: usize, got: usize },
}

impl Configuration {
    /// Reads the configuration of an image that comes with so many layers.
    pub(crate) fn read(content: &[u8], layers: usize) -> Result<Self, InvalidConfiguration> {
        let configuration: Self = serde_json::from_slice(content)?;
        if !matches!(configuration.os.as_str(), "linux" | "") {
            return Err(InvalidConfiguration::OperatingSystem(configuration.os));
        }
        if configuration.rootfs.kind != "layers" {
            return Err(InvalidConfiguration::RootFs);
        }
        let expected = configuration.rootfs.diff_ids.len();
        if expected != layers {
            return Err(InvalidConfiguration::Layers { expected, got: layers });
        }
        Ok(configuration)
    }

    /// Joins the configuration with what the store knows besides.
    pub(crate) fn into_image(
        self,
        id: ImageId,
        names: Vec<String>,
        repo_digests: Vec<String>,
        size_bytes: u64,
    ) -> Image {
        Image {
            id,
            names,
            repo_digests,
            created: self.created,
            size_bytes,
            os: self.os,
            architecture: self.architecture,
            variant: self.variant.filter(|variant| !variant.is_empty()),
            author: self.author,
            history: self.history,
            layers: self.rootfs.diff_ids,
            config: self.config,
        }
    }
}

fn null_as_default<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(
    source: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(source)?.unwrap_or_default())
}

/// A date that nobody can read does no harm: it is shown, not acted on.
fn time_or_none<'de, D: Deserializer<'de>>(source: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(source)?;
    Ok(text.and_then(|text| text.parse().ok()))
}

/// Sets are objects with empty values there: `{"80/tcp": {}}`.
fn keys_of_object<'de, D: Deserializer<'de>>(source: D) -> Result<BTreeSet<String>, D::Error> {
    let object = Option::<BTreeMap<String, serde::de::IgnoredAny>>::deserialize(source)?;
    Ok(object.unwrap_or_default().into_keys().collect())
}

fn object_of_keys<S: serde::Serializer>(keys: &BTreeSet<String>, target: S) -> Result<S::Ok, S::Error> {
    target.collect_map(keys.iter().map(|key| (key, serde_json::Map::new())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_count_as_absent_and_sets_are_objects() {
        let text = r#"{
            "created": "2024-05-06T07:08:09.123456789Z", "architecture": "amd64", "os": "linux", "variant": "",
            "config": {"Cmd": null, "Env": null, "Labels": null, "ExposedPorts": {"80/tcp": {}}, "Volumes": null,
                       "Entrypoint": ["/x"], "User": "nobody", "Healthcheck": {"Test": ["NONE"]}, "Unknown": 1},
            "rootfs": {"type": "layers", "diff_ids": null},
            "history": [{"created": "not a date", "created_by": "RUN x", "empty_layer": true}]
        }"#;
        let configuration: Configuration = serde_json::from_str(text).unwrap();
        let image = configuration.into_image(ImageId(Digest::of(b"")), vec![], vec![], 7);
        assert_eq!(image.created.unwrap().as_second(), 1_714_979_289);
        assert_eq!(image.variant, None);
        assert_eq!(image.config.cmd, None);
        assert_eq!(image.config.entrypoint.as_deref(), Some(&["/x".to_owned()][..]));
        assert_eq!(image.config.exposed_ports, BTreeSet::from(["80/tcp".to_owned()]));
        assert!(image.history[0].empty_layer && image.history[0].created.is_none());
    }

    #[test]
    fn a_config_keeps_its_meaning_through_json() {
        let config = ImageConfig {
            exposed_ports: BTreeSet::from(["80/tcp".to_owned()]),
            env: vec!["A=b".to_owned()],
            ..ImageConfig::default()
        };
        let text = serde_json::to_string(&config).unwrap();
        assert!(text.contains(r#""ExposedPorts":{"80/tcp":{}}"#), "{text}");
        assert_eq!(serde_json::from_str::<ImageConfig>(&text).unwrap(), config);
    }
}
