//! From a request to a running process: a stage is born into its namespaces and its cgroup, and watched until it has
//! become the program.

use std::cell::Cell;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use berth_protocol::agent::{ErrorCode, ExitStatus, Namespace, NetworkInterface, Process as ProcessRequest};
use nix::sched::{CloneFlags, setns};
use prost::Message;
use rustix::fs::{FileType, Gid, MemfdFlags, Uid, fchown, fstat, memfd_create};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;
use tokio::io::Interest;
use tokio::sync::{oneshot, watch};
use tokio::task::spawn_local;

use super::cgroup::Cgroup;
use super::ids::IdMaps;
use super::joined::{self, Joined};
use crate::agent::Agent;
use crate::clock;
use crate::failure::{During, Failure};
use crate::names::NameSockets;
use crate::network;
use crate::processes::{Process, ProcessStreams, Role};
use crate::stage::report::Report;
use crate::stage::spec::StageSpec;
use crate::stage::{self, report};
use crate::streams::{Endpoint, Input, Output, ProcessEnds, Stdio};
use crate::sys::{self, Child, End, Spawn};

/// What every container has of its own. Its cgroup namespace follows in the stage, which is in the right cgroup by then.
const OWN_NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWNS;
/// What a container has of its own unless it asks for the machine's.
const USUALLY_OWN: [(Namespace, CloneFlags); 4] = [
    (Namespace::NetworkNamespace, CloneFlags::CLONE_NEWNET),
    (Namespace::PidNamespace, CloneFlags::CLONE_NEWPID),
    (Namespace::UtsNamespace, CloneFlags::CLONE_NEWUTS),
    (Namespace::IpcNamespace, CloneFlags::CLONE_NEWIPC),
];

/// Where a process is to live.
pub(super) enum Place<'a> {
    /// In new namespaces, but for those that the container has of its machine or of others.
    NewContainer { outer: Vec<Namespace>, joined: Vec<Joined> },
    /// With the process of this pidfd.
    With(BorrowedFd<'a>),
}

/// One process to start.
pub(super) struct Launch<'a> {
    pub(super) container_id: &'a str,
    pub(super) cgroup: &'a Cgroup,
    /// Who its users are in the machine.
    pub(super) ids: &'a IdMaps,
    pub(super) place: Place<'a>,
    /// How this program calls itself as the stage.
    pub(super) stage_name: &'static CStr,
    pub(super) spec: StageSpec,
    pub(super) process: &'a ProcessRequest,
}

/// Starts it and serves its streams.
///
/// # Errors
/// What the stage reported, or what kept it from starting. Nothing is left then.
pub(super) async fn launch(agent: &Rc<Agent>, launch: Launch<'_>) -> Result<Rc<Process>, Failure> {
    let reservation = agent.processes.reserve(&launch.process.process_id)?;
    let (stdio, ends) = Stdio::create(launch.process).during(ErrorCode::Internal, || "create pipes")?;
    let (reports, stage_end) =
        report::channel().during(ErrorCode::Internal, || "create the stage's socket")?;
    let oom_kills_before = launch.cgroup.oom_kills();
    let child = spawn_stage(&launch, &ends, &stage_end).during(ErrorCode::Internal, || "start the stage")?;
    let end = agent.reaper.watch(child.pid);
    let cards = launch.spec.container.iter().flat_map(|container| &container.interfaces);
    let given = give_cards(&child, cards, &reports).inspect_err(|_| kill(&child));
    // The ends of the streams and of the reports come when the process closes its copies, if these are the only ones.
    drop((ends, stage_end));
    let became = match given {
        Ok(()) => become_program(reports).await,
        Err(failure) => Err(failure),
    };
    let streams = match became {
        // A program that nobody can talk to, or that cannot ask for names, is of no use to anybody.
        Ok(became) => serve_names(agent, launch.container_id, became.name_sockets)
            .and_then(|()| streams(stdio, became.terminal, launch.process.stdin))
            .inspect_err(|_| kill(&child)),
        Err(failure) => Err(failure),
    };
    let streams = match streams {
        Ok(streams) => streams,
        Err(failure) => {
            let ended = end.await;
            return Err(with_cause(failure, ended.ok(), launch.cgroup.oom_kills() > oom_kills_before));
        }
    };
    let process = Rc::new(new_process(&launch, child, streams));
    reservation.fill(Rc::clone(&process));
    let cgroup = Cgroup::of(launch.container_id);
    spawn_local(supervise(Rc::clone(&process), end, cgroup, oom_kills_before));
    Ok(process)
}

/// A stage that is to have network cards waits for them.
fn give_cards<'a>(
    child: &Child,
    interfaces: impl Iterator<Item = &'a NetworkInterface>,
    stage: &OwnedFd,
) -> Result<(), Failure> {
    let pid = u32::try_from(child.pid).expect("pids are positive");
    let mut interfaces = interfaces.peekable();
    if interfaces.peek().is_none() {
        return Ok(());
    }
    for interface in interfaces {
        network::give_to(pid, &interface.card)
            .during(ErrorCode::Internal, || format!("give away the network card {}", interface.card))?;
    }
    report::let_go_on(stage).during(ErrorCode::Internal, || "let the stage go on")
}

