//! A container's files for those who read them: of the machine that runs, or of one that is booted for them.

use super::Driver;
use crate::engine::error::EngineError;
use crate::engine::files::{Files, IdleMachine, Unwritten};
use crate::engine::state::ContainerState;

impl Driver {
    /// The container's state stays what it is. Of a container that does not run, one reader at a time has a machine:
    /// the next one's is booted when it has gone.
    pub(super) async fn open_files(&mut self) -> Result<Files, EngineError> {
        if let Some(active) = &self.active {
            return Ok(active.live().files().await);
        }
        if self.record.state == ContainerState::Removing {
            let message = format!("You cannot export container {} which is being removed", self.container.id);
            return Err(EngineError::conflict(message));
        }
        self.finish_teardown().await?;
        let machine = IdleMachine::boot(&self.shared, &self.container).await?;
        let files = machine.files().await;
        self.teardown = Some(tokio::spawn(machine.end(Unwritten::Keep)));
        Ok(files)
    }
}
