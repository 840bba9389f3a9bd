//! A path of a container, and all below it, as an archive.

use super::stat::failed;
use super::{ContainerPath, PathStat, reach};
use crate::agent_client::within;
use crate::engine::Engine;
use crate::engine::container::Command;
use crate::engine::error::EngineError;
use crate::engine::outgoing::{OutgoingArchive, PIECE_DEADLINE};

impl Engine {
    /// Begins to read a path of a container, whether it runs or not. The archive's names begin with the path's last.
    ///
    /// # Errors
    /// As [`Engine::stat_path`].
    pub async fn read_path(
        &self,
        name: &str,
        path: &ContainerPath,
    ) -> Result<(PathStat, OutgoingArchive), EngineError> {
        let container = self.find(name)?;
        let files = container.command(|reply| Command::OpenFiles { reply }).await??;
        reach::check(&container, &files, path)?;
        let deadline = files.pace.deadline(PIECE_DEADLINE);
        let opening = files.agent.read_path(container.id.as_str(), path.as_bytes(), path.base());
        let opened = within(deadline, "the begin of an archive", opening).await;
        let (stat, archive) = opened.map_err(|error| failed(&container, name, path, &error))?;
        container.publish("archive-path", []);
        Ok((PathStat::new(path, &stat), OutgoingArchive::begin("copy from", container, files, archive)))
    }
}
