//! The control socket: takes requests from whoever may open the state directory, and answers them in order.
//!
//! A thread for each connection, few at a time; a client that stops reading or sends nonsense hurts itself only.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::control::{MAX_LINE_BYTES, MachineExit, Reply, Request, RunState, Status};
use crate::device_set::DeviceHandles;
use crate::machine::Machine;

/// Connections at the same time: the daemon's, a second daemon's during an upgrade, a person's.
const MAX_CONNECTIONS: usize = 16;

/// What requests act on. The machine comes later than the socket.
pub(crate) struct Controlled {
    begun: Instant,
    devices: DeviceHandles,
    exits: Mutex<Sender<MachineExit>>,
    started: OnceLock<Started>,
    paused: Mutex<bool>,
}

struct Started {
    machine: Machine,
    after: Duration,
}

impl Controlled {
    /// `begun` is when the process started; a request to shut down is sent to `exits`.
    pub(crate) fn new(begun: Instant, devices: DeviceHandles, exits: Sender<MachineExit>) -> Self {
        let (started, paused) = (OnceLock::new(), Mutex::new(false));
        Self { begun, devices, exits: Mutex::new(exits), started, paused }
    }

    /// The machine runs from now on.
    pub(crate) fn started(&self, machine: Machine) -> &Machine {
        &self.started.get_or_init(|| Started { machine, after: self.begun.elapsed() }).machine
    }

    fn answer(&self, request: &Request) -> Reply {
        match request {
            Request::Status => Reply::Status(self.status()),
            Request::Counters => Reply::Counters(self.devices.counters()),
            Request::BindDisk { disk, extents } => match self.devices.disks.get(*disk) {
                Some(bound) => done(bound.bind(extents)),
                None => error(format!("there is no disk {disk}")),
            },
            Request::Pause => self.set_paused(true),
            Request::Resume => self.set_paused(false),
            Request::ShutDown => Reply::Done,
        }
    }

    fn status(&self) -> Status {
        let paused = *self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        let state = match (self.started.get(), paused) {
            (None, _) => RunState::Booting,
            (Some(_), false) => RunState::Running,
            (Some(_), true) => RunState::Paused,
        };
        let after = self.started.get().map_or(Duration::ZERO, |started| started.after);
        let started_after_us = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        Status { state, pid: std::process::id(), started_after_us }
    }

    fn set_paused(&self, pause: bool) -> Reply {
        let Some(Started { machine, .. }) = self.started.get() else {
            return error("the machine has not started yet");
        };
        let mut paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        let reply = done(if pause { machine.pause() } else { machine.resume() });
        if reply == Reply::Done {
            *paused = pause;
        }
        reply
    }

    fn shut_down(&self) {
        // If nobody receives, the process is ending already.
        self.exits.lock().unwrap_or_else(PoisonError::into_inner).send(MachineExit::ShutDown).ok();
    }
}

fn done<E: std::fmt::Display>(result: Result<(), E>) -> Reply {
    result.map_or_else(error, |()| Reply::Done)
}

fn error(message: impl std::fmt::Display) -> Reply {
    Reply::Error { message: message.to_string() }
}

/// Serves the control socket at `path` from now on.
///
/// # Errors
/// The socket cannot be bound, or there is no thread for it.
pub(crate) fn serve(path: &Path, controlled: Arc<Controlled>) -> io::Result<()> {
    let listener = UnixListener::bind(path)?;
    let connections = Arc::new(AtomicUsize::new(0));
    let accept = move || {
        for stream in listener.incoming().flatten() {
            let place = Place::take(&connections);
            let controlled = controlled.clone();
            if connections.load(Ordering::Relaxed) > MAX_CONNECTIONS {
                continue;
            }
            let converse = move || {
                let _place = place;
                // A client that went away is no concern of ours.
                converse(&stream, &controlled).ok();
            };
            // Without a thread the connection is closed, which is an answer.
            drop(std::thread::Builder::new().name("control".into()).spawn(converse));
        }
    };
    std::thread::Builder::new().name("control-accept".into()).spawn(accept)?;
    Ok(())
}

/// Counts a connection for as long as it lives.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn converse(mut stream: &UnixStream, controlled: &Controlled) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        reader.by_ref().take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', &mut line)?;
        if line.is_empty() || line.len() > MAX_LINE_BYTES {
            return Ok(());
        }
        let request = serde_json::from_slice::<Request>(&line);
        let reply = request.as_ref().map_or_else(error, |request| controlled.answer(request));
        let mut bytes = serde_json::to_vec(&reply).map_err(io::Error::other)?;
        bytes.push(b'\n');
        let sent = stream.write_all(&bytes);
        if matches!(request, Ok(Request::ShutDown)) {
            controlled.shut_down();
        }
        sent?;
    }
}
