//! Pausing: a container's processes stand still and keep all they have.

use std::time::Duration;

use super::Engine;
use super::container::{Command, Container, Live};
use super::error::{EngineError, ErrorKind, chain};
use super::identity::ContainerId;
use crate::agent_client::within;

/// The agent gives a process that hangs in its kernel ten seconds to stand still.
const FREEZE_DEADLINE: Duration = Duration::from_secs(30);

impl Engine {
    /// Answers when every process of the container stands still.
    ///
    /// # Errors
    /// No such container, one that does not run or is paused already, a process that does not stand still.
    pub async fn pause(&self, name: &str) -> Result<(), EngineError> {
        let container = self.find(name)?;
        container.set_paused(true).await
    }

    /// Answers when its processes go on.
    ///
    /// # Errors
    /// No such container, one that is not paused.
    pub async fn unpause(&self, name: &str) -> Result<(), EngineError> {
        let container = self.find(name)?;
        container.set_paused(false).await
    }
}

impl Container {
    pub(super) async fn set_paused(&self, paused: bool) -> Result<(), EngineError> {
        self.command(|reply| Command::SetPaused { paused, reply }).await??;
        self.publish(if paused { "pause" } else { "unpause" }, []);
        Ok(())
    }
}

/// The driver's part in the guest.
pub(super) async fn freeze(id: &ContainerId, live: &Live, frozen: bool) -> Result<(), EngineError> {
    let deadline = live.pace.deadline(FREEZE_DEADLINE);
    let word = if frozen { "pause" } else { "unpause" };
    let failed = |reason: &str| {
        EngineError::new(ErrorKind::Internal, format!("Cannot {word} container {id}: {reason}"))
    };
    let waited_for = if frozen { "its processes to stand still" } else { "its processes to go on" };
    let done = within(deadline, waited_for, live.agent.freeze(id.as_str(), frozen)).await;
    done.map_err(|error| failed(&chain(&error)))
}
