//! Whether a container may come to a network, or leave one, and what its description says of that.

use std::net::IpAddr;
use std::sync::Arc;

use super::super::container::Command;
use super::super::error::{EngineError, ErrorKind};
use super::super::identity::ContainerId;
use super::super::{Engine, Shared};
use super::create::PREDEFINED;
use super::endpoint::{EndpointSpec, NetworkMode, NetworkSpec};
use super::network::{Network, NetworkDriver};
use super::{ActiveNetwork, Networks};

/// Docker's words for what cannot be together.
const HOST_NETWORK: &str = "container cannot be disconnected from host network or connected to host network";
const SHARED_NETWORK: &str = "container sharing network namespace with another container or host cannot be connected to any other network";
const NO_NETWORK: &str =
    "container cannot be connected to multiple networks with one of the networks in private (none) mode";

/// What a wish to connect comes to.
#[derive(Debug)]
pub(in crate::engine) enum Connection {
    /// To be on this network, which is a bridge.
    New(Arc<ActiveNetwork>),
    /// It is on that network.
    Already(Arc<ActiveNetwork>),
    /// To have loopback alone again.
    Loopback,
}

impl Engine {
    /// Connects a container to a network, at once if it runs.
    ///
    /// # Errors
    /// No such container or network, networks that cannot be together, a place that somebody has, or a machine that has no
    /// card left. Nothing has changed then.
    pub async fn connect(
        &self,
        network: &str,
        container: &str,
        endpoint: EndpointSpec,
    ) -> Result<(), EngineError> {
        let container = self.find(container)?;
        self.shared.networks.refuse_in_user_mode(&format!("connecting to network {network}"))?;
        let network = network.to_owned();
        container.command(|reply| Command::Connect { network, endpoint, reply }).await?
    }

    /// Disconnects a container from a network, at once if it runs. `force` is for a container or a network that is gone.
    ///
    /// # Errors
    /// No such container or network, or the one is not on the other.
    pub async fn disconnect(&self, network: &str, container: &str, force: bool) -> Result<(), EngineError> {
        let found = match self.find(container) {
            // A container that is gone has left nothing behind.
            Err(error) if force && error.kind == ErrorKind::NotFound => {
                self.shared.networks.find(network)?;
                return Err(EngineError::not_found(format!("endpoint {container} not found")));
            }
            found => found?,
        };
        self.shared.networks.refuse_in_user_mode(&format!("disconnecting from network {network}"))?;
        let network = network.to_owned();
        found.command(|reply| Command::Disconnect { network, force, reply }).await?
    }
}

impl Networks {
    /// # Errors
    /// No such network, or a reason in Docker's words why a container of that description cannot be on it.
    pub(in crate::engine) fn connection(
        &self,
        spec: &NetworkSpec,
        word: &str,
        wanted: &EndpointSpec,
    ) -> Result<Connection, EngineError> {
        let found = self.find(word)?;
        let network = &found.network;
        if network.driver == NetworkDriver::Machine {
            return Err(EngineError::invalid(HOST_NETWORK));
        }
        if self.word_for(spec, network).is_some() {
            return Ok(Connection::Already(found));
        }
        let is_alone = spec.mode == NetworkMode::None && !spec.has_left_mode;
        if matches!(spec.mode, NetworkMode::Machine | NetworkMode::Container(_)) {
            return Err(EngineError::invalid(SHARED_NETWORK));
        }
        if network.driver == NetworkDriver::None {
            return match spec.mode {
                NetworkMode::None if is_alone => Ok(Connection::Already(found)),
                NetworkMode::None if spec.endpoints.is_empty() => Ok(Connection::Loopback),
                _ => Err(EngineError::invalid(NO_NETWORK)),
            };
        }
        if is_alone {
            return Err(EngineError::invalid(NO_NETWORK));
        }
        check(network, wanted)?;
        Ok(Connection::New(found))
    }

