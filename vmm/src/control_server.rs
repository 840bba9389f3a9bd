//! The control socket: takes requests from whoever may open the state directory, and answers them in order.
//!
//! A thread for each connection, few at a time; a client that stops reading or sends nonsense hurts itself only.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::config::{InvalidConfig, validate_tap};
use crate::control::{Counters, MAX_LINE_BYTES, MachineExit, Reply, Request, RunState, Status};
use crate::device_set::DeviceHandles;
use crate::handover::receive_with_descriptors;
use crate::host_files::HOST_FILES;
use crate::jail::{self, ThreadKind};
use crate::kvm_machine::Tracking;
use crate::machine::Machine;
use crate::state_dir::host_pid;
use crate::virtio::{BindError, BindingError, CardHandle, Disk};

/// Connections at the same time: the daemon's, a second daemon's during an upgrade, a person's.
const MAX_CONNECTIONS: usize = 16;

/// Descriptors that a connection sent and no request took: more than one request can name in a line.
const MAX_UNTAKEN_DESCRIPTORS: usize = 256;

/// What requests act on. The machine comes later than the socket.
pub(crate) struct Controlled {
    begun: Instant,
    devices: DeviceHandles,
    exits: Mutex<Sender<MachineExit>>,
    started: OnceLock<Started>,
    paused: Mutex<bool>,
    /// Held by who pauses, resumes or saves: one at a time. Saving takes as long as a disk does.
    turn: Mutex<()>,
}

struct Started {
    machine: Machine,
    after: Duration,
}

impl Controlled {
    /// `begun` is when the process started; a request to shut down is sent to `exits`.
    pub(crate) fn new(begun: Instant, devices: DeviceHandles, exits: Sender<MachineExit>) -> Self {
        let (started, paused, turn) = (OnceLock::new(), Mutex::new(false), Mutex::new(()));
        Self { begun, devices, exits: Mutex::new(exits), started, paused, turn }
    }

    /// The machine runs from now on, or stands at its first instruction.
    pub(crate) fn started(&self, machine: Machine, is_paused: bool) -> &Machine {
        *self.paused.lock().unwrap_or_else(PoisonError::into_inner) = is_paused;
        &self.started.get_or_init(|| Started { machine, after: self.begun.elapsed() }).machine
    }

    fn answer(&self, request: &Request) -> Reply {
        match request {
            Request::Status => Reply::Status(self.status()),
            Request::Counters => Reply::Counters(Box::new(self.counters())),
            Request::BindDisk { disk, start_bytes, access, extents } => {
                self.on_disk(*disk, |disk| disk.bind(*start_bytes, *access, extents))
            }
            Request::UnbindDisk { disk, start_bytes } => {
                self.on_disk(*disk, |disk| disk.unbind(*start_bytes))
            }
            Request::BindCard { card, tap, rates } => self.on_card(*card, |handle| {
                validate_tap(tap)?;
                rates.validate()?;
                Ok(handle.bind(tap, *rates))
            }),
            Request::UnbindCard { card } => self.on_card(*card, |handle| Ok(handle.unbind())),
            Request::SetBalloon { target_mib } => match &self.devices.balloon {
                Some(balloon) => done(balloon.set_target(*target_mib)),
                None => error("the machine has no balloon"),
            },
            Request::SaveSnapshot { directory, track_changes } => self.save(directory, *track_changes),
            Request::RecordWorkingSet => self.record_working_set(),
            Request::Pause => self.set_paused(true),
            Request::Resume => self.set_paused(false),
            // The connection answers the former; the latter happens once it is answered.
            Request::TakeFiles { .. } | Request::ShutDown => Reply::Done,
        }
    }

    fn on_disk(&self, index: usize, act: impl FnOnce(&Disk) -> Result<(), BindError>) -> Reply {
        match self.devices.disks.get(index) {
            Some(disk) => done(act(disk)),
            None => error(format!("there is no disk {index}")),
        }
    }

