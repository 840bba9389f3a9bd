//! The agent inside a machine, as typed calls.
//!
//! One connection carries requests and replies, matched by id, so that a wait for an exit holds up nothing; every
//! stream of a process is a connection of its own ([`streams`]). The guest is hostile: what it sends is bounded by the
//! frame codec, and an answer of the wrong kind is an error like any other.

mod names;
mod sockets;
mod streams;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use berth_protocol::agent::reply::Result as ReplyResult;
use berth_protocol::agent::request::Operation;
use berth_protocol::agent::{self, ErrorCode, ExitStatus, ProcessStarted, Ready, Reply, Request};
use berth_protocol::frame;
use berth_protocol::ports::REQUEST_PORT;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

pub(crate) use names::NameConnection;
pub(crate) use sockets::SocketClients;
pub(crate) use streams::{
    ArchiveReader, ChangesReader, FileWriter, OutputReader, ShareChangeWriter, ShareWatchReader,
};

use crate::machine;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The agent's own answer.
    #[error("{message}")]
    Agent { code: ErrorCode, message: String },
    #[error("the agent does not answer any more")]
    Lost,
    #[error("the agent has not answered within {} s: waited for {waited_for}", .deadline.as_secs())]
    Deadline { waited_for: &'static str, deadline: Duration },
    #[error("the agent's answer makes no sense: {0}")]
    Nonsense(&'static str),
    #[error("cannot reach the agent")]
    Unreachable(#[source] io::Error),
    #[error(transparent)]
    Frame(#[from] frame::FrameError),
}

/// `None` once the connection is gone.
type Waiting = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<ReplyResult>>>>>;

/// There is one for each container that runs.
const REPLY_BUFFER_BYTES: usize = 512;
/// Requests that wait for a guest that does not read; more callers wait for their turn to ask.
const REQUEST_QUEUE: usize = 16;

/// A connection to one machine's agent.
#[derive(Debug)]
pub(crate) struct AgentClient {
    vsock_path: PathBuf,
    requests: mpsc::Sender<Vec<u8>>,
    waiting: Waiting,
    next_id: AtomicU64,
}

impl AgentClient {
    pub(crate) async fn connect(vsock_path: &Path) -> Result<Self, CallError> {
        let stream = machine::connect(vsock_path, REQUEST_PORT).await.map_err(CallError::Unreachable)?;
        let (reader, writer) = stream.into_split();
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        tokio::spawn(read_replies(reader, Arc::clone(&waiting)));
        let (requests, queued) = mpsc::channel(REQUEST_QUEUE);
        tokio::spawn(write_requests(writer, queued));
        Ok(Self { vsock_path: vsock_path.to_owned(), requests, waiting, next_id: AtomicU64::new(1) })
    }

    pub(crate) async fn ping(&self) -> Result<Ready, CallError> {
        match self.call(Operation::Ping(agent::Ping {})).await? {
            ReplyResult::Ready(ready) => Ok(ready),
            other => Err(unexpected(&other)),
        }
    }

    /// Gives the guest the time and randomness that it cannot have by itself.
    pub(crate) async fn configure(&self) -> Result<(), CallError> {
        let unix_time_ns = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        let entropy = rand::random::<[u8; 32]>().to_vec();
        self.done(Operation::Configure(agent::Configure { unix_time_ns, entropy })).await
    }

    pub(crate) async fn start_container(
        &self,
        request: agent::StartContainer,
    ) -> Result<ProcessStarted, CallError> {
        self.started(Operation::StartContainer(request)).await
    }

    /// Makes a container's files readable without starting anything.
    pub(crate) async fn mount_container(&self, request: agent::MountContainer) -> Result<(), CallError> {
        self.done(Operation::MountContainer(request)).await
    }

    /// Kills what is left of a container and unmounts its disks; also of one that is not there.
    pub(crate) async fn remove_container(&self, container_id: &str) -> Result<(), CallError> {
        let container_id = container_id.to_owned();
        self.done(Operation::RemoveContainer(agent::RemoveContainer { container_id })).await
    }

    pub(crate) async fn start_exec(&self, request: agent::StartExec) -> Result<ProcessStarted, CallError> {
        self.started(Operation::StartExec(request)).await
    }

    pub(crate) async fn signal(&self, process_id: &str, signal: u8) -> Result<(), CallError> {
        let signal = agent::Signal { process_id: process_id.into(), signal: signal.into() };
        self.done(Operation::Signal(signal)).await
    }

    pub(crate) async fn resize(&self, process_id: &str, rows: u16, columns: u16) -> Result<(), CallError> {
        let size = Some(agent::TerminalSize { rows: rows.into(), columns: columns.into() });
        let resize = agent::ResizeTerminal { process_id: process_id.into(), size };
        self.done(Operation::ResizeTerminal(resize)).await
    }

    /// Answers when the process has ended, however long that takes.
    pub(crate) async fn wait(&self, process_id: &str) -> Result<ExitStatus, CallError> {
        let wait = agent::WaitProcess { process_id: process_id.into() };
        match self.call(Operation::WaitProcess(wait)).await? {
            ReplyResult::ExitStatus(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    /// Answers when every process of the container stands still, or goes on.
    pub(crate) async fn freeze(&self, container_id: &str, frozen: bool) -> Result<(), CallError> {
        self.done(Operation::Freeze(agent::Freeze { container_id: container_id.into(), frozen })).await
    }

    /// New limits in place of all that the container has.
    pub(crate) async fn update_resources(
        &self,
        container_id: &str,
        resources: agent::Resources,
    ) -> Result<(), CallError> {
        let update = agent::UpdateResources { container_id: container_id.into(), resources: Some(resources) };
        self.done(Operation::UpdateResources(update)).await
    }

    /// What the files in the container's /etc say of names from now on.
    pub(crate) async fn update_names(&self, update: agent::UpdateNames) -> Result<(), CallError> {
        self.done(Operation::UpdateNames(update)).await
    }

    pub(crate) async fn statistics(&self, container_id: &str) -> Result<agent::Statistics, CallError> {
        let read = agent::ReadStatistics { container_id: container_id.into() };
        match self.call(Operation::ReadStatistics(read)).await? {
            ReplyResult::Statistics(statistics) => Ok(statistics),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) async fn process_table(&self, container_id: &str) -> Result<agent::ProcessTable, CallError> {
        let read = agent::ReadProcessTable { container_id: container_id.into() };
        match self.call(Operation::ReadProcessTable(read)).await? {
            ReplyResult::ProcessTable(table) => Ok(table),
            other => Err(unexpected(&other)),
        }
    }

    /// Gives a card of the machine to a container that runs.
    pub(crate) async fn connect_interface(&self, request: agent::ConnectInterface) -> Result<(), CallError> {
        self.done(Operation::ConnectInterface(request)).await
    }

    /// Takes a card back from a container that runs.
    pub(crate) async fn disconnect_interface(
        &self,
        request: agent::DisconnectInterface,
    ) -> Result<(), CallError> {
        self.done(Operation::DisconnectInterface(request)).await
    }

    /// What is at a path of a container whose files are there.
    pub(crate) async fn stat_path(
        &self,
        container_id: &str,
        path: &[u8],
    ) -> Result<agent::PathStat, CallError> {
        let stat = agent::StatPath { container_id: container_id.into(), path: path.into() };
        match self.call(Operation::StatPath(stat)).await? {
            ReplyResult::PathStat(stat) => Ok(stat),
            other => Err(unexpected(&other)),
        }
    }

    /// Writes everything back and unmounts; afterwards the machine may be ended without loss.
    pub(crate) async fn shut_down(&self) -> Result<(), CallError> {
        self.done(Operation::Shutdown(agent::Shutdown {})).await
    }

    async fn started(&self, operation: Operation) -> Result<ProcessStarted, CallError> {
        match self.call(operation).await? {
            ReplyResult::ProcessStarted(started) => Ok(started),
            other => Err(unexpected(&other)),
        }
    }

    async fn done(&self, operation: Operation) -> Result<(), CallError> {
        match self.call(operation).await? {
            ReplyResult::Done(agent::Done {}) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    async fn call(&self, operation: Operation) -> Result<ReplyResult, CallError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let frame = frame::encode(&Request { id, operation: Some(operation) })?;
        let (sender, reply) = oneshot::channel();
        lock(&self.waiting).as_mut().ok_or(CallError::Lost)?.insert(id, sender);
        let _forget = ForgetOnDrop { waiting: &self.waiting, id };
        self.requests.send(frame).await.map_err(|_gone| CallError::Lost)?;
        match reply.await.map_err(|_gone| CallError::Lost)? {
            ReplyResult::Error(error) => {
                let code = ErrorCode::try_from(error.code).unwrap_or(ErrorCode::Internal);
                Err(CallError::Agent { code, message: error.message })
            }
            result => Ok(result),
        }
    }
}

/// Waits for a guest's answer, and not longer than it may take.
pub(crate) async fn within<T>(
    deadline: Duration,
    waited_for: &'static str,
    answer: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    let answered = tokio::time::timeout(deadline, answer).await;
    answered.unwrap_or(Err(CallError::Deadline { waited_for, deadline }))
}

/// A caller that stops waiting leaves no entry behind.
struct ForgetOnDrop<'a> {
    waiting: &'a Waiting,
    id: u64,
}

impl Drop for ForgetOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = lock(self.waiting).as_mut() {
            waiting.remove(&self.id);
        }
    }
}

fn unexpected(result: &ReplyResult) -> CallError {
    CallError::Nonsense(match result {
        ReplyResult::Error(_) => "an error out of place",
        ReplyResult::Ready(_) => "ready out of place",
        ReplyResult::Done(_) => "done out of place",
        ReplyResult::ProcessStarted(_) => "a start out of place",
        ReplyResult::ExitStatus(_) => "an exit out of place",
        ReplyResult::ProcessList(_) => "a list out of place",
        ReplyResult::Statistics(_) => "statistics out of place",
        ReplyResult::ProcessTable(_) => "a process table out of place",
        ReplyResult::PathStat(_) => "a path out of place",
    })
}

/// Sends requests whole, whoever stops waiting for them: half a frame would make nonsense of all that follow.
async fn write_requests(mut writer: OwnedWriteHalf, mut queued: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = queued.recv().await {
        if writer.write_all(&frame).await.is_err() {
            return;
        }
    }
}

/// Hands replies to those who wait for them until the connection ends or the agent talks nonsense.
async fn read_replies(reader: OwnedReadHalf, waiting: Waiting) {
    // Most replies come with their lengths in one piece.
    let mut reader = BufReader::with_capacity(REPLY_BUFFER_BYTES, reader);
    while let Ok(reply) = read_frame::<Reply>(&mut reader).await {
        let sender = lock(&waiting).as_mut().and_then(|waiting| waiting.remove(&reply.id));
        if let (Some(sender), Some(result)) = (sender, reply.result) {
            // Whoever asked may have stopped waiting.
            let _unwanted: Result<(), ReplyResult> = sender.send(result);
        }
    }
    lock(&waiting).take();
}

async fn read_frame<M: prost::Message + Default>(reader: &mut (impl AsyncReadExt + Unpin)) -> io::Result<M> {
    let mut header = [0; frame::HEADER_BYTES];
    reader.read_exact(&mut header).await?;
    let mut payload = vec![0; frame::payload_length(header).map_err(io::Error::other)?];
    reader.read_exact(&mut payload).await?;
    frame::decode(&payload).map_err(io::Error::other)
}

fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<ReplyResult>>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
