//! The verb Shutdown: every container goes, everything is written, and the machine may end.

use std::rc::Rc;
use std::time::Duration;

use berth_protocol::agent::RemoveContainer;

use super::remove;
use crate::agent::Agent;
use crate::failure::Failure;

/// The host ends the machine once it has the answer. One that does not is no reason to keep the machine.
const GRACE: Duration = Duration::from_secs(10);

/// Answers when nothing is left to be written.
///
/// # Errors
/// The first container that could not be released, after all have been tried.
pub(crate) async fn shut_down(agent: &Rc<Agent>) -> Result<(), Failure> {
    let mut outcome = Ok(());
    for container_id in agent.containers.ids() {
        let removed = remove::remove(agent, RemoveContainer { container_id }).await;
        outcome = outcome.and(removed);
    }
    tokio::task::spawn_local(end_machine());
    outcome
}

async fn end_machine() {
    tokio::time::sleep(GRACE).await;
    rustix::fs::sync();
    // A machine has no power to switch off: it ends by its reset.
    if let Err(error) = rustix::system::reboot(rustix::system::RebootCommand::Restart) {
        eprintln!("berth-agent: the machine cannot be ended: {error}");
    }
}
