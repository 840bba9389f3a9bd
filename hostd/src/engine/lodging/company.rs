//! Whose namespaces a container shares: what its description says, and who that is when it starts.

use std::sync::Arc;

use berth_protocol::agent::{self, JoinedNamespace};

use super::super::container::{Container, Live};
use super::super::error::EngineError;
use super::super::mounts::MountPoint;
use super::super::networks::NetworkMode;
use super::super::security::Namespaces;
use super::super::spec::ContainerSpec;
use super::super::state::ContainerState;
use super::super::{Engine, Shared};

/// The containers, by the words that the description has for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Wanted {
    network: Option<String>,
    pid: Option<String>,
    ipc: Option<String>,
}

/// Those that a container is to share namespaces with, all in one machine, and running a moment ago.
pub(in crate::engine) struct Company {
    pub(super) companion: Arc<Live>,
    pub(super) joined: Vec<JoinedNamespace>,
}

impl Wanted {
    fn of(spec: &ContainerSpec) -> Self {
        let network = match &spec.network.mode {
            NetworkMode::Container(word) => Some(word.clone()),
            _ => None,
        };
        let Namespaces { pid_of, ipc_of, .. } = &spec.namespaces;
        Self { network, pid: pid_of.clone(), ipc: ipc_of.clone() }
    }
}

impl ContainerSpec {
    /// Whether it runs in a machine that is not its own.
    pub(in crate::engine) fn is_lodger(&self) -> bool {
        Wanted::of(self) != Wanted::default()
    }

    /// What limits do not do for a container in another's machine.
    pub(in crate::engine) fn lodger_warnings(&self) -> impl Iterator<Item = &'static str> + use<> {
        let memory = self.limits.memory_bytes.map(|_| {
            "HostConfig.Memory counts within the machine of the container whose namespaces are shared: there is no more \
             than that machine has."
        });
        let parent = self.cgroup_parent.as_ref().map(
            |_| "HostConfig.CgroupParent has no effect: the container runs in another container's machine.",
        );
        let is_lodger = self.is_lodger();
        memory.into_iter().chain(parent).filter(move |_| is_lodger)
    }
}

impl Company {
    /// # Errors
    /// Docker's words for one that is not there, does not run, or is the container itself.
    pub(in crate::engine) fn find(
        shared: &Shared,
        container: &Container,
    ) -> Result<Option<Self>, EngineError> {
        let Wanted { network, pid, ipc } = Wanted::of(&container.spec());
        let wanted: [(_, _, Find); 3] = [
            (agent::Namespace::NetworkNamespace, network, network_of),
            (agent::Namespace::PidNamespace, pid, processes_of),
            (agent::Namespace::IpcNamespace, ipc, ipc_of),
        ];
        let (mut joined, mut companion) = (Vec::new(), None::<Arc<Live>>);
        for (namespace, word, find) in wanted {
            let Some(word) = word else { continue };
            let (container_id, live) = find(shared, container, &word)?;
            if companion.as_ref().is_some_and(|other| !Arc::ptr_eq(&other.home, &live.home)) {
                let message = "cannot share namespaces of containers that are in different machines";
                return Err(EngineError::invalid(message));
            }
            companion = Some(live);
            joined.push(JoinedNamespace { namespace: namespace.into(), container_id });
        }
        Ok(companion.map(|companion| Self { companion, joined }))
    }
}

/// Whether the machine of a container that starts is to have shares although the container has none: another container
/// that will live in it does.
pub(in crate::engine) fn expects_shares(shared: &Shared, owner: &Container) -> bool {
    let containers: Vec<_> = shared.containers().values().cloned().collect();
    let lodgers = containers.iter().filter(|container| container.mounts.iter().any(MountPoint::is_shared));
    lodgers.filter(|container| container.spec().is_lodger()).any(|lodger| lives_with(shared, lodger, owner))
}

/// Whether its way leads there, from the one whose namespace it shares to the next.
fn lives_with(shared: &Shared, lodger: &Arc<Container>, owner: &Container) -> bool {
    let mut passed = vec![lodger.id.clone()];
    let mut here = Arc::clone(lodger);
    loop {
        let Wanted { network, pid, ipc } = Wanted::of(&here.spec());
        let Some(next) = network.or(pid).or(ipc).and_then(|word| shared.find(&word).ok()) else {
            return false;
        };
        if next.id == owner.id {
            return true;
        }
        // Round in a circle it leads nowhere.
        if passed.contains(&next.id) {
            return false;
        }
        passed.push(next.id.clone());
        here = next;
    }
}

type Found = (String, Arc<Live>);
type Find = fn(&Shared, &Container, &str) -> Result<Found, EngineError>;

fn network_of(shared: &Shared, container: &Container, word: &str) -> Result<Found, EngineError> {
    let other = other(shared, word)?;
    if other.id == container.id {
        return Err(EngineError::invalid("cannot join own network"));
    }
    running(&other, format!("cannot join network of a non running container: {}", other.id))
}

fn processes_of(shared: &Shared, container: &Container, word: &str) -> Result<Found, EngineError> {
    let other = other(shared, word)?;
    if other.id == container.id {
        return Err(EngineError::invalid("cannot join own PID namespace"));
    }
    running(&other, format!("cannot join PID of a non running container: {}", other.id))
}

fn ipc_of(shared: &Shared, container: &Container, word: &str) -> Result<Found, EngineError> {
    let other = other(shared, word)?;
    if other.id == container.id {
        return Err(EngineError::invalid("cannot join own IPC namespace"));
    }
    let found =
        running(&other, format!("failed to join IPC namespace: container {} is not running", other.id))?;
    if !other.spec().namespaces.shares_ipc() {
        return Err(EngineError::invalid(format!(
            "failed to join IPC namespace: container {}: non-shareable IPC (hint: use IpcMode:shareable for the donor \
             container)",
            other.id
        )));
    }
    Ok(found)
}

fn other(shared: &Shared, word: &str) -> Result<Arc<Container>, EngineError> {
    shared.find(word)
}

fn running(other: &Container, refusal: String) -> Result<Found, EngineError> {
    let status = other.current();
    if matches!(status.state, ContainerState::Restarting(_)) {
        return Err(other.is_restarting());
    }
    let live = status.live.ok_or_else(|| EngineError::conflict(refusal))?;
    Ok((other.id.to_string(), live))
}

impl Engine {
    /// Gives a container that is made the ids of those whose namespaces it shares, in place of their names, so that they
    /// are the same after a change of name; and the host name that goes with a network. Who is not there yet keeps the
    /// client's word.
    pub(in crate::engine) fn settle_company(&self, spec: &mut ContainerSpec) {
        for of in [&mut spec.namespaces.pid_of, &mut spec.namespaces.ipc_of] {
            if let Some(found) = of.as_ref().and_then(|word| self.find(word).ok()) {
                *of = Some(found.id.to_string());
            }
        }
        let NetworkMode::Container(word) = &spec.network.mode else { return };
        let Ok(found) = self.find(word) else { return };
        spec.hostname = Some(super::super::launch::hostname(&found));
        spec.domainname.clone_from(&found.spec().domainname);
        spec.network.mode = NetworkMode::Container(found.id.to_string());
    }
}
