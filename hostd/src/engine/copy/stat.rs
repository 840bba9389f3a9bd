//! What is at a path of a container.

use std::time::Duration;

use berth_protocol::agent::{self, ErrorCode};
use jiff::Timestamp;

use super::{ContainerPath, reach};
use crate::agent_client::{CallError, within};
use crate::engine::Engine;
use crate::engine::container::{Command, Container};
use crate::engine::error::{EngineError, ErrorKind};

/// Looking at one path, in a machine on a host that many others load.
const STAT_DEADLINE: Duration = Duration::from_secs(60);

/// A file of a container; a symbolic link itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathStat {
    /// The last name of the path that was asked for.
    pub name: Vec<u8>,
    pub size_bytes: u64,
    /// As stat(2) gives it: kind and permissions.
    pub mode: u32,
    pub modified_at: Timestamp,
    /// Where a symbolic link leads to in the end, as far as that exists: an absolute path, or nothing.
    pub link_target: Vec<u8>,
}

impl Engine {
    /// Looks at a path of a container, whether it runs or not.
    ///
    /// # Errors
    /// No such container or path, or a machine that cannot be booted for it.
    pub async fn stat_path(&self, name: &str, path: &ContainerPath) -> Result<PathStat, EngineError> {
        let container = self.find(name)?;
        let files = container.command(|reply| Command::OpenFiles { reply }).await??;
        reach::check(&container, &files, path)?;
        let looking = files.agent.stat_path(container.id.as_str(), path.as_bytes());
        let stat = within(files.pace.deadline(STAT_DEADLINE), "a look at a path", looking).await;
        stat.map(|stat| PathStat::new(path, &stat)).map_err(|error| failed(&container, name, path, &error))
    }
}

impl PathStat {
    pub(super) fn new(path: &ContainerPath, stat: &agent::PathStat) -> Self {
        let nanoseconds = i32::try_from(stat.modified_ns).unwrap_or(0);
        Self {
            name: path.base().to_vec(),
            size_bytes: stat.size_bytes,
            mode: stat.mode,
            // A guest may claim any time.
            modified_at: Timestamp::new(stat.modified_unix_s, nanoseconds).unwrap_or_default(),
            link_target: stat.link_target.clone(),
        }
    }
}

/// The agent's refusal in Docker's words, in which a container has the name that the client said.
pub(super) fn failed(
    container: &Container,
    name: &str,
    path: &ContainerPath,
    error: &CallError,
) -> EngineError {
    match error {
        CallError::Agent { code: ErrorCode::NoSuchFile, .. } => {
            EngineError::not_found(format!("Could not find the file {path} in container {name}"))
        }
        CallError::Agent {
            code: ErrorCode::NotADirectory | ErrorCode::InvalidRequest | ErrorCode::NoSuchUser,
            message,
        } => EngineError::invalid(message.clone()),
        CallError::Agent { code: ErrorCode::ReadOnly, message } => {
            EngineError::new(ErrorKind::Forbidden, message.clone())
        }
        error => EngineError::internal(&format!("cannot reach {path} in container {}", container.id), error),
    }
}
