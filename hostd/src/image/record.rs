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
    /// When it was last given a name with a tag here.
    pub tagged_at: Option<Timestamp>,
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

/// What of an [`Image`] its store decides: each is the image's field of that name.
#[derive(Debug, Default)]
pub(crate) struct KnownAs {
    pub(crate) names: Vec<String>,
    pub(crate) repo_digests: Vec<String>,
    pub(crate) tagged_at: Option<Timestamp>,
}

/// How a container of this image runs unless the request says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    #[serde(deserialize_with = "words")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(deserialize_with = "words")]
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

impl ImageConfig {
    /// What this does not say is as `below` says it (moby, `daemon.merge`): an entrypoint brings its own command, variables
    /// and labels are added by name.
    #[must_use]
    pub(crate) fn or(mut self, below: Self) -> Self {
        let text = |own: String, below: String| if own.is_empty() { below } else { own };
        if self.entrypoint.as_ref().is_none_or(Vec::is_empty) {
            self.cmd = self.cmd.filter(|words| !words.is_empty()).or(below.cmd);
            self.entrypoint = self.entrypoint.or(below.entrypoint);
        }
        for entry in below.env {
            let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
            if !self.env.iter().any(|own| name(own) == name(&entry)) {
                self.env.push(entry);
            }
        }
        for (key, value) in below.labels {
            self.labels.entry(key).or_insert(value);
        }
        self.exposed_ports.extend(below.exposed_ports);
        self.volumes.extend(below.volumes);
        Self {
            working_dir: text(self.working_dir, below.working_dir),
            user: text(self.user, below.user),
            stop_signal: self.stop_signal.filter(|signal| !signal.is_empty()).or(below.stop_signal),
            stop_timeout: self.stop_timeout.or(below.stop_timeout),
            healthcheck: merged_healthcheck(self.healthcheck, below.healthcheck),
            ..self
        }
    }

    /// As a configuration file has it (moby image spec 1.2), without what is empty.
    pub(crate) fn document(&self) -> serde_json::Value {
        use serde_json::Value;
        let mut document = serde_json::json!(self);
        if let Some(fields) = document.as_object_mut() {
            fields.retain(|_name, value| match value {
                Value::Null => false,
                Value::String(text) => !text.is_empty(),
                Value::Array(list) => !list.is_empty(),
                Value::Object(object) => !object.is_empty(),
                Value::Bool(_) | Value::Number(_) => true,
            });
        }
        document
    }
}

/// Field by field, of which 0 and an empty list say nothing.
fn merged_healthcheck(
    own: Option<serde_json::Value>,
    below: Option<serde_json::Value>,
) -> Option<serde_json::Value> {
    let (Some(mut own), Some(below)) = (own.clone(), below.clone()) else { return own.or(below) };
    let (Some(fields), Some(below)) = (own.as_object_mut(), below.as_object()) else { return Some(own) };
    for (name, value) in below {
        let says_nothing = |value: &serde_json::Value| {
            value.is_null() || value.as_i64() == Some(0) || value.as_array().is_some_and(Vec::is_empty)
        };
        if fields.get(name).is_none_or(says_nothing) {
            fields.insert(name.clone(), value.clone());
        }
    }
    Some(own)
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
    pub(crate) fn into_image(self, id: ImageId, known_as: KnownAs, size_bytes: u64) -> Image {
        let KnownAs { names, repo_digests, tagged_at } = known_as;
        Image {
            id,
            names,
            repo_digests,
            created: self.created,
            tagged_at,
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

/// Docker takes one string for a list of one.
fn words<'de, D: Deserializer<'de>>(source: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a string or a list of strings")]
    enum Words {
        One(String),
        Several(Vec<String>),
    }
    Ok(Option::deserialize(source)?.map(|words| match words {
        Words::One(word) => vec![word],
        Words::Several(words) => words,
    }))
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
                       "Entrypoint": "/x", "User": "nobody", "Healthcheck": {"Test": ["NONE"]}, "Unknown": 1},
            "rootfs": {"type": "layers", "diff_ids": null},
            "history": [{"created": "not a date", "created_by": "RUN x", "empty_layer": true}]
        }"#;
        let configuration: Configuration = serde_json::from_str(text).unwrap();
        let image = configuration.into_image(ImageId(Digest::of(b"")), KnownAs::default(), 7);
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
