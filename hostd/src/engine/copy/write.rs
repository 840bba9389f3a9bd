//! An archive's files into a directory of a container.

use std::io::Read;

use berth_protocol::agent;
use berth_protocol::agent::write_piece::Piece;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::members::{self, UnreadableArchive};
use super::stat::failed;
use super::{ContainerPath, reach};
use crate::agent_client::{CallError, FileWriter, within};
use crate::engine::Engine;
use crate::engine::container::{Command, Container};
use crate::engine::error::{EngineError, ErrorKind, chain};
use crate::engine::files::Files;
use crate::engine::outgoing::{PIECE_DEADLINE, STALL_DEADLINE};

/// Pieces of some 256 KiB that wait for the agent; more, and the client waits.
const WAITING_PIECES: usize = 4;

/// Where an archive's files come to lie, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyInto {
    /// Of a directory that is there.
    pub path: ContainerPath,
    /// A directory is not replaced by something else, nor something else by a directory.
    pub keep_kinds: bool,
    /// Everything belongs to the container's user, in place of the archive's owners.
    pub owned_by_user: bool,
}

/// Why a copy ended early.
enum Failure {
    Archive(UnreadableArchive),
    Agent(CallError),
    Stalled,
}

impl Engine {
    /// Writes an archive's files into a container, whether it runs or not. The archive may be compressed.
    ///
    /// # Errors
    /// No such container or directory, a root file system that is read-only, or an archive that cannot be read or
    /// written as it is: what came before stays.
    pub async fn write_files(
        &self,
        name: &str,
        into: &CopyInto,
        archive: impl Read + Send + 'static,
    ) -> Result<(), EngineError> {
        let container = self.find(name)?;
        let files = container.command(|reply| Command::OpenFiles { reply }).await??;
        reach::check(&container, &files, &into.path)?;
        match write(&container, &files, into, archive).await {
            Ok(()) => {
                container.publish("extract-to-dir", []);
                Ok(())
            }
            Err(Failure::Archive(error)) => {
                Err(EngineError::invalid(format!("Error processing tar file: {}", chain(&error))))
            }
            Err(Failure::Agent(error)) => Err(failed(&container, name, &into.path, &error)),
            Err(Failure::Stalled) => {
                let seconds = STALL_DEADLINE.as_secs();
                let message =
                    format!("copy to container {}: nothing of it came for {seconds} s", container.id);
                Err(EngineError::new(ErrorKind::Internal, message))
            }
        }
    }
}

async fn write(
    container: &Container,
    files: &Files,
    into: &CopyInto,
    archive: impl Read + Send + 'static,
) -> Result<(), Failure> {
    let deadline = files.pace.deadline(PIECE_DEADLINE);
    let opening = files.agent.write_files(request(container, into));
    let writer = within(deadline, "a directory to write to", opening).await.map_err(Failure::Agent)?;
    let (sender, pieces) = mpsc::channel(WAITING_PIECES);
    let reading = tokio::task::spawn_blocking(move || members::send(archive, &sender));
    let writer = pass_on(writer, pieces, deadline).await?;
    match reading.await {
        Ok(read) => read.map_err(Failure::Archive)?,
        Err(panicked) => return Err(Failure::Archive(UnreadableArchive::Panicked(panicked))),
    }
    within(deadline, "files to be written", writer.finish()).await.map_err(Failure::Agent)
}

fn request(container: &Container, into: &CopyInto) -> agent::WriteFiles {
    let spec = container.spec();
    let user = spec.user.clone().filter(|_| into.owned_by_user);
    agent::WriteFiles {
        container_id: container.id.to_string(),
        path: into.path.as_bytes().to_vec(),
        keep_kinds: into.keep_kinds,
        owner: user.unwrap_or_default(),
        readonly_rootfs: spec.readonly_rootfs,
    }
}

/// Until no more comes, for whatever reason.
async fn pass_on(
    mut writer: FileWriter,
    mut pieces: mpsc::Receiver<Piece>,
    deadline: std::time::Duration,
) -> Result<FileWriter, Failure> {
    loop {
        let piece = timeout(STALL_DEADLINE, pieces.recv()).await.map_err(|_elapsed| Failure::Stalled)?;
        let Some(piece) = piece else { return Ok(writer) };
        within(deadline, "files to be written", writer.send(piece)).await.map_err(Failure::Agent)?;
    }
}
