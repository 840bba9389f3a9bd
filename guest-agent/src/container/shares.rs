//! The one file system in which everything is that the host shares with the machine, mounted when the first container
//! wants something of it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::rc::Rc;

use berth_protocol::agent::{ErrorCode, Mount};
use berth_protocol::shares::TAG;
use rustix::fs::{Mode, OFlags, fstat, major, minor, open};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tokio::sync::Mutex;

use super::Container;
use crate::agent::Agent;
use crate::failure::{During, Failure};
use crate::watches::{self, DeviceNumber, FileSystem};

/// Each share lies below it under its name. No container sees this directory.
pub(crate) const DIRECTORY: &str = "/run/shares";

/// Containers that start at the same time mount it once.
static MOUNTED: Mutex<bool> = Mutex::const_new(false);

/// # Errors
/// MOUNT_FAILED: the machine has no shares, or their server does not answer.
pub(super) async fn mount_for(agent: &Rc<Agent>, mounts: &[Mount]) -> Result<(), Failure> {
    let mut is_mounted = MOUNTED.lock().await;
    let names = names(mounts);
    if names.is_empty() {
        return Ok(());
    }
    let was_mounted = *is_mounted;
    let mounted = tokio::task::spawn_blocking(move || {
        if !was_mounted {
            mount_all()?;
        }
        Ok(file_systems(names))
    });
    let found = mounted.await.during(ErrorCode::Internal, || "mount the machine's shares").flatten()?;
    *is_mounted = true;
    watches::begin(agent);
    for (device, file_system) in found {
        agent.watches.learn(device, file_system);
    }
    Ok(())
}

/// Of the shares among these mounts, each once.
pub(super) fn names(mounts: &[Mount]) -> Vec<String> {
    let names = mounts.iter().map(|mount| mount.share.clone()).filter(|share| !share.is_empty());
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Lets go of those that no other container has: the host takes them away, and may give others.
///
/// # Errors
/// Somebody still uses one.
pub(super) async fn unmount_of(agent: &Agent, container: &Container) -> io::Result<()> {
    let is_others = |name: &String| agent.containers.have_share(name, &container.id);
    let alone: Vec<String> = container.shares.iter().filter(|name| !is_others(name)).cloned().collect();
    if alone.is_empty() {
        return Ok(());
    }
    agent.watches.forget(&alone);
    tokio::task::spawn_blocking(move || alone.iter().try_for_each(|name| unmount_one(name)))
        .await
        .map_err(io::Error::other)?
}

fn unmount_one(name: &str) -> io::Result<()> {
    match unmount(Path::new(DIRECTORY).join(name), UnmountFlags::NOFOLLOW) {
        // A file; or one that was never looked at.
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(error) => Err(io::Error::other(format!("unmount the share {name}: {error}"))),
    }
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

/// Which file systems they are. The kernel mounts a directory's when it is opened as one: once, here, before any stage has
/// mounts of its own, so that all containers have the same one and see each other's writes.
fn file_systems(names: Vec<String>) -> Vec<(DeviceNumber, FileSystem)> {
    let device = |path: &Path| {
        let directory = open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let device = fstat(&directory).ok()?.st_dev;
        Some((major(device), minor(device)))
    };
    // Not a directory, or not there: the stage says so.
    let shares = names
        .into_iter()
        .filter_map(|name| Some((device(&Path::new(DIRECTORY).join(&name))?, FileSystem::Share(name))));
    let files = device(Path::new(DIRECTORY)).map(|device| (device, FileSystem::Files));
    shares.chain(files).collect()
}
