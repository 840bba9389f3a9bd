//! An archive of a container's files on its way from the agent to a client.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::container::Container;
use super::error::{EngineError, ErrorKind};
use super::files::Files;
use crate::agent_client::{ArchiveReader, CallError, within};

/// Pieces of some 256 KiB that wait for a slow client; more, and the agent waits.
const WAITING_PIECES: usize = 4;
/// Until the first piece, and the next; the largest of directories is listed within.
pub(super) const PIECE_DEADLINE: Duration = Duration::from_secs(120);
/// A client that takes or brings nothing for this long keeps its container's machine for nothing.
pub(super) const STALL_DEADLINE: Duration = Duration::from_secs(300);

/// It stops when it goes.
#[derive(Debug)]
pub struct OutgoingArchive {
    pieces: mpsc::Receiver<Bytes>,
    outcome: JoinHandle<Result<(), EngineError>>,
}

impl OutgoingArchive {
    /// `verb` is what it is for, for messages.
    pub(super) fn begin(
        verb: &'static str,
        container: Arc<Container>,
        files: Files,
        archive: ArchiveReader,
    ) -> Self {
        let (sender, pieces) = mpsc::channel(WAITING_PIECES);
        let outcome = tokio::spawn(async move { pass_on(verb, &container, &files, archive, &sender).await });
        Self { pieces, outcome }
    }

    /// The next bytes; `None` when the archive is whole.
    ///
    /// # Errors
    /// The archive broke off: what came before is half of one.
    pub async fn next(&mut self) -> Result<Option<Bytes>, EngineError> {
        if let Some(piece) = self.pieces.recv().await {
            return Ok(Some(piece));
        }
        let outcome = (&mut self.outcome).await;
        outcome.map_err(|error| EngineError::internal("cannot pass an archive on", &error))?.map(|()| None)
    }
}

async fn pass_on(
    verb: &'static str,
    container: &Container,
    files: &Files,
    mut archive: ArchiveReader,
    client: &mpsc::Sender<Bytes>,
) -> Result<(), EngineError> {
    let deadline = files.pace.deadline(PIECE_DEADLINE);
    loop {
        let piece = within(deadline, "the next piece of an archive", archive.next()).await;
        let Some(piece) = piece.map_err(|error| failed(verb, container, &error))? else { return Ok(()) };
        match timeout(STALL_DEADLINE, client.send(piece)).await {
            Ok(Ok(())) => {}
            // It has gone, and hears nothing of this.
            Ok(Err(_gone)) => return Ok(()),
            Err(_elapsed) => {
                let seconds = STALL_DEADLINE.as_secs();
                let message =
                    format!("{verb} of container {}: nobody took any of it for {seconds} s", container.id);
                return Err(EngineError::new(ErrorKind::Internal, message));
            }
        }
    }
}

pub(super) fn failed(verb: &str, container: &Container, error: &CallError) -> EngineError {
    EngineError::internal(&format!("cannot {verb} container {}", container.id), error)
}
