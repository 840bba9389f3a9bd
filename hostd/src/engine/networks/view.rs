//! How networks are shown.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::super::Engine;
use super::super::error::EngineError;
use super::super::identity::ContainerId;
use super::endpoint::EndpointNames;
use super::leaving::Leaving;
use super::network::Network;

/// A network at one moment, with who is on it.
#[derive(Clone, Debug)]
pub struct NetworkView {
    pub network: Network,
    pub stations: Vec<(ContainerId, StationView)>,
}

/// A container's place on a network, while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StationView {
    /// 64 hex digits.
    pub endpoint_id: String,
    pub container_name: Arc<str>,
    pub mac: [u8; 6],
    /// The host's end of its card.
    pub card: String,
    /// At most one of each version, with its subnet's prefix.
    pub addresses: Vec<IpNet>,
    /// Beside its own.
    pub names: EndpointNames,
}

impl StationView {
    #[must_use]
    pub fn address(&self, is_it: impl Fn(&IpAddr) -> bool) -> Option<IpNet> {
        self.addresses.iter().find(|net| is_it(&net.addr())).copied()
    }
}

impl Engine {
    /// # Errors
    /// No such network, or several.
    pub fn network(&self, word: &str) -> Result<NetworkView, EngineError> {
        let networks = &self.shared.networks;
        Ok(networks.find(word)?.view(&networks.leaving))
    }

    /// All of them, the newest last.
    #[must_use]
    pub fn networks(&self) -> Vec<NetworkView> {
        let networks = &self.shared.networks;
        let mut views: Vec<_> =
            networks.active().values().map(|active| active.view(&networks.leaving)).collect();
        views.sort_by_key(|view| view.network.created_at);
        views
    }
}

impl super::ActiveNetwork {
    /// Who has ended is on it no more, whatever its machine still holds: compose leaves networks alone that it sees anybody on.
    fn view(&self, leaving: &Leaving) -> NetworkView {
        let stations = self.stations();
        let there = stations.iter().filter(|(container, _)| !leaving.has(container));
        let stations = there.map(|(id, station)| (id.clone(), station.clone())).collect();
        NetworkView { network: self.network.clone(), stations }
    }
}
