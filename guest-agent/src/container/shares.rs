//! The one file system in which everything is that the host shares with the machine, mounted when the first container
//! wants something of it.

use std::fs;

use berth_protocol::agent::{ErrorCode, Mount};
use berth_protocol::shares::TAG;
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use tokio::sync::Mutex;

use crate::failure::{During, Failure};

/// Each share lies below it under its name. No container sees this directory.
pub(crate) const DIRECTORY: &str = "/run/shares";

/// Containers that start at the same time mount it once.
static MOUNTED: Mutex<bool> = Mutex::const_new(false);

/// # Errors
/// MOUNT_FAILED: the machine has no shares, or their server does not answer.
pub(super) async fn mount_for(mounts: &[Mount]) -> Result<(), Failure> {
    let mut is_mounted = MOUNTED.lock().await;
    if *is_mounted || mounts.iter().all(|mount| mount.share.is_empty()) {
        return Ok(());
    }
    let mounted = tokio::task::spawn_blocking(mount_all).await;
    mounted.during(ErrorCode::Internal, || "mount the machine's shares").flatten()?;
    *is_mounted = true;
    Ok(())
}

fn mount_all() -> Result<(), Failure> {
    let step = || "mount the machine's shares";
    fs::create_dir_all(DIRECTORY).during(ErrorCode::MountFailed, step)?;
    match mount(TAG, DIRECTORY, "virtiofs", MountFlags::empty(), None) {
        // The kernel's word for a tag that no device has.
        Err(Errno::INVAL) => Err(Failure::new(ErrorCode::MountFailed, "the machine has no shares")),
        result => result.during(ErrorCode::MountFailed, step),
    }
}
