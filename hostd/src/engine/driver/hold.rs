//! Changes of how a container runs, not of whether it does: standing still, and other limits.

use std::sync::Arc;

use super::Driver;
use crate::engine::error::EngineError;
use crate::engine::limits::Limits;
use crate::engine::state::{ContainerState, Step};
use crate::engine::{pause, update};

impl Driver {
    /// As somebody asks for it by itself.
    pub(super) async fn pause_or_go_on(&mut self, paused: bool) -> Result<(), EngineError> {
        self.set_paused(paused).await?;
        self.record.is_paused_for_readers = false;
        Ok(())
    }

    pub(super) async fn set_paused(&mut self, paused: bool) -> Result<(), EngineError> {
        let id = &self.container.id;
        let refused = match (&self.record.state, paused) {
            (ContainerState::Paused(_), true) => Some(format!("Container {id} is already paused")),
            (ContainerState::Running(_), true) | (ContainerState::Paused(_), false) => None,
            (state, true) if state.is_restarting() => {
                Some(format!("Container {id} is restarting, wait until the container is running"))
            }
            (_, true) => Some(format!("container {id} is not running")),
            (_, false) => Some(format!("Container {id} is not paused")),
        };
        let (None, Some(active)) = (&refused, &self.active) else {
            return Err(EngineError::conflict(
                refused.unwrap_or_else(|| format!("container {id} is not running")),
            ));
        };
        pause::freeze(id, &active.live(), paused).await?;
        let step = if paused { Step::Pause } else { Step::Unpause };
        let state = self.record.state.after(step);
        let state = state.map_err(|illegal| EngineError::conflict(illegal.to_string()))?;
        self.commit(state.clone()).await;
        self.publish(state);
        Ok(())
    }

    pub(super) async fn update(&mut self, limits: Limits) -> Result<Vec<String>, EngineError> {
        let old = &self.record.spec.limits;
        let mut warnings = Vec::new();
        if let Some(active) = &self.active {
            warnings = update::apply(&self.container.id, &active.live(), old, &limits).await?;
            if let Err(error) = active.share_host(&limits) {
                warnings.push(format!(
                    "The share of the host that the container's machine has is not changed: {error}"
                ));
            }
        }
        Arc::make_mut(&mut self.record.spec).limits = limits;
        self.shared.records.put(&self.record).await?;
        self.status.send_modify(|status| status.spec = Arc::clone(&self.record.spec));
        Ok(warnings)
    }
}