    fn on_card(
        &self,
        index: usize,
        act: impl FnOnce(&CardHandle) -> Result<Result<(), BindingError>, InvalidConfig>,
    ) -> Reply {
        match self.devices.network_cards.get(index).map(act) {
            Some(Ok(result)) => done(result),
            Some(Err(invalid)) => error(invalid),
            None => error(format!("there is no network card {index}")),
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
        Status { state, pid: host_pid(), started_after_us }
    }

    fn counters(&self) -> Counters {
        let vcpus = self.started.get().map_or_else(Vec::new, |started| started.machine.vcpu_counters());
        Counters { vcpus, ..self.devices.counters() }
    }

    fn set_paused(&self, pause: bool) -> Reply {
        let Some(Started { machine, .. }) = self.started.get() else {
            return error("the machine has not started yet");
        };
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let reply = done(if pause { machine.pause() } else { machine.resume() });
        if reply == Reply::Done {
            *self.paused.lock().unwrap_or_else(PoisonError::into_inner) = pause;
        }
        reply
    }

    fn save(&self, directory: &Path, track_changes: bool) -> Reply {
        let Some(Started { machine, .. }) = self.started.get() else {
            return error("the machine has not started yet");
        };
        let tracking = if track_changes { Tracking::On } else { Tracking::Off };
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let was_paused = *self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        machine.save(directory, tracking, was_paused).map_or_else(error_with_sources, Reply::SnapshotSaved)
    }

    fn record_working_set(&self) -> Reply {
        let Some(Started { machine, .. }) = self.started.get() else {
            return error("the machine has not started yet");
        };
        let recorded = machine.record_working_set();
        recorded.map_or_else(error_with_sources, |mib| Reply::WorkingSetRecorded { mib })
    }

    fn shut_down(&self) {
        self.end(MachineExit::ShutDown);
    }

    fn fail(&self, message: String) {
        self.end(MachineExit::Failed { message });
    }

    fn end(&self, exit: MachineExit) {
        // If nobody receives, the process is ending already.
        self.exits.lock().unwrap_or_else(PoisonError::into_inner).send(exit).ok();
    }
}

fn done<E: std::error::Error + Send + Sync + 'static>(result: Result<(), E>) -> Reply {
    result.map_or_else(error_with_sources, |()| Reply::Done)
}

fn error_with_sources<E: std::error::Error + Send + Sync + 'static>(source: E) -> Reply {
    error(format!("{:#}", anyhow::Error::from(source)))
}

fn error(message: impl std::fmt::Display) -> Reply {
    Reply::Error { message: message.to_string() }
}

/// Serves the control socket from now on.
///
/// # Errors
/// There is no thread for it.
pub(crate) fn serve(listener: UnixListener, controlled: Arc<Controlled>) -> io::Result<()> {
    let connections = Arc::new(AtomicUsize::new(0));
    let accept = move || {
        if let Err(error) = jail::enter_thread(ThreadKind::Control) {
            controlled.fail(format!("cannot filter the system calls of control connections: {error}"));
            return;
        }
        for stream in listener.incoming().flatten() {
            let place = Place::take(&connections);
            let controlled = controlled.clone();
            if connections.load(Ordering::Relaxed) > MAX_CONNECTIONS {
                continue;
            }
            let converse = move || {
                let _place = place;
                // Its creator's filter is of the same kind. A client that went away is no concern of ours.
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

/// What a client sends: bytes, and the descriptors that came with them and that no request took yet.
struct Incoming<'s> {
    stream: &'s UnixStream,
    descriptors: VecDeque<OwnedFd>,
}

impl Read for Incoming<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut received = Vec::new();
        let length = receive_with_descriptors(self.stream, buffer, &mut received)?;
        self.descriptors.extend(received);
        if self.descriptors.len() > MAX_UNTAKEN_DESCRIPTORS {
            return Err(io::Error::other("descriptors that no request takes"));
        }
        Ok(length)
    }
}

impl Incoming<'_> {
    /// Puts the descriptors that came first under these paths.
    fn take_files(&mut self, paths: &[PathBuf]) -> io::Result<()> {
        if self.descriptors.len() < paths.len() {
            return Err(io::Error::other("fewer descriptors than paths"));
        }
        paths
            .iter()
            .zip(self.descriptors.drain(..paths.len()))
            .try_for_each(|(path, file)| HOST_FILES.add(path.clone(), file))
    }
}