    /// By which of its words a container of that description is on this network, or would be if it ran.
    pub(in crate::engine) fn word_for(&self, spec: &NetworkSpec, network: &Network) -> Option<String> {
        let means = |word: &str| {
            word == network.name || self.find(word).is_ok_and(|found| found.network.id == network.id)
        };
        spec.wanted().into_iter().map(|(word, _)| word).find(|word| means(word))
    }

    /// Takes the network that a client's word means out of a description; one that is gone goes by that word.
    ///
    /// # Errors
    /// In Docker's words: it is not there, or cannot be left.
    pub(in crate::engine) fn take_from(
        &self,
        spec: &mut NetworkSpec,
        word: &str,
        container: &ContainerId,
    ) -> Result<(), EngineError> {
        let found = self.find(word).ok();
        let name = found.as_ref().map_or(word, |found| &found.network.name);
        if spec.mode == NetworkMode::Machine && name == "host" {
            return Err(EngineError::invalid(HOST_NETWORK));
        }
        let is_loopback = found.as_ref().is_some_and(|found| found.network.driver == NetworkDriver::None);
        if is_loopback && spec.mode == NetworkMode::None && !spec.has_left_mode {
            spec.has_left_mode = true;
            return Ok(());
        }
        let known = found.as_ref().and_then(|found| self.word_for(spec, &found.network));
        let known = known.or_else(|| spec.endpoints.contains_key(word).then(|| word.to_owned()));
        let known = known.ok_or_else(|| {
            let message = format!("container {container} is not connected to the network {name}");
            EngineError::new(ErrorKind::Internal, message)
        })?;
        spec.leave(&known);
        Ok(())
    }
}

impl NetworkSpec {
    fn leave(&mut self, word: &str) {
        self.endpoints.remove(word);
        let of_mode = match &self.mode {
            NetworkMode::Default => word == "bridge",
            NetworkMode::Network(name) => word == name,
            NetworkMode::None | NetworkMode::Machine | NetworkMode::Container(_) => false,
        };
        self.has_left_mode |= of_mode;
    }
}

impl Shared {
    /// Docker's answer for a container that runs.
    pub(in crate::engine) fn check_is_connected(
        &self,
        spec: &NetworkSpec,
        word: &str,
        container: &ContainerId,
    ) -> Result<(), EngineError> {
        let found = self.networks.find(word)?;
        let is_there = self.networks.word_for(spec, &found.network).is_some()
            || matches!(found.network.driver, NetworkDriver::None | NetworkDriver::Machine)
                && spec.names().contains(&found.network.name.as_str());
        if is_there { Ok(()) } else { Err(not_connected(container, &found.network)) }
    }
}

fn not_connected(container: &ContainerId, network: &Network) -> EngineError {
    let message = format!("container {container} is not connected to network {}", network.name);
    EngineError::new(ErrorKind::Internal, message)
}

/// # Errors
/// In Docker's words: what of an endpoint's settings the network cannot have.
pub(super) fn check(network: &Network, wanted: &EndpointSpec) -> Result<(), EngineError> {
    let mut reasons = Vec::new();
    let fixed = [wanted.ipv4, wanted.ipv6];
    if PREDEFINED.contains(&network.name.as_str()) {
        if fixed.iter().any(Option::is_some) {
            reasons.push("user specified IP address is supported on user defined networks only".to_owned());
        }
        if !wanted.aliases.is_empty() {
            let reason = "network-scoped alias is supported only for containers in user defined networks";
            reasons.push(reason.to_owned());
        }
    } else {
        let outside = |address: &IpAddr| network.subnet(*address).is_none();
        let outside = fixed.into_iter().flatten().filter(outside);
        reasons.extend(outside.map(|address| format!("no configured subnet contains IP address {address}")));
    }
    if reasons.is_empty() {
        return Ok(());
    }
    Err(EngineError::invalid(format!("invalid endpoint settings:\n{}", reasons.join("\n"))))
}
