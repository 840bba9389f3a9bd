//! The flags that `run` and `create` share, in groups, and their translation into a create request.
//!
//! Each group is a file with a clap struct and an `apply` that writes its part of the request. Flags of things that a
//! daemon may not do are passed on all the same: the daemon says so in its own words.

mod attachment;
mod devices;
mod metadata;
mod mount;
mod network;
mod ports;
mod process;
mod pull;
mod resources;
mod security;
mod storage;

use clap::Args;
pub(crate) use metadata::parse_restart;
pub(crate) use pull::PullPolicy;
use thiserror::Error;

use crate::client::{AttachStreams, CreateRequest};
use crate::environment::EnvironmentError;
use crate::moment::MomentError;
use crate::quantity::QuantityError;
use crate::terminal::Size;

#[derive(Debug, Error)]
pub(crate) enum OptionError {
    #[error("invalid argument \"{value}\" for --{flag}: {reason}")]
    Invalid { flag: &'static str, value: String, reason: String },
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    #[error("conflicting options: {0}")]
    Conflict(String),
}

impl OptionError {
    fn invalid(flag: &'static str, value: &str, reason: impl Into<String>) -> Self {
        Self::Invalid { flag, value: value.to_owned(), reason: reason.into() }
    }
}

/// Everything about a container that a user can say on the command line.
#[derive(Args, Debug)]
pub(crate) struct ContainerOptions {
    #[command(flatten)]
    pub(crate) process: process::ProcessOptions,
    #[command(flatten)]
    pub(crate) metadata: metadata::MetadataOptions,
    #[command(flatten)]
    pub(crate) pull: pull::PullOptions,
    #[command(flatten)]
    resources: resources::ResourceOptions,
    #[command(flatten)]
    devices: devices::DeviceOptions,
    #[command(flatten)]
    security: security::SecurityOptions,
    #[command(flatten)]
    storage: storage::StorageOptions,
    #[command(flatten)]
    network: network::NetworkOptions,

    /// The image, then the command to run in place of the image's own
    // One list: whatever follows the image belongs to the command, flags included.
    #[arg(required = true, trailing_var_arg = true, value_names = ["IMAGE", "COMMAND"])]
    image_and_command: Vec<String>,
}

impl ContainerOptions {
    pub(crate) fn image(&self) -> &str {
        self.image_and_command.first().map_or("", String::as_str)
    }

    /// The create request of a container that `streams` will be attached to.
    pub(crate) fn request(&self, streams: AttachStreams) -> Result<CreateRequest, OptionError> {
        let mut request = CreateRequest {
            image: self.image().to_owned(),
            cmd: self.image_and_command.iter().skip(1).cloned().collect(),
            ..CreateRequest::default()
        };
        self.process.apply(&mut request, streams)?;
        self.metadata.apply(&mut request)?;
        self.resources.apply(&mut request)?;
        self.devices.apply(&mut request)?;
        self.security.apply(&mut request)?;
        self.storage.apply(&mut request)?;
        self.network.apply(&mut request)?;
        if request.tty {
            request.host_config.console_size = Size::of_stdout().map(Size::as_api);
        }
        Ok(request)
    }
}

/// Reads an optional flag with `parse`, naming the flag if it is wrong.
pub(crate) fn optional<T, E: std::fmt::Display>(
    flag: &'static str,
    value: Option<&str>,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, OptionError> {
    value
        .map(|text| parse(text).map_err(|reason| OptionError::invalid(flag, text, reason.to_string())))
        .transpose()
}

pub(crate) fn optional_bytes(flag: &'static str, value: Option<&str>) -> Result<Option<i64>, OptionError> {
    optional::<_, QuantityError>(flag, value, crate::quantity::parse_bytes)
}

/// Nanoseconds; zero, the daemon's default, if not given.
fn duration_or_default(flag: &'static str, value: Option<&str>) -> Result<i64, OptionError> {
    let nanoseconds = optional::<_, MomentError>(flag, value, crate::moment::parse_duration_ns)?;
    Ok(nanoseconds.unwrap_or(0))
}

#[cfg(test)]
mod tests;
