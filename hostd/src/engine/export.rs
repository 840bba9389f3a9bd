//! Export: a container's files as one archive, whether it runs or not.

use super::Engine;
use super::container::Command;
use super::error::EngineError;
use super::outgoing::{OutgoingArchive, PIECE_DEADLINE, failed};
use crate::agent_client::within;

impl Engine {
    /// Begins to read a container's files: what lies on its disks, without volumes and other mounts.
    ///
    /// # Errors
    /// No such container, one that is being removed, or a machine that cannot be booted for it.
    pub async fn export(&self, name: &str) -> Result<OutgoingArchive, EngineError> {
        let container = self.find(name)?;
        let files = container.command(|reply| Command::OpenFiles { reply }).await??;
        let deadline = files.pace.deadline(PIECE_DEADLINE);
        let opening = files.agent.read_archive(container.id.as_str());
        let opened = within(deadline, "the begin of an archive", opening).await;
        let archive = opened.map_err(|error| failed("export", &container, &error))?;
        container.publish("export", []);
        Ok(OutgoingArchive::begin("export", container, files, archive))
    }
}
