//! Namespaces that a new container has of others in its machine, which run.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;

use berth_protocol::agent::{ErrorCode, Namespace, StartContainer};
use nix::sched::{CloneFlags, setns};
use tokio::sync::OwnedRwLockReadGuard;

use super::no_such_container;
use crate::agent::Agent;
use crate::failure::Failure;
use crate::processes::Process;

/// One of them.
pub(super) struct Joined {
    pub(super) namespace: Namespace,
    /// What calls of the kernel's name it by, and its name below /proc.
    flag: CloneFlags,
    file: &'static str,
    /// The first process of the container whose it is.
    pub(super) first: Rc<Process>,
    _not_while_it_comes_or_goes: OwnedRwLockReadGuard<()>,
}

/// Those that the request asks for, of containers that stay at least until the answer is dropped.
///
/// # Errors
/// NO_SUCH_CONTAINER, also for one that does not run; INVALID_REQUEST for a namespace that cannot be joined.
pub(super) async fn find(agent: &Agent, request: &StartContainer) -> Result<Vec<Joined>, Failure> {
    let mut found = Vec::new();
    for wanted in &request.joined_namespaces {
        let namespace = wanted.namespace();
        let (flag, file) = joinable(namespace)
            .ok_or_else(|| Failure::invalid(format!("joined_namespaces: {namespace:?} cannot be joined")))?;
        let id = &wanted.container_id;
        if *id == request.container_id {
            return Err(Failure::invalid("joined_namespaces: a container cannot join itself"));
        }
        let container = agent.containers.get(id).ok_or_else(|| no_such_container(id))?;
        let held = Arc::clone(&container.lifecycle).read_owned().await;
        let not_running =
            || Failure::new(ErrorCode::NoSuchContainer, format!("container {id} is not running"));
        let first = container.running(agent).ok_or_else(not_running)?;
        if container.disks.ids().is_mapped() || !request.users.is_empty() {
            return Err(Failure::invalid("joined_namespaces: those of another user namespace cannot be had"));
        }
        found.push(Joined { namespace, flag, file, first, _not_while_it_comes_or_goes: held });
    }
    Ok(found)
}

fn joinable(namespace: Namespace) -> Option<(CloneFlags, &'static str)> {
    match namespace {
        Namespace::NetworkNamespace => Some((CloneFlags::CLONE_NEWNET, "net")),
        Namespace::PidNamespace => Some((CloneFlags::CLONE_NEWPID, "pid")),
        Namespace::IpcNamespace => Some((CloneFlags::CLONE_NEWIPC, "ipc")),
        _ => None,
    }
}

/// Children born meanwhile are in these namespaces: this thread's own, but for the one of processes, which is only that
/// of its children.
///
/// # Errors
/// The process that has one is gone, or what `spawn` returned.
pub(super) fn within<T>(joined: &[Joined], spawn: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let own = joined.iter().map(|joined| {
        let file = File::open(format!("/proc/thread-self/ns/{}", joined.file))?;
        Ok((file, joined.flag))
    });
    let own = own.collect::<io::Result<Vec<_>>>()?;
    let entered = joined.iter().try_for_each(|joined| setns(joined.first.pidfd.as_fd(), joined.flag));
    let spawned = entered.map_err(io::Error::from).and_then(|()| spawn());
    for (namespace, flag) in own {
        setns(&namespace, flag).expect("a thread may always return to its own namespaces");
    }
    spawned
}
