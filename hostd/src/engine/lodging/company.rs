//! Whose namespaces a container shares: what its description says, and who that is when it starts.

use std::sync::Arc;

use berth_protocol::agent::{self, JoinedNamespace};

use super::super::container::{Container, Live};
use super::super::error::EngineError;
use super::super::networks::NetworkMode;
use super::super::spec::ContainerSpec;
use super::super::state::ContainerState;
use super::super::{Engine, Shared};

/// The containers, by the words that the description has for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Wanted {
    network: Option<String>,
    pid: Option<String>,
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
        Self { network, pid: spec.namespaces.pid_of.clone() }
    }
}

impl ContainerSpec {
    /// Whether it runs in a machine that is not its own.
    pub(in crate::engine) fn is_lodger(&self) -> bool {
        Wanted::of(self) != Wanted::default()
    }
}

impl Company {
    /// # Errors
    /// Docker's words for one that is not there, does not run, or is the container itself.
    pub(in crate::engine) fn find(
        shared: &Shared,
        container: &Container,
    ) -> Result<Option<Self>, EngineError> {
        let wanted = Wanted::of(&container.spec());
        let network = wanted.network.map(|word| network_of(shared, container, &word)).transpose()?;
        let pid = wanted.pid.map(|word| processes_of(shared, container, &word)).transpose()?;
        let companion = match (&network, &pid) {
            (Some((_, network)), Some((_, pid))) if !Arc::ptr_eq(&network.home, &pid.home) => {
                let message = "cannot share the network of one container and the processes of another: they are in \
                     different machines";
                return Err(EngineError::invalid(message));
            }
            (Some((_, live)), _) | (None, Some((_, live))) => Arc::clone(live),
            (None, None) => return Ok(None),
        };
        let joined = |(id, _live), namespace: agent::Namespace| JoinedNamespace {
            namespace: namespace.into(),
            container_id: id,
        };
        let network = network.map(|found| joined(found, agent::Namespace::NetworkNamespace));
        let pid = pid.map(|found| joined(found, agent::Namespace::PidNamespace));
        Ok(Some(Self { companion, joined: network.into_iter().chain(pid).collect() }))
    }
}

type Found = (String, Arc<Live>);

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
        if let Some(found) = spec.namespaces.pid_of.as_ref().and_then(|word| self.find(word).ok()) {
            spec.namespaces.pid_of = Some(found.id.to_string());
        }
        let NetworkMode::Container(word) = &spec.network.mode else { return };
        let Ok(found) = self.find(word) else { return };
        spec.hostname = Some(super::super::launch::hostname(&found));
        spec.domainname.clone_from(&found.spec().domainname);
        spec.network.mode = NetworkMode::Container(found.id.to_string());
    }
}
