//! The verb RemoveContainer: give back everything a container holds. A failed start ends here too.

use std::rc::Rc;

use berth_protocol::agent::{ErrorCode, RemoveContainer};

use super::{Container, shares, shm};
use crate::agent::Agent;
use crate::failure::{During, Failure};

/// Answers when nothing of the container is left. One that is not there (any more) is removed already.
///
/// # Errors
/// INTERNAL if something could not be released; asking again tries again.
pub(crate) async fn remove(agent: &Rc<Agent>, request: RemoveContainer) -> Result<(), Failure> {
    let Some(container) = agent.containers.get(&request.container_id) else {
        return Ok(());
    };
    // First of all: a start or an exec that is under way ends sooner when its processes do.
    let killed = container.cgroup.kill();
    killed.during(ErrorCode::Internal, || format!("kill the processes of {}", container.id))?;
    let _alone = container.lifecycle.write().await;
    // Whoever was here before may have removed it, and the name may belong to a new one by now.
    let still_known = agent.containers.get(&container.id).is_some_and(|known| Rc::ptr_eq(&known, &container));
    if !still_known {
        return Ok(());
    }
    release(agent, &container).await
}

/// For whoever holds the container's lifecycle. Every step does nothing where there is nothing to do.
///
/// # Errors
/// The first step that failed; the steps after it have not been tried.
pub(super) async fn release(agent: &Agent, container: &Container) -> Result<(), Failure> {
    let step = |what: &'static str| move || format!("remove container {}: {what}", container.id);
    container.cgroup.kill().during(ErrorCode::Internal, step("kill its processes"))?;
    for process in agent.processes.of_container(&container.id) {
        process.ended().await;
    }
    agent.processes.forget_container(&container.id);
    agent.name_servers.stop(&container.id);
    agent.sockets.stop(&container.id);
    shm::unmount_own(&container.id).during(ErrorCode::Internal, step("unmount its /dev/shm"))?;
    let disks = container.disks.clone();
    let unmounted = tokio::task::spawn_blocking(move || disks.unmount()).await;
    let unmounted = unmounted.map_err(std::io::Error::other).and_then(std::convert::identity);
    unmounted.during(ErrorCode::Internal, step("unmount its disks"))?;
    shares::unmount_of(agent, container).await.during(ErrorCode::Internal, step("unmount its shares"))?;
    container.cgroup.remove().await.during(ErrorCode::Internal, step("remove its cgroup"))?;
    agent.containers.remove(&container.id);
    Ok(())
}
