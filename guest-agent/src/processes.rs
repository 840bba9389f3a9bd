//! The table of processes the host knows by name: first processes of containers, and execs in them.
//!
//! A process stays in the table after its end, with its status and what is left of its output, until its container is
//! removed (an exec: until the host has it all).

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use berth_protocol::agent::{ErrorCode, ExitStatus, ProcessEntry, TerminalSize};
use tokio::sync::watch;

use crate::failure::{During, Failure};
use crate::stage;
use crate::streams::{Endpoint, Input, Output};
use crate::sys;

/// Entries of the table, starting ones included. Far more than a container host starts; a bound for a wild caller.
const MAX_PROCESSES: usize = 4096;

/// Whether a process is its container's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    First,
    Exec,
}

/// One process.
pub(crate) struct Process {
    pub(crate) id: String,
    pub(crate) container_id: String,
    pub(crate) role: Role,
    /// In the machine's outermost PID namespace.
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) streams: ProcessStreams,
    /// Set once, when it has ended.
    pub(crate) exit: watch::Sender<Option<ExitStatus>>,
    /// Somebody has been told the status.
    pub(crate) status_delivered: Cell<bool>,
}

/// The streams it was started with.
#[derive(Default)]
pub(crate) struct ProcessStreams {
    pub(crate) terminal: Option<Rc<Endpoint>>,
    pub(crate) stdin: Option<Input>,
    pub(crate) stdout: Option<Rc<Output>>,
    pub(crate) stderr: Option<Rc<Output>>,
}

impl ProcessStreams {
    fn outputs(&self) -> impl Iterator<Item = &Rc<Output>> {
        self.stdout.iter().chain(self.stderr.iter())
    }
}

impl Process {
    pub(crate) fn has_ended(&self) -> bool {
        self.exit.borrow().is_some()
    }

    /// Waits for the end.
    pub(crate) async fn ended(&self) -> ExitStatus {
        let mut exit = self.exit.subscribe();
        let status = exit.wait_for(Option::is_some).await.expect("this process owns the sender");
        status.expect("waited for")
    }

    /// Records the end.
    pub(crate) fn finish(&self, status: ExitStatus) {
        if let Some(stdin) = &self.streams.stdin {
            stdin.close();
        }
        self.exit.send_replace(Some(status));
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// INVALID_REQUEST for a number that is no signal, NO_SUCH_PROCESS once the process has ended.
    pub(crate) fn signal(&self, number: u32) -> Result<(), Failure> {
        let signal = i32::try_from(number).ok().filter(|number| (1..=64).contains(number));
        let signal = signal.ok_or_else(|| Failure::invalid(format!("{number} is no signal")))?;
        if self.has_ended() {
            return Err(no_such_process(&self.id));
        }
        match sys::signal(&self.pidfd, signal) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Err(no_such_process(&self.id)),
            sent => sent.during(ErrorCode::Internal, || format!("signal {}", self.id)),
        }
    }

    /// Resizes the terminal.
    ///
    /// # Errors
    /// INVALID_REQUEST if it has none.
    pub(crate) fn resize(&self, size: TerminalSize) -> Result<(), Failure> {
        let terminal = self.streams.terminal.as_ref();
        let terminal = terminal.ok_or_else(|| Failure::invalid(format!("{} has no terminal", self.id)))?;
        stage::resize_terminal(terminal.descriptor().as_fd(), size)
            .during(ErrorCode::Internal, || format!("resize the terminal of {}", self.id))
    }

    /// Whether the host has everything there is to know of this exec.
    fn is_delivered(&self) -> bool {
        self.role == Role::Exec
            && self.has_ended()
            && self.status_delivered.get()
            && self.streams.outputs().all(|output| output.is_finished())
    }
}

/// All of them, by id.
#[derive(Default)]
pub(crate) struct Processes {
    known: RefCell<BTreeMap<String, Rc<Process>>>,
    starting: RefCell<BTreeSet<String>>,
}

impl Processes {
    /// Takes an id for a process that is about to start; it is free again when the reservation goes.
    ///
    /// # Errors
    /// ALREADY_EXISTS, or RESOURCE_LIMIT when the table is full.
    pub(crate) fn reserve(&self, id: &str) -> Result<Reservation<'_>, Failure> {
        if self.known.borrow().len() + self.starting.borrow().len() >= MAX_PROCESSES {
            self.evict_one()?;
        }
        let is_new =
            !self.known.borrow().contains_key(id) && self.starting.borrow_mut().insert(id.to_owned());
        if !is_new {
            return Err(Failure::new(ErrorCode::AlreadyExists, format!("process {id} exists already")));
        }
        Ok(Reservation { processes: self, id: id.to_owned() })
    }

    /// # Errors
    /// NO_SUCH_PROCESS.
    pub(crate) fn get(&self, id: &str) -> Result<Rc<Process>, Failure> {
        self.known.borrow().get(id).cloned().ok_or_else(|| no_such_process(id))
    }

    /// Those of one container.
    pub(crate) fn of_container(&self, container_id: &str) -> Vec<Rc<Process>> {
        let known = self.known.borrow();
        known.values().filter(|process| process.container_id == container_id).cloned().collect()
    }

    /// For a daemon that finds the machine again; every container's if none is named.
    pub(crate) fn list(&self, container_id: &str) -> Vec<ProcessEntry> {
        let known = self.known.borrow();
        let wanted = |process: &&Rc<Process>| container_id.is_empty() || process.container_id == container_id;
        let entry = |process: &Rc<Process>| ProcessEntry {
            process_id: process.id.clone(),
            pid: process.pid,
            running: !process.has_ended(),
        };
        known.values().filter(wanted).map(entry).collect()
    }

    /// The host has been told the status of a process.
    pub(crate) fn status_delivered(&self, id: &str) {
        if let Ok(process) = self.get(id) {
            process.status_delivered.set(true);
            self.forget_if_delivered(&process);
        }
    }

    /// Forgets an exec of which the host has everything.
    pub(crate) fn forget_if_delivered(&self, process: &Process) {
        if process.is_delivered() {
            self.known.borrow_mut().remove(&process.id);
        }
    }

    /// Forgets what belongs to a container that is gone.
    pub(crate) fn forget_container(&self, container_id: &str) {
        for process in self.of_container(container_id) {
            process.streams.outputs().for_each(|output| output.close());
            self.known.borrow_mut().remove(&process.id);
        }
    }

    /// Makes room: an ended exec whose status was asked for, but whose output nobody wanted.
    fn evict_one(&self) -> Result<(), Failure> {
        let stale = |process: &&Rc<Process>| {
            process.role == Role::Exec && process.has_ended() && process.status_delivered.get()
        };
        let id = self.known.borrow().values().find(stale).map(|process| process.id.clone());
        let id = id.ok_or_else(|| {
            Failure::new(ErrorCode::ResourceLimit, format!("more than {MAX_PROCESSES} processes"))
        })?;
        if let Some(process) = self.known.borrow_mut().remove(&id) {
            process.streams.outputs().for_each(|output| output.close());
        }
        Ok(())
    }
}

/// An id that nobody else can take.
pub(crate) struct Reservation<'a> {
    processes: &'a Processes,
    id: String,
}

impl Reservation<'_> {
    /// The process has started.
    pub(crate) fn fill(self, process: Rc<Process>) {
        self.processes.known.borrow_mut().insert(self.id.clone(), process);
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.processes.starting.borrow_mut().remove(&self.id);
    }
}

fn no_such_process(id: &str) -> Failure {
    Failure::new(ErrorCode::NoSuchProcess, format!("no process {id} is running here"))
}