/// The stage's descriptors, in the order of [`crate::stage`]'s numbers.
fn spawn_stage(launch: &Launch<'_>, ends: &ProcessEnds, report: &OwnedFd) -> io::Result<Child> {
    let spec = spec_file(&launch.spec)?;
    let cgroup = launch.cgroup.open()?;
    let streams = [ends.stdin.as_fd(), ends.stdout.as_fd(), ends.stderr.as_fd()];
    if launch.ids.is_mapped() {
        give_to_root_of(launch.ids, &streams)?;
    }
    let mut descriptors = streams.to_vec();
    descriptors.extend([spec.as_fd(), report.as_fd()]);
    let mut spawn = Spawn {
        program: PROGRAM,
        argv0: launch.stage_name,
        namespaces: 0,
        cgroup: cgroup.as_fd(),
        descriptors: &descriptors,
        held_by: None,
    };
    match &launch.place {
        Place::NewContainer { outer, joined } => {
            spawn.namespaces = new_namespaces(outer, joined);
            joined::within(joined, || {
                if launch.ids.is_mapped() { spawn_mapped(launch, spawn) } else { sys::spawn(&spawn) }
            })
        }
        Place::With(joined) => {
            let descriptors = [&descriptors[..], &[*joined]].concat();
            spawn.descriptors = &descriptors;
            in_pid_namespace_of(*joined, || sys::spawn(&spawn))
        }
    }
}

/// Into a user namespace of its own, which only somebody outside can fill: what takes the machine's own privileges is
/// done for the process before it goes on.
fn spawn_mapped<'a>(launch: &Launch<'_>, mut spawn: Spawn<'a>) -> io::Result<Child> {
    let (held_by, go_on) = pipe_with(PipeFlags::CLOEXEC)?;
    spawn.namespaces |=
        u64::try_from(CloneFlags::CLONE_NEWUSER.bits()).expect("flags of namespaces are positive");
    let child = sys::spawn(&Spawn { held_by: Some(held_by.as_fd()), ..spawn })?;
    let prepared = prepare_mapped(launch, child.pid).and_then(|()| Ok(rustix::io::write(&go_on, b"x")?));
    prepared.inspect_err(|_| kill(&child)).map(|_written| child)
}

fn prepare_mapped(launch: &Launch<'_>, pid: i32) -> io::Result<()> {
    let write = |file: &str, text: String| {
        let path = format!("/proc/{pid}/{file}");
        let named = |error: io::Error| io::Error::new(error.kind(), format!("write {path}: {error}"));
        std::fs::write(&path, text).map_err(named)
    };
    write("uid_map", launch.ids.users.lines())?;
    write("gid_map", launch.ids.groups.lines())?;
    if launch.process.oom_score_adj != 0 {
        write("oom_score_adj", launch.process.oom_score_adj.to_string())?;
    }
    stage::raise_limits(Pid::from_raw(pid), &launch.process.limits)
}

/// Its own root can then give the streams to whom the process will be. /dev/null is everybody's.
fn give_to_root_of(ids: &IdMaps, streams: &[BorrowedFd<'_>]) -> io::Result<()> {
    let (owner, group) = (Uid::from_raw(ids.users.root()), Gid::from_raw(ids.groups.root()));
    for stream in streams {
        if FileType::from_raw_mode(fstat(stream)?.st_mode) == FileType::Fifo {
            fchown(stream, Some(owner), Some(group))?;
        }
    }
    Ok(())
}

fn new_namespaces(outer: &[Namespace], joined: &[Joined]) -> u64 {
    let is_joined = |namespace| joined.iter().any(|joined| joined.namespace == namespace);
    let own =
        USUALLY_OWN.iter().filter(|(namespace, _)| !outer.contains(namespace) && !is_joined(*namespace));
    let flags = own.fold(OWN_NAMESPACES, |flags, (_, flag)| flags | *flag);
    u64::try_from(flags.bits()).expect("flags of namespaces are positive")
}

/// This program, by the read-only root of [`crate::boot`].
const PROGRAM: &CStr = c"/init";

fn spec_file(spec: &StageSpec) -> io::Result<OwnedFd> {
    let file = memfd_create("stage", MemfdFlags::CLOEXEC)?;
    let bytes = spec.encode_to_vec();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        rest = &rest[rustix::io::write(&file, rest)?..];
    }
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    Ok(file)
}

/// Children born meanwhile are in the PID namespace of another process. So an exec is a child of the agent's like any
/// other, reaped and signalled without a go-between.
fn in_pid_namespace_of<T>(other: BorrowedFd<'_>, spawn: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let own = std::fs::File::open("/proc/self/ns/pid")?;
    setns(other, CloneFlags::CLONE_NEWPID)?;
    let spawned = spawn();
    setns(&own, CloneFlags::CLONE_NEWPID).expect("a process may always return to its own PID namespace");
    spawned
}

/// What a stage has made before it became the program, where that was asked for.
#[derive(Default)]
struct Became {
    terminal: Option<OwnedFd>,
    name_sockets: Option<NameSockets>,
}

