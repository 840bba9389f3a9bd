//! The verbs ConnectInterface and DisconnectInterface: network cards that come and go while a container runs.

use std::os::fd::AsFd;
use std::rc::Rc;

use berth_protocol::agent::{ConnectInterface, DisconnectInterface, ErrorCode};

use super::no_such_container;
use crate::agent::Agent;
use crate::failure::{During, Failure};
use crate::network;
use crate::processes::Process;

/// # Errors
/// NO_SUCH_CONTAINER, also of one that does not run; a field that is wrong, or what the kernel answered.
pub(crate) async fn connect(agent: &Rc<Agent>, request: ConnectInterface) -> Result<(), Failure> {
    let interface = request.interface.unwrap_or_default();
    network::check(&interface).map_err(|error| Failure::invalid(error.to_string()))?;
    with_first_process(agent, &request.container_id, |first| {
        network::connect(first.pid, first.pidfd.as_fd(), &interface).during(ErrorCode::Internal, || {
            format!("set up the network interface {} on card {}", interface.name, interface.card)
        })
    })
    .await
}

/// # Errors
/// As [`connect`].
pub(crate) async fn disconnect(agent: &Rc<Agent>, request: DisconnectInterface) -> Result<(), Failure> {
    with_first_process(agent, &request.container_id, |first| {
        let disconnected = network::disconnect(first.pidfd.as_fd(), &request);
        disconnected.during(ErrorCode::Internal, || format!("take the network interface {}", request.name))
    })
    .await
}

/// Its namespaces are the container's.
async fn with_first_process(
    agent: &Rc<Agent>,
    container_id: &str,
    act: impl FnOnce(&Process) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let container = agent.containers.get(container_id).ok_or_else(|| no_such_container(container_id))?;
    let _not_while_it_comes_or_goes = container.lifecycle.read().await;
    let not_running =
        || Failure::new(ErrorCode::NoSuchContainer, format!("container {container_id} is not running"));
    act(&*container.running(agent).ok_or_else(not_running)?)
}
