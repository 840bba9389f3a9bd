//! What a container is asked to be: the nouns of a create request in the engine's own words, kept for its lifetime.
//!
//! Knows nothing of JSON dialects; `api` translates to and from Docker's. Persisted with serde in the container's record.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::health::Healthcheck;
use super::limits::Limits;
use super::mounts::MountRequests;
use super::networks::NetworkSpec;
use super::restart::RestartPolicy;
use super::security::{Device, DeviceRule, Namespaces, Security, Ulimit};
use super::signal::Signal;
use crate::image::ImageConfig;
use crate::logs::LogSettings;

/// A container as requested. Before [`ContainerSpec::with_image_defaults`], `None` means "as the image says";
/// after it, `None` means that neither said anything.
///
/// A record of an older daemon lacks what that one did not know, and means what this has as its default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// The image as the client named it.
    pub image: String,
    pub entrypoint: Option<Vec<String>>,
    pub command: Option<Vec<String>>,
    /// "NAME=value"; "NAME" alone removes an image's variable.
    pub env: Vec<String>,
    pub working_directory: Option<String>,
    pub user: Option<String>,
    /// Names or numbers.
    pub additional_groups: Vec<String>,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub exposed_ports: Vec<String>,
    pub stdio: Stdio,
    pub stop_signal: Option<Signal>,
    pub stop_timeout_s: Option<i64>,
    pub auto_remove: AutoRemove,
    #[serde(default)]
    pub restart: RestartPolicy,
    #[serde(default)]
    pub healthcheck: Option<Healthcheck>,
    #[serde(default)]
    pub log: LogSettings,
    pub network: NetworkSpec,
    pub limits: Limits,
    /// The host's control group that its machine's is made in.
    pub cgroup_parent: Option<String>,
    pub readonly_rootfs: bool,
    /// Where to what mount options, "size=64m,mode=1777".
    pub tmpfs: BTreeMap<String, String>,
    /// Those asked for in so many words.
    pub tmpfs_mounts: Vec<TmpfsMount>,
    pub mounts: MountRequests,
    /// "name:address"
    pub extra_hosts: Vec<String>,
    pub shm_size_bytes: Option<u64>,
    /// Of the writable disk; `None` is as the daemon's settings say.
    pub scratch_disk_bytes: Option<u64>,
    /// What said so, as the client wrote it.
    pub storage_options: BTreeMap<String, String>,
    /// The name that the client gave to what runs it; there is one, under several names.
    pub runtime: Option<String>,
    /// A small init as the container's first process.
    pub init: bool,
    pub annotations: BTreeMap<String, String>,
    pub security: Security,
    pub namespaces: Namespaces,
    /// Kernel parameters of its namespaces.
    pub sysctls: BTreeMap<String, String>,
    pub devices: Vec<Device>,
    pub device_rules: Vec<DeviceRule>,
    pub ulimits: Vec<Ulimit>,
    /// -1000 to 1000
    pub oom_score_adj: i32,
}

/// A file system in memory, as it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TmpfsMount {
    pub target: String,
    pub read_only: bool,
    pub consistency: String,
    pub size_bytes: Option<u64>,
    /// Permission bits.
    pub mode: Option<u32>,
    /// Each a name, or a name and a value.
    pub options: Vec<Vec<String>>,
}

impl TmpfsMount {
    /// As mount(8) takes them.
    #[must_use]
    pub fn mount_options(&self) -> String {
        let own = self.options.iter().map(|option| option.join("="));
        let read_only = self.read_only.then(|| "ro".to_owned());
        let mode = self.mode.map(|mode| format!("mode={mode:o}"));
        let size = self.size_bytes.map(|size| format!("size={size}"));
        own.chain(read_only).chain(mode).chain(size).collect::<Vec<_>>().join(",")
    }
}

/// Which of the first process's streams exist and who starts connected to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stdio {
    pub terminal: bool,
    /// Rows and columns of the client's terminal, if known at creation.
    pub terminal_size: Option<TerminalSize>,
    pub open_stdin: bool,
    /// Close stdin when the first attached client goes.
    pub stdin_once: bool,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    pub rows: u16,
    pub columns: u16,
}

/// Whether the container is removed when it ends (`--rm`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AutoRemove {
    #[default]
    Keep,
    Remove,
}