fn serve_names(agent: &Agent, container_id: &str, sockets: Option<NameSockets>) -> Result<(), Failure> {
    let Some(sockets) = sockets else { return Ok(()) };
    agent
        .name_servers
        .start(container_id, sockets)
        .during(ErrorCode::Internal, || "serve questions for names")
}

/// Follows the stage until it has become the program.
async fn become_program(reports: OwnedFd) -> Result<Became, Failure> {
    let internal = |error: io::Error| Failure::new(ErrorCode::Internal, format!("follow the stage: {error}"));
    let reports = sys::register(reports, Interest::READABLE).map_err(internal)?;
    let (mut became, mut executing) = (Became::default(), false);
    loop {
        let mut guard = reports.readable().await.map_err(internal)?;
        let Ok(report) = guard.try_io(report::receive) else {
            continue;
        };
        match report.map_err(internal)? {
            Report::Terminal(master) => became.terminal = Some(master),
            Report::NameSockets(sockets) => became.name_sockets = Some(sockets),
            Report::Executing => executing = true,
            Report::Failed(failure) => return Err(failure),
            Report::Closed if executing => return Ok(became),
            Report::Closed => {
                return Err(Failure::new(ErrorCode::Internal, "the process ended before its program began"));
            }
        }
    }
}

/// A stage that was killed cannot say why; the kernel can.
fn with_cause(failure: Failure, end: Option<End>, out_of_memory: bool) -> Failure {
    match end {
        Some(End::Killed { .. }) if out_of_memory => Failure::new(
            ErrorCode::ResourceLimit,
            "the container's memory limit is too low to start its process",
        ),
        Some(End::Killed { signal: libc::SIGSYS }) => Failure::new(
            ErrorCode::InvalidRequest,
            "the container's seccomp profile does not allow what the start of a program takes",
        ),
        Some(End::Killed { signal }) => {
            Failure::new(failure.code, format!("{}, by signal {signal}", failure.message))
        }
        _ => failure,
    }
}

fn kill(child: &Child) {
    if let Err(error) = sys::signal(&child.pidfd, libc::SIGKILL) {
        eprintln!("berth-agent: process {} cannot be killed: {error}", child.pid);
    }
}

fn new_process(launch: &Launch<'_>, child: Child, streams: ProcessStreams) -> Process {
    Process {
        id: launch.process.process_id.clone(),
        container_id: launch.container_id.to_owned(),
        role: if matches!(launch.place, Place::NewContainer { .. }) { Role::First } else { Role::Exec },
        pid: u32::try_from(child.pid).expect("pids are positive"),
        pidfd: child.pidfd,
        streams,
        exit: watch::Sender::new(None),
        status_delivered: Cell::new(false),
    }
}

fn streams(stdio: Stdio, terminal: Option<OwnedFd>, with_stdin: bool) -> Result<ProcessStreams, Failure> {
    let Some(master) = terminal else {
        return Ok(serve_pipes(stdio));
    };
    let master = Endpoint::new(master, Interest::READABLE | Interest::WRITABLE);
    let master = master.during(ErrorCode::Internal, || "poll the terminal")?;
    Ok(serve_terminal(master, with_stdin))
}

fn serve_terminal(master: Endpoint, with_stdin: bool) -> ProcessStreams {
    let master = Rc::new(master);
    ProcessStreams {
        stdin: with_stdin.then(|| Input::terminal(Rc::clone(&master))),
        stdout: Some(pumped(Rc::clone(&master))),
        stderr: None,
        terminal: Some(master),
    }
}

fn serve_pipes(stdio: Stdio) -> ProcessStreams {
    ProcessStreams {
        terminal: None,
        stdin: stdio.stdin.map(Input::pipe),
        stdout: stdio.stdout.map(|source| pumped(Rc::new(source))),
        stderr: stdio.stderr.map(|source| pumped(Rc::new(source))),
    }
}

/// An output whose reading has begun.
fn pumped(source: Rc<Endpoint>) -> Rc<Output> {
    let output = Rc::new(Output::default());
    let reading = Rc::clone(&output);
    spawn_local(async move { reading.pump(&source).await });
    output
}

/// Turns the end of a process into its status.
async fn supervise(process: Rc<Process>, end: oneshot::Receiver<End>, cgroup: Cgroup, oom_kills_before: u64) {
    let (code, signal) = match end.await.expect("the reaper outlives every process") {
        End::Exited(code) => (code, 0),
        End::Killed { signal } => (128 + signal, signal),
    };
    // A container without a PID namespace of its own does not end with its first process by itself.
    if process.role == Role::First
        && let Err(error) = cgroup.kill()
    {
        eprintln!("berth-agent: what is left of {} cannot be killed: {error}", process.container_id);
    }
    process.finish(ExitStatus {
        code: u32::try_from(code).unwrap_or_default(),
        signal: u32::try_from(signal).unwrap_or_default(),
        oom_killed: cgroup.oom_kills() > oom_kills_before,
        finished_unix_ns: clock::unix_time_ns(),
    });
}
