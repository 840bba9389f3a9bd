//! Export: a container's files as one archive, whether it runs or not.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Engine;
use super::container::{Command, Container};
use super::error::{EngineError, ErrorKind};
use super::files::Files;
use crate::agent_client::{ArchiveReader, CallError, within};

/// Pieces of some 256 KiB that wait for a slow client; more, and the agent waits.
const WAITING_PIECES: usize = 4;
/// Until the next piece; the largest of directories is listed within.
const PIECE_DEADLINE: Duration = Duration::from_secs(120);
/// A client that takes nothing for this long keeps its container's machine for nothing.
const STALL_DEADLINE: Duration = Duration::from_secs(300);

/// An archive on its way to a client. It stops when it goes.
#[derive(Debug)]
pub struct Export {
    pieces: mpsc::Receiver<Bytes>,
    outcome: JoinHandle<Result<(), EngineError>>,
}

impl Engine {
    /// Begins to read a container's files: what lies on its disks, without volumes and other mounts.
    ///
    /// # Errors
    /// No such container, one that is being removed, or a machine that cannot be booted for it.
    pub async fn export(&self, name: &str) -> Result<Export, EngineError> {
        let container = self.find(name)?;
        let files = container.command(|reply| Command::OpenFiles { reply }).await??;
        let deadline = files.pace.deadline(PIECE_DEADLINE);
        let opening = files.agent.read_archive(container.id.as_str());
        let opened = within(deadline, "the begin of an archive", opening).await;
        let archive = opened.map_err(|error| failed(&container, &error))?;
        container.publish("export", []);
        let (sender, pieces) = mpsc::channel(WAITING_PIECES);
        let outcome = tokio::spawn(async move { pass_on(&container, &files, archive, &sender).await });
        Ok(Export { pieces, outcome })
    }
}

impl Export {
    /// The next bytes; `None` when the archive is whole.
    ///
    /// # Errors
    /// The archive broke off: what came before is half of one.
    pub async fn next(&mut self) -> Result<Option<Bytes>, EngineError> {
        if let Some(piece) = self.pieces.recv().await {
            return Ok(Some(piece));
        }
        let outcome = (&mut self.outcome).await;
        outcome.map_err(|error| EngineError::internal("cannot export a container", &error))?.map(|()| None)
    }
}

async fn pass_on(
    container: &Container,
    files: &Files,
    mut archive: ArchiveReader,
    client: &mpsc::Sender<Bytes>,
) -> Result<(), EngineError> {
    let deadline = files.pace.deadline(PIECE_DEADLINE);
    loop {
        let piece = within(deadline, "more of an archive", archive.next()).await;
        let Some(piece) = piece.map_err(|error| failed(container, &error))? else { return Ok(()) };
        match timeout(STALL_DEADLINE, client.send(piece)).await {
            Ok(Ok(())) => {}
            // It has gone, and hears nothing of this.
            Ok(Err(_gone)) => return Ok(()),
            Err(_elapsed) => {
                let seconds = STALL_DEADLINE.as_secs();
                let message =
                    format!("export of container {}: nobody took any of it for {seconds} s", container.id);
                return Err(EngineError::new(ErrorKind::Internal, message));
            }
        }
    }
}

fn failed(container: &Container, error: &CallError) -> EngineError {
    EngineError::internal(&format!("cannot export container {}", container.id), error)
}
