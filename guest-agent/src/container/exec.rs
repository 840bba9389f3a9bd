//! The verb StartExec: a further process in a container that runs.

use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use berth_protocol::agent::{ErrorCode, ProcessStarted, StartExec};

use super::launch::{Launch, Place, launch};
use super::{no_such_container, request};
use crate::agent::Agent;
use crate::failure::Failure;
use crate::stage::STAGE_NAME;
use crate::stage::spec::StageSpec;

/// Generous: a container's end takes as long as its other processes take to die.
const END_IS_HEARD_WITHIN: Duration = Duration::from_secs(2);

/// Answers when the program has been executed.
///
/// # Errors
/// NO_SUCH_CONTAINER, also when its first process has ended: its namespaces ended with that.
pub(crate) async fn exec(agent: &Rc<Agent>, request: StartExec) -> Result<ProcessStarted, Failure> {
    let (container_id, process) = request::check_exec(request)?;
    let container = agent.containers.get(&container_id).ok_or_else(|| no_such_container(&container_id))?;
    let _not_while_it_comes_or_goes = container.lifecycle.read().await;
    let not_running =
        || Failure::new(ErrorCode::NoSuchContainer, format!("container {container_id} is not running"));
    let first = container.running(agent).ok_or_else(not_running)?;
    let stage = Launch {
        container_id: &container_id,
        cgroup: &container.cgroup,
        ids: container.disks.ids(),
        place: Place::With(first.pidfd.as_fd()),
        stage_name: STAGE_NAME,
        spec: StageSpec {
            exec: Some(process.clone()),
            joins_user_namespace: container.disks.ids().is_mapped(),
            ..StageSpec::default()
        },
        process: &process,
    };
    match launch(agent, stage).await {
        Ok(started) => Ok(ProcessStarted { pid: started.pid }),
        // Who joins a container that ends is killed with it, or does not get in; the end is heard of a moment later.
        Err(failure) if failure.code == ErrorCode::Internal => {
            let ended = tokio::time::timeout(END_IS_HEARD_WITHIN, first.ended()).await;
            Err(if ended.is_ok() { not_running() } else { failure })
        }
        Err(_) if first.has_ended() => Err(not_running()),
        Err(failure) => Err(failure),
    }
}
