//! The verb WriteFiles: files from the host into a directory of a container, as its processes see it.

use berth_protocol::agent::write_piece::Piece;
use berth_protocol::agent::{ErrorCode, WriteFiles};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::read_archive::hold;
use super::view::{check_path, view};
use crate::agent::Agent;
use crate::failure::{During, Failure};
use crate::files::{View, Writer};

/// Pieces that wait for a slow disk; more, and the host waits.
const WAITING_PIECES: usize = 4;

/// Files that are being written. It stops when it goes.
pub(crate) struct Writing {
    pieces: mpsc::Sender<Piece>,
    outcome: JoinHandle<Result<(), Failure>>,
}

/// Finds the directory, and answers when pieces can come. The container stays until the writing has ended.
///
/// # Errors
/// NO_SUCH_CONTAINER, NO_SUCH_FILE, NOT_A_DIRECTORY, READ_ONLY, NO_SUCH_USER, INVALID_REQUEST.
pub(crate) async fn open(agent: &Agent, request: WriteFiles) -> Result<Writing, Failure> {
    check_path(&request.path)?;
    let held = hold(agent, &request.container_id).await?;
    let view = view(agent, &held.container)?;
    let (sender, pieces) = mpsc::channel(WAITING_PIECES);
    let (opened, opening) = oneshot::channel();
    let not_while_it_comes_or_goes = held.lock;
    let outcome = tokio::task::spawn_blocking(move || {
        let written = write(view, &request, pieces, opened);
        drop(not_while_it_comes_or_goes);
        written
    });
    match opening.await {
        Ok(()) => Ok(Writing { pieces: sender, outcome }),
        Err(_not_opened) => {
            let outcome = outcome.await.during(ErrorCode::Internal, || "open a directory")?;
            Err(outcome.err().unwrap_or_else(|| Failure::invalid("nothing was written")))
        }
    }
}

fn write(
    view: View,
    request: &WriteFiles,
    mut pieces: mpsc::Receiver<Piece>,
    opened: oneshot::Sender<()>,
) -> Result<(), Failure> {
    let mut writer = Writer::open(view, request)?;
    if opened.send(()).is_err() {
        return Ok(());
    }
    loop {
        match pieces.blocking_recv() {
            Some(Piece::Member(member)) => writer.member(&member)?,
            Some(Piece::Content(content)) => writer.content(&content)?,
            Some(Piece::End(_)) => return writer.finish(),
            None => return Err(Failure::invalid("the host went away in the middle")),
        }
    }
}

impl Writing {
    /// Passes a piece on. Nothing comes after it if it was the last, or if something failed.
    pub(crate) async fn push(&self, piece: Piece) -> bool {
        let is_last = matches!(piece, Piece::End(_));
        self.pieces.send(piece).await.is_ok() && !is_last
    }

    /// How it ended.
    ///
    /// # Errors
    /// That of the piece that could not be written.
    pub(crate) async fn outcome(self) -> Result<(), Failure> {
        self.outcome.await.during(ErrorCode::Internal, || "write files").flatten()
    }
}
