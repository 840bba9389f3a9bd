//! The stage: a short-lived, single-threaded run of this program between the birth of a container's process and the
//! execution of what was asked for.
//!
//! It runs inside the new process, so that everything that touches the container's files (its passwd, its /dev, its
//! mount points) happens behind its own root. It never runs tokio and never returns to the agent; it reports over one
//! socket and is replaced by the container's program.

pub(crate) mod spec;

pub(crate) mod report;

pub(crate) use mounts::standard_targets as standard_mount_targets;

pub(crate) use limits::raise as raise_limits;
pub(crate) use terminal::resize as resize_terminal;

pub(crate) use users::ids;

mod command;
mod devices;
mod environment;
mod host_names;
mod init;
mod limits;
mod mounts;
mod paths;
mod privileges;
mod program;
mod rootfs;
mod sockets;
pub(crate) mod sources;
mod sysctls;
mod terminal;
mod users;

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use berth_protocol::agent::{ErrorCode, Namespace, Process, StartContainer};
use nix::sched::{CloneFlags, setns, unshare};
use prost::Message;

use crate::failure::{During, Failure};
use crate::names;
use crate::network;
use crate::sys;
use report::Reporter;
use spec::StageSpec;

/// How the agent calls this program when it is to be the stage.
pub(crate) const STAGE_NAME: &std::ffi::CStr = c"berth-stage";
/// The same for a container that gets an init of ours as its first process.
pub(crate) const INIT_NAME: &std::ffi::CStr = c"berth-init";

/// The descriptors a stage is started with, after the three standard ones.
mod descriptor {
    pub(super) const SPEC: i32 = 3;
    pub(super) const REPORT: i32 = 4;
    /// Only for an exec: a pidfd of the process whose namespaces are to be joined.
    pub(super) const JOINED: i32 = 5;
}

/// Whether this program was started under one of the stage's names.
pub(crate) fn is_called(name: &OsStr) -> bool {
    [STAGE_NAME, INIT_NAME].iter().any(|stage| stage.to_bytes() == name.as_bytes())
}

/// Runs the stage. Returns only if the program could not be executed, which has been reported then, or for an init whose
/// child has ended.
pub(crate) fn main() -> ExitCode {
    let Ok(report) = sys::take_inherited(descriptor::REPORT) else {
        eprintln!("berth-agent: the stage was started without its report socket");
        return ExitCode::FAILURE;
    };
    let reporter = Reporter::new(report);
    match run(&reporter) {
        Ok(code) => code,
        Err(failure) => {
            reporter.failed(failure);
            ExitCode::FAILURE
        }
    }
}

fn run(reporter: &Reporter) -> Result<ExitCode, Failure> {
    protect_this_program()?;
    let spec = read_spec()?;
    let malformed = || Failure::new(ErrorCode::Internal, "the stage's specification names no process");
    match (spec.container.clone(), spec.exec.clone()) {
        (Some(container), _) => {
            let process = container.process.clone().ok_or_else(malformed)?;
            // In a user namespace of its own the agent has done it: it takes the machine's privileges.
            if container.users.is_empty() {
                limits::set_oom_score(&process)?;
            }
            set_up_container(reporter, &container, &spec)?;
            run_process(reporter, &process, Some(&container))
        }
        (None, Some(process)) => {
            limits::set_oom_score(&process)?;
            if spec.joins_user_namespace {
                limits::raise(None, &process.limits).during(ErrorCode::Internal, || "raise limits")?;
            }
            join_container(spec.joins_user_namespace)?;
            run_process(reporter, &process, None)
        }
        (None, None) => Err(malformed()),
    }
}

/// A container's processes must not look into the stage while it is among them.
fn protect_this_program() -> Result<(), Failure> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .during(ErrorCode::Internal, || "make the stage undumpable")
}

fn read_spec() -> Result<StageSpec, Failure> {
    let read = |fd: OwnedFd| {
        let mut bytes = Vec::new();
        std::fs::File::from(fd).read_to_end(&mut bytes).map(|_| bytes)
    };
    let bytes = sys::take_inherited(descriptor::SPEC).and_then(read);
    let bytes = bytes.during(ErrorCode::Internal, || "read the stage's specification")?;
    StageSpec::decode(bytes.as_slice()).during(ErrorCode::Internal, || "decode the stage's specification")
}

/// The world of a new container, from its namespaces inwards. The process was born into all but the cgroup namespace:
/// that one takes its root from where a process *is*, so it must be in its cgroup first.
fn set_up_container(
    reporter: &Reporter,
    container: &StartContainer,
    spec: &StageSpec,
) -> Result<(), Failure> {
    let joins = |namespace| container.joined_namespaces.iter().any(|joined| joined.namespace() == namespace);
    let has_own =
        |namespace| !joins(namespace) && !container.outer_namespaces().any(|outer| outer == namespace);
    if has_own(Namespace::CgroupNamespace) {
        unshare(CloneFlags::CLONE_NEWCGROUP)
            .during(ErrorCode::Internal, || "unshare the cgroup namespace")?;
    }
    if has_own(Namespace::UtsNamespace) {
        host_names::set(container)?;
    }
    if has_own(Namespace::NetworkNamespace) {
        set_up_network(reporter, container)?;
    }
    rootfs::enter(container, spec)
}

fn set_up_network(reporter: &Reporter, container: &StartContainer) -> Result<(), Failure> {
    network::bring_up_loopback().during(ErrorCode::Internal, || "bring up the loopback interface")?;
    if container.name_server {
        let sockets = names::bind().during(ErrorCode::Internal, || "listen for questions for names")?;
        reporter
            .name_sockets(&sockets)
            .during(ErrorCode::Internal, || "hand over the name server's sockets")?;
    }
    if container.interfaces.is_empty() {
        return Ok(());
    }
    reporter.wait_to_go_on().during(ErrorCode::Internal, || "wait for the network cards")?;
    for interface in &container.interfaces {
        network::set_up(interface)
            .during(ErrorCode::Internal, || format!("set up the network interface {}", interface.name))?;
    }
    Ok(())
}

/// The PID namespace was given at birth; the others are joined here, the mount namespace (and with it the root) last.
/// Who joins a user namespace is nobody in it and may become anybody.
fn join_container(user_namespace: bool) -> Result<(), Failure> {
    let joined = sys::take_inherited(descriptor::JOINED);
    let joined = joined.during(ErrorCode::Internal, || "find the container to join")?;
    let mut namespaces = CloneFlags::CLONE_NEWCGROUP
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWNS;
    namespaces.set(CloneFlags::CLONE_NEWUSER, user_namespace);
    setns(joined.as_fd(), namespaces)
        .during(ErrorCode::NoSuchContainer, || "join the container's namespaces")?;
    if user_namespace { privileges::become_root() } else { Ok(()) }
}

/// From a process in its container to the program that was asked for.
fn run_process(
    reporter: &Reporter,
    process: &Process,
    new_container: Option<&StartContainer>,
) -> Result<ExitCode, Failure> {
    rustix::process::setsid().during(ErrorCode::Internal, || "start a session")?;
    let user = users::resolve(&process.user, &process.additional_groups)?;
    if process.terminal {
        terminal::open(reporter, process.terminal_size.unwrap_or_default(), new_container.is_some())?;
    }
    privileges::hand_over_stdio(&user)?;
    if let Some(container) = new_container {
        rootfs::finish(container, &process.working_directory)?;
    }
    let environment = environment::Environment::new(&process.env, &user)?;
    if new_container.is_some_and(|container| container.init) {
        return init::run(reporter, process, &user, &environment);
    }
    Err(program::execute(reporter, process, &user, &environment))
}
