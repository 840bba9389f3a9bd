//! What may change of a container that exists: its name, its restart policy.

use super::Engine;
use super::container::Command;
use super::error::EngineError;
use super::identity::parse_name;
use super::restart::RestartPolicy;

impl Engine {
    /// Gives the container another name; from here on the old one is free.
    ///
    /// # Errors
    /// No such container, no name, the same one, or one that is taken.
    pub async fn rename(&self, container: &str, name: &str) -> Result<(), EngineError> {
        if name.is_empty() {
            return Err(EngineError::invalid("Neither old nor new names may be empty"));
        }
        let container = self.find(container)?;
        let slash = if name.starts_with('/') { "" } else { "/" };
        let name = parse_name(&format!("{slash}{name}")).map_err(|error| allocating(&error))?;
        let old = container.name();
        if name == *old {
            let message = "Renaming a container with the same name as its current name";
            return Err(EngineError::invalid(message));
        }
        container
            .command(|reply| Command::Rename { name, reply })
            .await?
            .map_err(|error| allocating(&error))?;
        container.publish("rename", [("oldName", format!("/{old}"))]);
        Ok(())
    }

    /// What is to follow the container's next end.
    ///
    /// # Errors
    /// No such container, or one that is removed at its end.
    pub async fn set_restart_policy(
        &self,
        container: &str,
        policy: RestartPolicy,
    ) -> Result<(), EngineError> {
        let container = self.find(container)?;
        container.command(|reply| Command::SetRestartPolicy { policy, reply }).await?
    }
}

/// In Docker's words.
fn allocating(error: &EngineError) -> EngineError {
    EngineError::new(error.kind, format!("Error when allocating new name: {}", error.message))
}