impl ContainerSpec {
    /// Fills in what the request left to the image, by Docker's rules: an entrypoint of one's own drops the image's
    /// command, environment variables override by name, labels by key.
    #[must_use]
    pub fn with_image_defaults(mut self, image: &ImageConfig) -> Self {
        if self.entrypoint.is_none() {
            self.entrypoint.clone_from(&image.entrypoint);
            if self.command.as_ref().is_none_or(Vec::is_empty) {
                self.command.clone_from(&image.cmd);
            }
        }
        // `--entrypoint ""` arrives as one empty word and means "none".
        if self.entrypoint.as_deref() == Some(&[String::new()]) {
            self.entrypoint = None;
        }
        self.env = merge_env(&image.env, &self.env);
        let from_image = |text: &String| Some(text).filter(|text| !text.is_empty()).cloned();
        self.working_directory =
            self.working_directory.filter(|path| !path.is_empty()).or_else(|| from_image(&image.working_dir));
        self.user = self.user.filter(|user| !user.is_empty()).or_else(|| from_image(&image.user));
        for (key, value) in &image.labels {
            self.labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
        for port in &image.exposed_ports {
            if !self.exposed_ports.contains(port) {
                self.exposed_ports.push(port.clone());
            }
        }
        self.mounts.own_volumes.extend(image.volumes.iter().cloned());
        if let Some(config) = &image.healthcheck {
            let image = Healthcheck::of_image(config);
            self.healthcheck = Some(self.healthcheck.unwrap_or_default().or_images(image));
        }
        self.stop_signal = self.stop_signal.or_else(|| image.stop_signal.as_deref()?.parse().ok());
        self
    }

    /// Program and arguments; empty if neither request nor image names any.
    #[must_use]
    pub fn args(&self) -> Vec<String> {
        let entrypoint = self.entrypoint.iter().flatten();
        entrypoint.chain(self.command.iter().flatten()).cloned().collect()
    }
}

/// The image's variables with the request's on top, in the order in which Docker shows them: overridden in place,
/// new ones at the end.
fn merge_env(image: &[String], request: &[String]) -> Vec<String> {
    let name = |entry: &str| entry.split_once('=').map_or(entry, |(name, _)| name).to_owned();
    let mut merged: Vec<String> = image.to_vec();
    for entry in request {
        let position = merged.iter().position(|existing| name(existing) == name(entry));
        match (position, entry.contains('=')) {
            (Some(index), true) => merged[index].clone_from(entry),
            (Some(index), false) => drop(merged.remove(index)),
            (None, true) => merged.push(entry.clone()),
            (None, false) => {}
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> ImageConfig {
        ImageConfig {
            entrypoint: Some(vec!["/entry".into()]),
            cmd: Some(vec!["default".into()]),
            env: vec!["PATH=/bin".into(), "A=1".into()],
            user: "nobody".into(),
            ..ImageConfig::default()
        }
    }

    fn words(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_command_replaces_the_images_command_and_keeps_its_entrypoint() {
        let spec = ContainerSpec { command: words(&["mine"]), ..ContainerSpec::default() };
        assert_eq!(spec.with_image_defaults(&image()).args(), ["/entry", "mine"]);
    }

    #[test]
    fn an_entrypoint_drops_the_images_command() {
        let spec = ContainerSpec { entrypoint: words(&["/mine"]), ..ContainerSpec::default() };
        assert_eq!(spec.with_image_defaults(&image()).args(), ["/mine"]);
    }

    #[test]
    fn an_empty_entrypoint_runs_the_command_alone() {
        let spec =
            ContainerSpec { entrypoint: words(&[""]), command: words(&["ls"]), ..ContainerSpec::default() };
        assert_eq!(spec.with_image_defaults(&image()).args(), ["ls"]);
    }

    #[test]
    fn variables_override_in_place_append_and_remove() {
        let env = vec!["A=2".into(), "B=3".into(), "PATH".into()];
        let spec = ContainerSpec { env, ..ContainerSpec::default() };
        assert_eq!(spec.with_image_defaults(&image()).env, ["A=2", "B=3"]);
    }

    #[test]
    fn an_empty_user_is_the_images_user() {
        let spec = ContainerSpec { user: Some(String::new()), ..ContainerSpec::default() };
        assert_eq!(spec.with_image_defaults(&image()).user.as_deref(), Some("nobody"));
    }
}
