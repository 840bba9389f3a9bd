//! The verbs Freeze, UpdateResources and ReadStatistics: what is asked of the cgroup of a container that is there.

use berth_protocol::agent::{Freeze, Statistics, UpdateResources};

use super::no_such_container;
use crate::agent::Agent;
use crate::failure::Failure;

/// # Errors
/// NO_SUCH_CONTAINER, or INTERNAL if a process does not stand still.
pub(crate) async fn freeze(agent: &Agent, request: Freeze) -> Result<(), Failure> {
    let id = &request.container_id;
    let container = agent.containers.get(id).ok_or_else(|| no_such_container(id))?;
    let _not_while_it_comes_or_goes = container.lifecycle.read().await;
    container.cgroup.freeze(request.frozen).await
}

/// # Errors
/// NO_SUCH_CONTAINER, RESOURCE_LIMIT if the kernel refuses a limit.
pub(crate) async fn update(agent: &Agent, request: UpdateResources) -> Result<(), Failure> {
    let id = &request.container_id;
    let container = agent.containers.get(id).ok_or_else(|| no_such_container(id))?;
    let _not_while_it_comes_or_goes = container.lifecycle.read().await;
    container.cgroup.update(&request.resources.unwrap_or_default())
}

/// # Errors
/// NO_SUCH_CONTAINER.
pub(crate) fn statistics(agent: &Agent, container_id: &str) -> Result<Statistics, Failure> {
    let container = agent.containers.get(container_id).ok_or_else(|| no_such_container(container_id))?;
    Ok(container.cgroup.statistics(container.running(agent).map(|first| first.pid)))
}
