//! The verb ReadArchive: a container's files as a tar stream, whether something runs in it or not.
//!
//! Everything is read through the agent's own mount of the container's root: there is what lies on the disks and nothing
//! of what the container has mounted, and no process of it can change where that is. A path is read as the container's
//! processes see it.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use berth_protocol::agent::{ErrorCode, PathStat, ReadArchive};
use rustix::fs::{Stat, fstat};
use tokio::sync::{OwnedRwLockReadGuard, mpsc};
use tokio::task::JoinHandle;

use super::disks::Disks;
use super::view::{check_path, not_found, view};
use super::{Container, no_such_container};
use crate::agent::Agent;
use crate::failure::{During, Failure};
use crate::{archive, files};

/// A piece goes to the host as one frame.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces that wait for a slow host; more, and the reading waits.
const WAITING_PIECES: usize = 4;

/// An archive that is being read. It ends its reading when it goes.
pub(crate) struct Archive {
    pieces: mpsc::Receiver<Vec<u8>>,
    outcome: JoinHandle<io::Result<()>>,
    /// Of what begins it, if that has a path.
    pub(crate) stat: Option<PathStat>,
}

/// Begins to read. The container stays until the reading has ended.
///
/// # Errors
/// NO_SUCH_CONTAINER, NO_SUCH_FILE, NOT_A_DIRECTORY, INVALID_REQUEST for what is no path.
pub(crate) async fn open(agent: &Agent, request: &ReadArchive) -> Result<Archive, Failure> {
    check_path(&request.path)?;
    match &request.name {
        Some(name) => open_path(agent, request, name).await,
        None if request.path == b"/" => {
            Archive::read(agent, &request.container_id, |disks, target| {
                let root = std::fs::File::open(disks.root())?;
                archive::write_tree(root.as_fd(), disks.ids(), target)
            })
            .await
        }
        None => Err(Failure::invalid("a path without a name: only / has none")),
    }
}

async fn open_path(agent: &Agent, request: &ReadArchive, name: &[u8]) -> Result<Archive, Failure> {
    let held = hold(agent, &request.container_id).await?;
    let view = view(agent, &held.container)?;
    let path = request.path.clone();
    let found = tokio::task::spawn_blocking(move || {
        let file = view.find(&path);
        let found = file.and_then(|file| files::stat(&view, &path, &file).map(|stat| (file, stat)));
        found.map(|(file, stat)| (view, file, stat)).map_err(|errno| not_found("lstat", &path, errno))
    });
    let (view, file, stat) = found.await.during(ErrorCode::Internal, || "look at a path")??;
    let (name, ids) = (name.to_vec(), held.container.disks.ids().clone());
    let mut archive = Archive::begin(held.lock, move |target| {
        let began_on = fstat(&file)?.st_dev;
        let enters =
            |directory: &OwnedFd, stat: &Stat| view.copies_what_is_in(directory, stat.st_dev, began_on);
        archive::write_named(&file, &name, &ids, enters, target)
    });
    archive.stat = Some(stat);
    Ok(archive)
}

/// A container that stays as it is meanwhile.
pub(super) struct Held {
    pub(super) container: Rc<Container>,
    pub(super) lock: OwnedRwLockReadGuard<()>,
}

/// # Errors
/// NO_SUCH_CONTAINER.
pub(super) async fn hold(agent: &Agent, id: &str) -> Result<Held, Failure> {
    let container = agent.containers.get(id).ok_or_else(|| no_such_container(id))?;
    let lock = Arc::clone(&container.lifecycle).read_owned().await;
    if agent.containers.get(id).is_none() {
        return Err(no_such_container(id));
    }
    Ok(Held { container, lock })
}

impl Archive {
    /// Begins to read something from a container's disks, off the threads that answer requests.
    pub(super) async fn read(
        agent: &Agent,
        id: &str,
        write: impl FnOnce(&Disks, &mut Pieces) -> io::Result<()> + Send + 'static,
    ) -> Result<Self, Failure> {
        let held = hold(agent, id).await?;
        let disks = held.container.disks.clone();
        Ok(Self::begin(held.lock, move |target| write(&disks, target)))
    }

    fn begin(
        not_while_it_comes_or_goes: OwnedRwLockReadGuard<()>,
        write: impl FnOnce(&mut Pieces) -> io::Result<()> + Send + 'static,
    ) -> Self {
        let (sender, pieces) = mpsc::channel(WAITING_PIECES);
        let outcome = tokio::task::spawn_blocking(move || {
            let written = write(&mut Pieces { sender, waiting: Vec::new() });
            drop(not_while_it_comes_or_goes);
            written
        });
        Self { pieces, outcome, stat: None }
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
