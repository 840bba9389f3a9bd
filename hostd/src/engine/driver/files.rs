//! A container's files for those who read them: of the machine that runs, or of one that is booted for them.

use super::Driver;
use crate::engine::error::EngineError;
use crate::engine::files::{Files, IdleMachine, Unwritten};
use crate::engine::state::ContainerState;

impl Driver {
    /// The container's state stays what it is. Readers of a container that does not run share a machine, which stays for
    /// a moment after the last of them.
    pub(super) async fn open_files(&mut self) -> Result<Files, EngineError> {
        let known = self.active.as_ref().map(|active| active.live().files()).or_else(|| self.idle.clone());
        if let Some(files) = known.and_then(|known| known.open()) {
            return Ok(files);
        }
        if self.record.state == ContainerState::Removing {
            let message =
                format!("You cannot read files of container {} which is being removed", self.container.id);
            return Err(EngineError::conflict(message));
        }
        self.finish_teardown().await?;
        let machine = IdleMachine::boot(&self.shared, &self.container).await?;
        let files = machine.files();
        let opened = files.open();
        self.teardown = Some(self.shared.endings.spawn(machine.end(Unwritten::Keep)));
        self.idle = Some(files);
        let gone = || EngineError::conflict(format!("the machine of container {} ends", self.container.id));
        opened.ok_or_else(gone)
    }
}
