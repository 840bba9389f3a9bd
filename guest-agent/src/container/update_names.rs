//! The verb UpdateNames: other lines in the files that tell a container of names.

use berth_protocol::agent::{ErrorCode, UpdateNames};

use super::identity_files::{self, Names};
use super::no_such_container;
use crate::agent::Agent;
use crate::failure::{During, Failure};

/// # Errors
/// NO_SUCH_CONTAINER, or INTERNAL for a file that cannot be written.
pub(crate) async fn update(agent: &Agent, request: UpdateNames) -> Result<(), Failure> {
    let id = &request.container_id;
    let container = agent.containers.get(id).ok_or_else(|| no_such_container(id))?;
    let _not_while_it_comes_or_goes = container.lifecycle.read().await;
    let new = Names { extra_hosts: request.extra_hosts, resolution: request.name_resolution };
    let mut names = container.names.borrow_mut();
    identity_files::update(container.disks.directory(), &names, &new)
        .during(ErrorCode::Internal, || format!("write the files of {id} that tell of names"))?;
    *names = new;
    Ok(())
}
