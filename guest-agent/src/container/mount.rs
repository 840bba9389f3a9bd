//! The verb MountContainer: a container of which nothing runs, only its files are there, with what it has mounted for those
//! who copy.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use berth_protocol::agent::{ErrorCode, Mount, MountContainer};
use tokio::sync::RwLock;

use super::cgroup::Cgroup;
use super::disks::Disks;
use super::{Container, remove, request, shares};
use crate::agent::Agent;
use crate::failure::{During, Failure};

async fn mount_all(agent: &Rc<Agent>, container: &Container, mounts: Vec<Mount>) -> Result<(), Failure> {
    let disks = container.disks.clone();
    let mounted = tokio::task::spawn_blocking(move || disks.mount()).await;
    mounted.during(ErrorCode::Internal, || "mount the disks").flatten()?;
    if mounts.is_empty() {
        return Ok(());
    }
    shares::mount_for(agent, &mounts).await?;
    let disks = container.disks.clone();
    let furnished = tokio::task::spawn_blocking(move || disks.furnish(&mounts)).await;
    furnished.during(ErrorCode::Internal, || "mount what it has mounted").flatten()
}

/// Answers when the files can be read.
///
/// # Errors
/// MOUNT_FAILED naming the disk; the container is gone again then.
pub(crate) async fn mount(agent: &Rc<Agent>, request: MountContainer) -> Result<(), Failure> {
    request::check_mount(&request)?;
    let container = Rc::new(Container {
        id: request.container_id.clone(),
        first_process: None,
        cgroup: Cgroup::of(&request.container_id),
        disks: Disks::new(&request.container_id, &request.image_disk, &request.scratch_disk)
            .of_parts(request.lower_part.as_ref(), &request.mounts),
        shares: shares::names(&request.mounts),
        shm: None,
        lifecycle: Arc::new(RwLock::new(())),
        names: RefCell::default(),
    });
    let held = container.lifecycle.try_write().expect("nobody else knows this container yet");
    agent.containers.add(Rc::clone(&container))?;
    let mounted = mount_all(agent, &container, request.mounts).await;
    if mounted.is_err()
        && let Err(left) = remove::release(agent, &container).await
    {
        eprintln!("berth-agent: after a failed mount of {}: {left}", container.id);
    }
    drop(held);
    mounted
}
