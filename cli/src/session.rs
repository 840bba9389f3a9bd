//! A user attached to a running process: keyboard to the process, its output to the screen, the screen's size to the
//! process, until the output ends or the user leaves.
//!
//! Knows streams, terminal and signals; what the process is and what its exit means is its caller's affair.

use std::convert::Infallible;
use std::io::{self, IsTerminal, Read};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::client::{Client, ClientError, Hijacked};
use crate::detach_keys::DetachKeys;
use crate::signals::{Resizes, Signal, Signals};
use crate::streams::{Framing, Output, StreamError};
use crate::terminal::{RawMode, Size};

const INPUT_CHUNK_BYTES: usize = 32 * 1024;
/// Chunks read ahead of the daemon: the rest stays with whoever writes to us.
const INPUT_QUEUE_LENGTH: usize = 2;
/// A process that is just starting may not have its terminal yet.
const RESIZE_ATTEMPTS: u32 = 10;
const RESIZE_PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug, Error)]
pub(crate) enum SessionError {
    #[error("cannot set the terminal to raw mode: {0}")]
    Terminal(#[source] io::Error),
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("interrupted by SIG{}", .0.name)]
    Interrupted(Signal),
}

/// How a session came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The process closed its output.
    Output,
    /// The user typed the detach keys; the process goes on.
    Detached,
}

/// Whose terminal follows ours.
#[derive(Clone, Copy)]
pub(crate) enum Process<'a> {
    Container(&'a str),
    Exec(&'a str),
}

/// Whether our standard input goes to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stdin {
    Attached,
    Closed,
}

/// Who acts on a signal that reaches us while the terminal is raw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnSignal {
    /// The caller forwards it to the container, whose end then ends the session.
    Forwarded,
    /// The session ends, so that the terminal is restored.
    End,
}

pub(crate) struct Session<'a> {
    pub(crate) client: &'a Client,
    pub(crate) process: Process<'a>,
    pub(crate) stream: Hijacked,
    pub(crate) tty: bool,
    pub(crate) stdin: Stdin,
    pub(crate) detach_keys: DetachKeys,
    pub(crate) on_signal: OnSignal,
}

impl Session<'_> {
    /// Serves the session. The terminal is as before when this returns, however it does.
    pub(crate) async fn run(self) -> Result<Ended, SessionError> {
        let typed = self.tty && self.stdin == Stdin::Attached && io::stdin().is_terminal();
        // Caught before the mode changes: there is no moment at which a signal leaves the terminal raw.
        let mut signals = (typed && self.on_signal == OnSignal::End).then(Signals::that_end_us);
        let _raw_mode = if typed { Some(RawMode::enter().map_err(SessionError::Terminal)?) } else { None };
        let ending = async {
            match &mut signals {
                Some(signals) => signals.next().await,
                None => std::future::pending().await,
            }
        };
        let framing = if self.tty { Framing::Raw } else { Framing::Multiplexed };
        let keys = self.tty.then_some(self.detach_keys);
        tokio::select! {
            ended = pump(self.stream, framing, self.stdin, keys) => ended,
            signal = ending => Err(SessionError::Interrupted(signal)),
            never = follow_size(self.client, self.process, self.tty) => match never {},
        }
    }
}

async fn pump(
    stream: Hijacked,
    framing: Framing,
    stdin: Stdin,
    keys: Option<DetachKeys>,
) -> Result<Ended, SessionError> {
    let (from_daemon, to_daemon) = tokio::io::split(stream);
    let output = Output::new(framing).copy_from(from_daemon);
    tokio::pin!(output);
    tokio::select! {
        result = &mut output => result?,
        detached = copy_input(to_daemon, stdin, keys) => {
            if detached {
                return Ok(Ended::Detached);
            }
            output.await?;
        }
    }
    Ok(Ended::Output)
}

/// Copies standard input until it ends, then closes our half of the connection. True: the user typed the detach keys.
async fn copy_input(
    mut to_daemon: impl AsyncWrite + Unpin,
    stdin: Stdin,
    mut keys: Option<DetachKeys>,
) -> bool {
    let mut chunks = match stdin {
        Stdin::Attached => Some(read_stdin()),
        Stdin::Closed => None,
    };
    let mut filtered = Vec::new();
    while let Some(chunk) = next_chunk(&mut chunks).await {
        filtered.clear();
        let detached = match &mut keys {
            Some(keys) => keys.filter(&chunk, &mut filtered),
            None => {
                filtered = chunk;
                false
            }
        };
        // A process that reads no more is no failure: its output and its exit tell the story.
        if to_daemon.write_all(&filtered).await.is_err() || detached {
            return detached;
        }
    }
    drop(to_daemon.shutdown().await);
    false
}

async fn next_chunk(chunks: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    chunks.as_mut()?.recv().await
}

/// Reads standard input on a thread of its own, because a read from a terminal cannot be called off: the thread ends
/// with the process.
fn read_stdin() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(INPUT_QUEUE_LENGTH);
    drop(std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut buffer = vec![0; INPUT_CHUNK_BYTES];
        loop {
            match stdin.read(&mut buffer) {
                Ok(0) => return,
                Ok(length) if sender.blocking_send(buffer[..length].to_vec()).is_err() => return,
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return,
                Ok(_) | Err(_) => {}
            }
        }
    }));
    receiver
}

/// Gives the process's terminal our terminal's size, now and whenever it changes.
async fn follow_size(client: &Client, process: Process<'_>, tty: bool) -> Infallible {
    if !tty || Size::of_stdout().is_none() {
        return std::future::pending().await;
    }
    let mut resizes = Resizes::watch();
    loop {
        if let Some(size) = Size::of_stdout() {
            resize_patiently(client, process, size).await;
        }
        resizes.next().await;
    }
}

async fn resize_patiently(client: &Client, process: Process<'_>, size: Size) {
    for attempt in 1..=RESIZE_ATTEMPTS {
        if resize(client, process, size).await.is_ok() {
            return;
        }
        tokio::time::sleep(RESIZE_PAUSE * attempt).await;
    }
}

async fn resize(client: &Client, process: Process<'_>, size: Size) -> Result<(), ClientError> {
    match process {
        Process::Container(id) => client.resize_container(id, size).await,
        Process::Exec(id) => client.resize_exec(id, size).await,
    }
}
