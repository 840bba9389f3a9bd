//! The pumps between a process in a machine and its hub: output into the log and to clients, clients' input in.

use std::sync::{Arc, Mutex, PoisonError};

use berth_protocol::agent::StreamKind;
use bytes::{Buf, Bytes};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::hub::{Hub, Input};
use crate::agent_client::{AgentClient, OutputReader};
use crate::logs::{LogWriter, OutputStream, Rest};

/// The log of a container that runs, if its output is kept.
pub(super) type SharedLog = Arc<Mutex<LogWriter>>;

/// A process's streams, connected.
pub(super) struct Pumps {
    outputs: Vec<JoinHandle<()>>,
    stdin: Option<JoinHandle<()>>,
}

/// Which streams a process has, and where they go.
pub(super) struct Plumbing {
    pub(super) agent: Arc<AgentClient>,
    pub(super) process_id: String,
    /// One output instead of two.
    pub(super) terminal: bool,
    pub(super) stdin: Option<EndOfInput>,
    pub(super) hub: Arc<Hub>,
    pub(super) log: Option<SharedLog>,
}

/// What the end of a client's input does to the process's stdin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndOfInput {
    Closes,
    /// Other clients may come.
    KeepsOpen,
}

impl Plumbing {
    pub(super) fn connect(self) -> Pumps {
        let streams: &[OutputStream] = if self.terminal {
            &[OutputStream::Stdout]
        } else {
            &[OutputStream::Stdout, OutputStream::Stderr]
        };
        let outputs = streams.iter().map(|stream| {
            let pump = OutputPump { stream: *stream, hub: Arc::clone(&self.hub), log: self.log.clone() };
            tokio::spawn(pump.run(Arc::clone(&self.agent), self.process_id.clone()))
        });
        let outputs = outputs.collect();
        let receiver = self.stdin.and_then(|end| Some((end, self.hub.take_stdin()?)));
        let stdin = receiver
            .map(|(end, receiver)| tokio::spawn(pump_stdin(self.agent, self.process_id, receiver, end)));
        Pumps { outputs, stdin }
    }
}

impl Pumps {
    /// Waits for the end of all output. Cancel-safe; the pumps go on if it is dropped.
    pub(super) async fn drained(&mut self) {
        for output in &mut self.outputs {
            if !output.is_finished() {
                // A pump that panicked has said so in the log; its output is at its end.
                let _panicked = output.await;
            }
        }
    }

    /// Ends what is still running.
    pub(super) fn stop(self) {
        self.outputs.iter().chain(&self.stdin).for_each(JoinHandle::abort);
    }
}

struct OutputPump {
    stream: OutputStream,
    hub: Arc<Hub>,
    log: Option<SharedLog>,
}

impl OutputPump {
    async fn run(self, agent: Arc<AgentClient>, process_id: String) {
        let (kind, offset) = match self.stream {
            OutputStream::Stdout => (StreamKind::Stdout, self.logged_bytes()),
            OutputStream::Stderr => (StreamKind::Stderr, self.logged_bytes()),
        };
        let outcome = match agent.output(&process_id, kind, offset).await {
            Ok(reader) => self.pump(reader).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = outcome {
            tracing::warn!(process = process_id, stream = ?self.stream, error, "output ends early");
        }
    }

    fn logged_bytes(&self) -> u64 {
        self.log.as_ref().map_or(0, |log| lock(log).offset(self.stream))
    }

    /// Logs first, then tells the agent that it may forget, then shows it to clients: a crash in between repeats
    /// nothing in the log and loses nothing.
    async fn pump(&self, mut reader: OutputReader) -> std::io::Result<()> {
        // Of a line that has not ended.
        let mut pending = Bytes::new();
        while let Some(bytes) = reader.read().await? {
            if self.log.is_some() {
                let whole =
                    if pending.is_empty() { bytes.clone() } else { [pending, bytes.clone()].concat().into() };
                pending = self.append(whole, Rest::Keep).await?;
            }
            // The machine may be gone while its last bytes are still read.
            let _gone = reader.acknowledge(reader.offset() - pending.len() as u64).await;
            self.hub.deliver(self.stream, &bytes).await;
        }
        self.append(pending, Rest::Flush).await?;
        let _gone = reader.acknowledge(reader.offset()).await;
        Ok(())
    }

    /// Moves what makes whole records into the log; gives back the rest.
    async fn append(&self, mut pending: Bytes, rest: Rest) -> std::io::Result<Bytes> {
        let Some(log) = self.log.clone() else { return Ok(pending) };
        let stream = self.stream;
        let appended = tokio::task::spawn_blocking(move || {
            let taken = lock(&log).append(stream, &pending, rest)?;
            pending.advance(taken);
            Ok(pending)
        });
        appended.await.map_err(std::io::Error::other)?
    }
}

/// Carries clients' input to a process until the process or its machine is gone.
async fn pump_stdin(
    agent: Arc<AgentClient>,
    process_id: String,
    mut input: mpsc::Receiver<Input>,
    end: EndOfInput,
) {
    // A process that has ended already has no stdin; that is no fault.
    let Ok(mut stdin) = agent.input(&process_id).await else { return };
    while let Some(input) = input.recv().await {
        let written = match (input, end) {
            (Input::Bytes(bytes), _) => stdin.write(&bytes).await,
            (Input::End, EndOfInput::KeepsOpen) => continue,
            (Input::End, EndOfInput::Closes) => {
                let _gone = stdin.end().await;
                return;
            }
        };
        if written.is_err() {
            return;
        }
    }
}

pub(super) fn lock(log: &SharedLog) -> std::sync::MutexGuard<'_, LogWriter> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}
