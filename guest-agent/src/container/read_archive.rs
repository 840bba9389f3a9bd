//! The verb ReadArchive: a container's files as a tar stream, whether something runs in it or not.
//!
//! Read through the agent's own mount of the container's root: there is what lies on the disks and nothing of what the
//! container has mounted, its standard file systems and its volumes, and no process of it can change where that is.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use berth_protocol::agent::{ErrorCode, ReadArchive};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::disks::Disks;
use super::no_such_container;
use crate::agent::Agent;
use crate::archive;
use crate::failure::{During, Failure};

/// A piece goes to the host as one frame.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces that wait for a slow host; more, and the reading waits.
const WAITING_PIECES: usize = 4;

/// An archive that is being read. It ends its reading when it goes.
pub(crate) struct Archive {
    pieces: mpsc::Receiver<Vec<u8>>,
    outcome: JoinHandle<io::Result<()>>,
}

/// Begins to read. The container stays until the reading has ended.
///
/// # Errors
/// NO_SUCH_CONTAINER, INVALID_REQUEST for a path that cannot be read yet.
pub(crate) async fn open(agent: &Agent, request: &ReadArchive) -> Result<Archive, Failure> {
    if request.path != b"/" || request.name.is_some() {
        let path = String::from_utf8_lossy(&request.path);
        return Err(Failure::invalid(format!("{path:?} cannot be read: only / can, yet")));
    }
    Archive::read(agent, &request.container_id, |disks, target| {
        let root = std::fs::File::open(disks.root())?;
        archive::write_tree(root.as_fd(), disks.ids(), target)
    })
    .await
}

impl Archive {
    /// Begins to read something from a container's disks, off the threads that answer requests.
    pub(super) async fn read(
        agent: &Agent,
        id: &str,
        write: impl FnOnce(&Disks, &mut Pieces) -> io::Result<()> + Send + 'static,
    ) -> Result<Self, Failure> {
        let container = agent.containers.get(id).ok_or_else(|| no_such_container(id))?;
        let not_while_it_comes_or_goes = Arc::clone(&container.lifecycle).read_owned().await;
        if agent.containers.get(id).is_none() {
            return Err(no_such_container(id));
        }
        let disks = container.disks.clone();
        let (sender, pieces) = mpsc::channel(WAITING_PIECES);
        let outcome = tokio::task::spawn_blocking(move || {
            let written = write(&disks, &mut Pieces { sender, waiting: Vec::new() });
            drop(not_while_it_comes_or_goes);
            written
        });
        Ok(Self { pieces, outcome })
    }

    /// The next bytes; `None` when that was all of it.
    ///
    /// # Errors
    /// INTERNAL naming what could not be read.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        if let Some(piece) = self.pieces.recv().await {
            return Ok(Some(piece));
        }
        let outcome = (&mut self.outcome).await.map_err(io::Error::other).flatten();
        outcome.during(ErrorCode::Internal, || "read the container's files").map(|()| None)
    }
}

/// Collects bytes to pieces. What is written at once is in one piece.
pub(super) struct Pieces {
    sender: mpsc::Sender<Vec<u8>>,
    waiting: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.waiting);
        self.sender.blocking_send(piece).map_err(|_gone| io::ErrorKind::BrokenPipe.into())
    }
}
