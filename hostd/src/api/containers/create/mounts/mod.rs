//! What is to be mounted, in each of Docker's five ways to say it, with its texts for what cannot be.

mod fields;
mod line;
mod places;
mod tmpfs;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::body::{Config, HostConfig};
use crate::api::error::{ApiError, ApiResult};
use crate::engine::{MountRequests, Propagation, TmpfsMount, VolumesFrom};

/// Everything that is to be mounted.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    /// Target to options.
    pub(super) tmpfs: BTreeMap<String, String>,
    pub(super) tmpfs_mounts: Vec<TmpfsMount>,
    pub(super) requests: MountRequests,
}

/// # Errors
/// Docker's texts for what is not valid; 501 for what Berth does not mount.
pub(super) fn mounts(config: &Config, host: &HostConfig, warnings: &mut Vec<String>) -> ApiResult<Mounts> {
    for (target, options) in &host.tmpfs {
        places::check_target("tmpfs", target)?;
        tmpfs::check_options(options)?;
    }
    for target in config.volumes.keys() {
        places::check_target("volume", target)?;
    }
    let mut mounts = Mounts { tmpfs: host.tmpfs.clone(), ..Mounts::default() };
    for mount in &host.mounts {
        fields::check(mount)?;
    }
    for text in &host.binds {
        mounts.requests.requests.push(line::parse(text, warnings)?);
    }
    for mount in &host.mounts {
        if mount.kind == "tmpfs" {
            mounts.tmpfs_mounts.push(tmpfs::mount(mount)?);
        } else {
            mounts.requests.requests.push(fields::request(mount, warnings)?);
        }
    }
    mounts.requests.volumes_from =
        host.volumes_from.iter().map(|text| volumes_from(text)).collect::<ApiResult<_>>()?;
    mounts.requests.own_volumes = config.volumes.keys().cloned().collect();
    mounts.requests.volume_driver.clone_from(&host.volume_driver);
    Ok(mounts)
}

/// "container[:ro|rw]"
fn volumes_from(text: &str) -> ApiResult<VolumesFrom> {
    if text.is_empty() {
        return Err(ApiError::invalid("volumes-from specification cannot be an empty string"));
    }
    let (container, mode) = text.split_once(':').unwrap_or((text, ""));
    let mode = line::Mode::parse(mode)
        .filter(line::Mode::fits_containers)
        .ok_or_else(|| line::invalid_mode(mode))?;
    Ok(VolumesFrom { text: text.to_owned(), container: container.to_owned(), read_only: mode.read_only })
}

/// How mounts spread, by Docker's word for it.
///
/// # Errors
/// A word that wants the container's mounts to be the host's.
fn propagation(word: &str, target: &str, warnings: &mut Vec<String>) -> ApiResult<Propagation> {
    if word.is_empty() {
        return Ok(Propagation::default());
    }
    let Some(known) = Propagation::ALL.into_iter().find(|known| known.name() == word) else {
        return Err(ApiError::not_supported(format!(
            "berth cannot honour the propagation {word} of {target}: a container's mounts are its machine's, and never the host's"
        )));
    };
    if matches!(known, Propagation::Rslave | Propagation::Slave) {
        warnings.push(format!(
            "The propagation {word} of {target} has no effect: what the host mounts later is not seen in a machine."
        ));
    }
    Ok(known)
}
