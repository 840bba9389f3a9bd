//! Standing still while somebody reads the container's files: a pause that ends with its last reader, or with the daemon.

use super::Driver;
use crate::engine::error::EngineError;
use crate::engine::state::ContainerState;

impl Driver {
    /// A container that runs stands still for one reader more; any other one does anyway.
    pub(super) async fn stand_still(&mut self) -> Result<(), EngineError> {
        if matches!(self.record.state, ContainerState::Running(_)) {
            // Durable with the pause: the next daemon ends it.
            self.record.is_paused_for_readers = true;
            if let Err(error) = self.set_paused(true).await {
                self.record.is_paused_for_readers = false;
                return Err(error);
            }
            self.container.publish("pause", []);
        }
        self.still_readers += 1;
        Ok(())
    }

    /// One reader less. What somebody else has paused or let go on meanwhile stays as they want it.
    pub(super) async fn go_on(&mut self) {
        self.still_readers = self.still_readers.saturating_sub(1);
        if self.still_readers > 0 || !std::mem::take(&mut self.record.is_paused_for_readers) {
            return;
        }
        if !self.record.state.is_paused() {
            return;
        }
        match self.set_paused(false).await {
            Ok(()) => self.container.publish("unpause", []),
            Err(error) => {
                tracing::error!(container = %self.container.id, %error, "a container stays paused after its commit");
            }
        }
    }
}
