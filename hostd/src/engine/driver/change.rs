//! What changes of a container beside its state.

use std::sync::Arc;

use super::Driver;
use crate::engine::error::EngineError;
use crate::engine::restart::RestartPolicy;
use crate::engine::spec::AutoRemove;

impl Driver {
    pub(super) async fn rename(&mut self, name: String) -> Result<(), EngineError> {
        self.take_name(&name)?;
        let old = std::mem::replace(&mut self.record.name, name);
        let kept = self.shared.records.put(&self.record).await;
        if kept.is_err() {
            self.record.name = old;
        }
        self.shared.networks.renamed(&self.container.id, &self.record.name);
        // The old name is free from here on, and not while the database still knows it as this container's.
        self.status.send_modify(|status| {
            status.name = self.record.name.as_str().into();
            status.next_name = None;
        });
        kept
    }

    /// From here on nobody else gets the name.
    fn take_name(&self, name: &str) -> Result<(), EngineError> {
        let containers = self.shared.containers_mut();
        self.shared.check_name_is_free(&containers, name).map_err(|taken| EngineError {
            message: format!("Error when allocating new name: {}", taken.message),
            ..taken
        })?;
        self.status.send_modify(|status| status.next_name = Some(name.into()));
        drop(containers);
        Ok(())
    }

    pub(super) async fn set_restart_policy(&mut self, policy: RestartPolicy) -> Result<(), EngineError> {
        if self.record.spec.auto_remove == AutoRemove::Remove && policy != RestartPolicy::No {
            let message = "Restart policy cannot be updated because AutoRemove is enabled for the container";
            return Err(EngineError::conflict(message));
        }
        Arc::make_mut(&mut self.record.spec).restart = policy;
        self.shared.records.put(&self.record).await?;
        self.status.send_modify(|status| status.spec = Arc::clone(&self.record.spec));
        Ok(())
    }
}
