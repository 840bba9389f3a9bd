//! The verb StatPath: what is at a path of a container.

use std::rc::Rc;

use berth_protocol::agent::{PathStat, StatPath};

use super::no_such_container;
use super::view::{check_path, not_found, view};
use crate::agent::Agent;
use crate::failure::{During, Failure};
use crate::files;

/// # Errors
/// NO_SUCH_CONTAINER, NO_SUCH_FILE, NOT_A_DIRECTORY.
pub(crate) async fn stat_path(agent: &Rc<Agent>, request: StatPath) -> Result<PathStat, Failure> {
    check_path(&request.path)?;
    let id = &request.container_id;
    let container = agent.containers.get(id).ok_or_else(|| no_such_container(id))?;
    let _not_while_it_comes_or_goes = container.lifecycle.read().await;
    let view = view(agent, &container)?;
    // A file system may take its time, above all one that the container itself serves.
    let found = tokio::task::spawn_blocking(move || {
        let file = view.find(&request.path);
        file.and_then(|file| files::stat(&view, &request.path, &file))
            .map_err(|errno| not_found("lstat", &request.path, errno))
    });
    found.await.during(berth_protocol::agent::ErrorCode::Internal, || "look at a path")?
}
