//! Connecting clients to a container's streams, live and from its log.

use std::sync::Arc;
use std::time::Duration;

use berth_protocol::agent::ErrorCode;
use tokio::sync::mpsc;

use super::Engine;
use super::container::{Container, Live};
use super::error::EngineError;
use super::hub::{Attachment, Output, Wanted};
use super::identity::ContainerId;
use super::log::not_kept;
use super::spec::TerminalSize;
use crate::agent_client::{CallError, within};
use crate::logs::{LogQuery, LogRecord, read_logs};

/// One system call of the agent's, on a host that many others load.
const RESIZE_DEADLINE: Duration = Duration::from_secs(20);

/// Which streams, and whether what was printed before, what is yet to come, or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttachOptions {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub logs: bool,
    pub stream: bool,
}

/// What is left to be said when a client detaches.
#[derive(Debug)]
pub struct DetachNotice {
    pub(super) container: Arc<Container>,
    /// Nothing for the container's first process.
    pub(super) exec_id: Option<String>,
}

impl DetachNotice {
    /// The event.
    pub fn publish(self) {
        match self.exec_id {
            None => self.container.publish("detach", []),
            Some(exec_id) => self.container.publish("exec_detach", [("execID", exec_id)]),
        }
    }
}

/// A log on its way to a client.
#[derive(Debug)]
pub struct Logs {
    pub terminal: bool,
    /// In batches.
    pub records: mpsc::Receiver<Vec<LogRecord>>,
}

impl Engine {
    /// Connects to a container's first process, the one that runs or the next one.
    ///
    /// # Errors
    /// No such container.
    pub fn attach(&self, name: &str, what: AttachOptions) -> Result<Attachment, EngineError> {
        let container = self.find(name)?;
        if container.current().state.is_restarting() {
            return Err(container.is_restarting());
        }
        if container.current().state.is_paused() {
            let id = &container.id;
            let message = format!("container {id} is paused, unpause the container before attach");
            return Err(EngineError::conflict(message));
        }
        container.publish("attach", []);
        let stdin = what.stdin && what.stream && container.spec().stdio.open_stdin;
        let live = what
            .stream
            .then(|| container.hub.attach(Wanted { stdin, stdout: what.stdout, stderr: what.stderr }));
        let notice = || DetachNotice { container: Arc::clone(&container), exec_id: None };
        if !what.logs {
            let ended = || Attachment {
                terminal: container.spec().stdio.terminal,
                output: mpsc::channel(1).1,
                input: None,
                notice: None,
            };
            return Ok(live.map_or_else(ended, |live| Attachment { notice: Some(notice()), ..live }));
        }
        let query = LogQuery { stdout: what.stdout, stderr: what.stderr, ..LogQuery::default() };
        let logs = self.logs(name, query)?;
        let (input, live) = live.map_or((None, None), |live| (live.input, Some(live.output)));
        let notice = live.is_some().then(notice);
        Ok(Attachment { terminal: logs.terminal, output: replay(logs.records, live), input, notice })
    }

    /// What clients type, instead of the process.
    #[cfg(test)]
    pub(crate) fn stdin_of(&self, name: &str) -> Option<mpsc::Receiver<super::Input>> {
        self.find(name).ok()?.hub.take_stdin()
    }

    /// Reads a container's log.
    ///
    /// # Errors
    /// No such container, or one whose output is not kept.
    pub fn logs(&self, name: &str, query: LogQuery) -> Result<Logs, EngineError> {
        let container = self.find(name)?;
        let live = container.current().live;
        // Of a container that does not run nothing more is to come: a channel without a sender says so.
        let grown = live.map_or_else(|| tokio::sync::watch::channel(0).1, |live| live.log_grown.clone());
        let log = container.log.clone().ok_or_else(not_kept)?;
        let records = read_logs(log, query, grown);
        Ok(Logs { terminal: container.spec().stdio.terminal, records })
    }

    /// Tells the container's terminal how large its window is.
    ///
    /// # Errors
    /// No such container, or one that does not run.
    pub async fn resize(&self, name: &str, size: TerminalSize) -> Result<(), EngineError> {
        let container = self.find(name)?;
        let live = container.live().await?;
        // As with Docker, what has no terminal has the size that is asked for.
        if container.spec().stdio.terminal {
            resize_terminal(&container.id, &live, container.id.as_str(), size).await?;
        }
        let (height, width) = (size.rows.to_string(), size.columns.to_string());
        container.publish("resize", [("height", height), ("width", width)]);
        Ok(())
    }
}

/// Tells a process's terminal how large its window is.
pub(super) async fn resize_terminal(
    container_id: &ContainerId,
    live: &Live,
    process_id: &str,
    size: TerminalSize,
) -> Result<(), EngineError> {
    let resizing = live.agent.resize(process_id, size.rows, size.columns);
    let resized = within(live.pace.deadline(RESIZE_DEADLINE), "the terminal's new size", resizing).await;
    resized.map_err(|error| match error {
        CallError::Lost | CallError::Agent { code: ErrorCode::NoSuchProcess, .. } => {
            EngineError::conflict(format!("container {container_id} is not running"))
        }
        error => EngineError::internal("cannot resize the terminal", &error),
    })
}

/// What was printed before, then what comes.
fn replay(
    mut records: mpsc::Receiver<Vec<LogRecord>>,
    live: Option<mpsc::Receiver<Output>>,
) -> mpsc::Receiver<Output> {
    let (sender, output) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(batch) = records.recv().await {
            for record in batch {
                let piece = Output { stream: record.stream, bytes: record.bytes };
                if sender.send(piece).await.is_err() {
                    return;
                }
            }
        }
        let Some(mut live) = live else { return };
        while let Some(piece) = live.recv().await {
            if sender.send(piece).await.is_err() {
                return;
            }
        }
    });
    output
}