/// Answers a client until it closes, sends too long a line, or goes away.
pub(crate) fn converse(mut stream: &UnixStream, controlled: &Controlled) -> io::Result<()> {
    let mut reader = BufReader::new(Incoming { stream, descriptors: VecDeque::new() });
    let mut line = Vec::new();
    loop {
        line.clear();
        reader.by_ref().take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', &mut line)?;
        if line.is_empty() || line.len() > MAX_LINE_BYTES {
            return Ok(());
        }
        let request = serde_json::from_slice::<Request>(&line);
        let reply = match &request {
            Ok(Request::TakeFiles { paths }) => done(reader.get_mut().take_files(paths)),
            Ok(request) => controlled.answer(request),
            Err(nonsense) => error(nonsense),
        };
        let mut bytes = serde_json::to_vec(&reply).map_err(io::Error::other)?;
        bytes.push(b'\n');
        let sent = stream.write_all(&bytes);
        if matches!(request, Ok(Request::ShutDown)) {
            controlled.shut_down();
        }
        sent?;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use tempfile::TempDir;

    use super::*;
    use crate::config::{Accelerator, DiskAccess, DiskConfig, Extent, MachineConfig};
    use crate::device_set;

    struct Bench {
        _directory: TempDir,
        socket: std::path::PathBuf,
        exits: Receiver<MachineExit>,
    }

    /// A control socket in front of a machine with one unbound disk, which has not started.
    fn serve_unstarted() -> Bench {
        let directory = TempDir::new().unwrap();
        let disk = DiskConfig { capacity_bytes: 1024, access: DiskAccess::ReadWrite, extents: vec![] };
        let config = MachineConfig {
            id: "m".into(),
            accelerator: Accelerator::Tcg,
            vcpus: 1,
            memory_mib: 64,
            kernel: "kernel".into(),
            initramfs: None,
            command_line: String::new(),
            disks: vec![disk],
            network_cards: vec![],
            balloon: None,
            shares: vec![],
            guest_cid: 3,
            console_limit_bytes: 1024,
            host_cpuid: vec![],
            restore: None,
            qemu: "qemu".into(),
        };
        let (_devices, handles) = device_set::open(directory.path(), &config).unwrap();
        let (sender, exits) = channel();
        let socket = directory.path().join("control.sock");
        serve(
            UnixListener::bind(&socket).unwrap(),
            Arc::new(Controlled::new(Instant::now(), handles, sender)),
        )
        .unwrap();
        Bench { _directory: directory, socket, exits }
    }

    impl Bench {
        fn connect(&self) -> BufReader<UnixStream> {
            let stream = UnixStream::connect(&self.socket).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            BufReader::new(stream)
        }
    }

    fn ask(connection: &mut BufReader<UnixStream>, line: &str) -> Reply {
        connection.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut reply = String::new();
        connection.read_line(&mut reply).unwrap();
        serde_json::from_str(&reply).unwrap()
    }

    fn refusal(reply: Reply) -> String {
        match reply {
            Reply::Error { message } => message,
            other => panic!("{other:?} is no error"),
        }
    }

    #[test]
    fn a_machine_that_boots_says_so() {
        let bench = serve_unstarted();
        let mut connection = bench.connect();
        let Reply::Status(status) = ask(&mut connection, r#"{"request":"status"}"#) else {
            panic!("no status")
        };
        assert_eq!((status.state, status.pid), (RunState::Booting, std::process::id()));
        assert!(refusal(ask(&mut connection, r#"{"request":"pause"}"#)).contains("not started"));
        let Reply::Counters(counters) = ask(&mut connection, r#"{"request":"counters"}"#) else {
            panic!("no counters")
        };
        assert_eq!(counters.disks.len(), 1);
    }

    #[test]
    fn disks_are_bound_once_and_by_their_number() {
        let bench = serve_unstarted();
        let mut connection = bench.connect();
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1024).unwrap();
        let extent = Extent { path: file.path().into(), offset_bytes: 0, length_bytes: 1024 };
        let bind = |disk, extents: Vec<Extent>| {
            let request = Request::BindDisk { disk, start_bytes: 0, access: None, extents };
            serde_json::to_string(&request).unwrap()
        };
        assert!(refusal(ask(&mut connection, &bind(1, vec![]))).contains("no disk 1"));
        assert_eq!(ask(&mut connection, &bind(0, vec![extent.clone()])), Reply::Done);
        assert!(refusal(ask(&mut connection, &bind(0, vec![extent.clone()]))).contains("bound already"));
        for _twice in 0..2 {
            assert_eq!(
                ask(&mut connection, r#"{"request":"unbind_disk","disk":0,"start_bytes":0}"#),
                Reply::Done
            );
        }
        assert_eq!(ask(&mut connection, &bind(0, vec![extent])), Reply::Done);
    }

    #[test]
    fn nonsense_is_answered_and_the_connection_goes_on() {
        let bench = serve_unstarted();
        let mut connection = bench.connect();
        for nonsense in ["", "{}", r#"{"request":"dance"}"#, r#"{"request":"bind_disk"}"#, "\u{0}"] {
            refusal(ask(&mut connection, nonsense));
        }
        assert!(matches!(ask(&mut connection, r#"{"request":"status"}"#), Reply::Status(_)));
    }

    #[test]
    fn shutting_down_is_answered_before_it_happens() {
        let bench = serve_unstarted();
        assert_eq!(ask(&mut bench.connect(), r#"{"request":"shut_down"}"#), Reply::Done);
        assert_eq!(bench.exits.recv_timeout(Duration::from_secs(5)).unwrap(), MachineExit::ShutDown);
    }

    #[test]
    fn one_connection_too_many_is_closed_and_places_come_free() {
        let bench = serve_unstarted();
        let mut connections: Vec<_> = (0..MAX_CONNECTIONS).map(|_| bench.connect()).collect();
        for connection in &mut connections {
            ask(connection, r#"{"request":"status"}"#);
        }
        assert_eq!(bench.connect().read(&mut [0]).unwrap(), 0);
        connections.clear();
        let served = std::iter::repeat_with(|| {
            let mut connection = bench.connect();
            connection.get_mut().write_all(b"{}\n").is_ok()
                && connection.read_line(&mut String::new()).is_ok_and(|length| length > 0)
        });
        assert!(served.take(1000).any(|served| served));
    }
}
