//! "source:target:mode", the older way to ask for a mount.

use super::{places, propagation};
use crate::api::error::{ApiError, ApiResult};
use crate::engine::{HostSource, IfMissing, MountRequest, MountSource, MountsBelow, VolumeSource, Written};

/// What follows the target, in words between commas.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Mode<'a> {
    pub(super) read_only: bool,
    no_copy: bool,
    propagation: &'a str,
}

impl<'a> Mode<'a> {
    /// `None` for a word that is none, and for two that say the same.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let mut mode = Self::default();
        if text.is_empty() {
            return Some(mode);
        }
        let mut said = Vec::new();
        for word in text.split(',') {
            let about = match word {
                "rw" | "ro" => "access",
                // There is no SELinux in a machine, and a share is the same for all who have it.
                "z" | "Z" => "label",
                "nocopy" => "copy",
                "consistent" | "cached" | "delegated" => "consistency",
                "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => "propagation",
                _ => return None,
            };
            if said.contains(&about) {
                return None;
            }
            said.push(about);
            match about {
                "access" => mode.read_only = word == "ro",
                "copy" => mode.no_copy = true,
                "propagation" => mode.propagation = word,
                _ => {}
            }
        }
        Some(mode)
    }

    /// Whether it makes sense for all mounts of a container.
    pub(super) fn fits_containers(&self) -> bool {
        !self.no_copy && self.propagation.is_empty()
    }
}

pub(super) fn invalid_mode(mode: &str) -> ApiError {
    ApiError::invalid(format!("invalid mode: {mode}"))
}

/// # Errors
/// Docker's texts; 501 for a way to spread mounts that no machine has.
pub(super) fn parse(text: &str, warnings: &mut Vec<String>) -> ApiResult<MountRequest> {
    let invalid = || ApiError::invalid(format!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts[..] {
        ["", ..] => return Err(invalid()),
        [target] => ("", target, ""),
        // "/target:ro" names no source.
        [_, mode] if Mode::parse(mode).is_some() => return Err(invalid()),
        [source, target] => (source, target, ""),
        [source, target, mode] => (source, target, mode),
        _ => return Err(invalid()),
    };
    let words = Mode::parse(mode).ok_or_else(|| invalid_mode(mode))?;
    let is_of_the_host = source.starts_with('/');
    let kind = if is_of_the_host { "bind" } else { "volume" };
    let detailed = |error: ApiError| ApiError::invalid(format!("{}: {}", invalid().message, error.message));
    places::check_target(kind, target).map_err(detailed)?;
    if !is_of_the_host && !words.propagation.is_empty() {
        return Err(detailed(places::wrong(kind, "field BindOptions must not be specified")));
    }
    if is_of_the_host && words.no_copy {
        return Err(detailed(places::wrong(kind, "field VolumeOptions must not be specified")));
    }
    let source = if is_of_the_host {
        MountSource::Host(HostSource {
            path: source.to_owned(),
            if_missing: IfMissing::Make,
            propagation: propagation(words.propagation, target, warnings)?,
            below: MountsBelow::default(),
        })
    } else {
        places::check_volume_name(source)?;
        let name = (!source.is_empty()).then(|| source.to_owned());
        MountSource::Volume(VolumeSource { name, no_copy: words.no_copy, ..VolumeSource::default() })
    };
    let written = Written::Line { text: text.to_owned(), mode: mode.to_owned() };
    Ok(MountRequest { target: target.to_owned(), read_only: words.read_only, source, written })
}
