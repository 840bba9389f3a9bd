//! Changes: how a container's files differ from its image, whether it runs or not.

use std::time::Duration;

use berth_protocol::agent;

use super::Engine;
use super::container::{Command, Container};
use super::error::{EngineError, ErrorKind};
use crate::agent_client::{CallError, ChangesReader, within};

/// Until the next changes; the largest of directories is compared within.
const PIECE_DEADLINE: Duration = Duration::from_secs(120);
/// What a list may take: a container can have any number of files.
const MAX_LIST_BYTES: usize = 64 << 20;
/// What an entry takes beside its path.
const ENTRY_BYTES: usize = 32;

/// A path that is not as the image has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Absolute; what is no UTF-8 in it is replaced.
    pub path: String,
    pub kind: ChangeKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Of a directory: itself, or something in it.
    Modified,
    Added,
    Deleted,
}

impl Engine {
    /// Every change, in the order of names, a directory before what is in it.
    ///
    /// # Errors
    /// No such container, one that is being removed, or a machine that cannot be booted for it; more changes than fit into
    /// a list.
    pub async fn changes(&self, name: &str) -> Result<Vec<Change>, EngineError> {
        let container = self.find(name)?;
        let files = container.command(|reply| Command::OpenFiles { reply }).await??;
        let deadline = files.pace.deadline(PIECE_DEADLINE);
        let opening = files.agent.read_changes(container.id.as_str());
        let opened = within(deadline, "the begin of its changes", opening).await;
        let reader = opened.map_err(|error| failed(&container, &error))?;
        let changes = read(&container, reader, deadline).await;
        drop(files);
        changes
    }
}

async fn read(
    container: &Container,
    mut reader: ChangesReader,
    deadline: Duration,
) -> Result<Vec<Change>, EngineError> {
    let mut changes = Vec::new();
    let mut held_bytes = 0;
    loop {
        let more = within(deadline, "more of its changes", reader.next()).await;
        let Some(more) = more.map_err(|error| failed(container, &error))? else { return Ok(changes) };
        for change in more {
            let change = Change::from(change);
            held_bytes += change.path.len() + ENTRY_BYTES;
            if held_bytes > MAX_LIST_BYTES {
                let message = format!(
                    "container {} has more changes than fit into {} MiB: export it instead",
                    container.id,
                    MAX_LIST_BYTES >> 20
                );
                return Err(EngineError::new(ErrorKind::Internal, message));
            }
            changes.push(change);
        }
    }
}

impl From<agent::Change> for Change {
    fn from(change: agent::Change) -> Self {
        let kind = match change.kind() {
            agent::ChangeKind::Modified => ChangeKind::Modified,
            agent::ChangeKind::Added => ChangeKind::Added,
            agent::ChangeKind::Deleted => ChangeKind::Deleted,
        };
        Self { path: String::from_utf8_lossy(&change.path).into_owned(), kind }
    }
}

fn failed(container: &Container, error: &CallError) -> EngineError {
    EngineError::internal(&format!("cannot compare container {} with its image", container.id), error)
}
