//! Who is called what, for one container at a time: it finds those who are on a network with it, and nobody else.
//!
//! As Docker has it: by container name, aliases, the beginning of an id and host name, each also with the network's name
//! behind it, and not on the network `bridge`.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::super::identity::ContainerId;
use super::network::Reach;
use super::view::StationView;
use super::{ActiveNetwork, Networks};

/// The host, as Docker's users call it. On Linux, dockerd leaves that to `--add-host`.
const HOST_NAMES: [&str; 2] = ["host.docker.internal", "gateway.docker.internal"];
/// The network whose containers find each other by address alone.
pub(in crate::engine) const NAMELESS_NETWORK: &str = "bridge";

impl Networks {
    /// Nothing if nobody that the container can reach has this name, which is in lower case.
    pub(in crate::engine) fn addresses_of(&self, asker: &ContainerId, name: &str) -> Option<Vec<IpAddr>> {
        let networks = self.of_container(asker);
        let named = networks.iter().filter(|active| active.has_names());
        let found = readings(name).find_map(|(host, network)| {
            let fits = |active: &&Arc<ActiveNetwork>| {
                network.is_none_or(|network| active.network.name.eq_ignore_ascii_case(network))
            };
            named.clone().filter(fits).find_map(|active| active.addresses_of(asker, host))
        });
        found.or_else(|| HOST_NAMES.contains(&name).then(|| host_on(&networks)).flatten())
    }

    /// The name of whoever has an address on one of the container's networks, with the network's behind it.
    pub(in crate::engine) fn name_of(&self, asker: &ContainerId, address: IpAddr) -> Option<String> {
        self.of_container(asker).iter().filter(|active| active.has_names()).find_map(|active| {
            let stations = active.stations();
            let has_it = |station: &&StationView| station.addresses.iter().any(|net| net.addr() == address);
            let station = stations.values().find(has_it)?;
            Some(format!("{}.{}", station.container_name, active.network.name))
        })
    }

    /// Whether one of its networks leads anywhere; where none does, nobody else is asked on its behalf.
    pub(in crate::engine) fn reaches_others(&self, asker: &ContainerId) -> bool {
        self.of_container(asker).iter().any(|active| active.network.reach == Reach::Open)
    }

    /// Open ones first.
    fn of_container(&self, container: &ContainerId) -> Vec<Arc<ActiveNetwork>> {
        let active = self.active();
        let mut networks: Vec<_> =
            active.values().filter(|active| active.stations().contains_key(container)).cloned().collect();
        networks.sort_by(|a, b| {
            let key = |active: &ActiveNetwork| active.network.reach == Reach::Internal;
            (key(a), &a.network.name).cmp(&(key(b), &b.network.name))
        });
        networks
    }
}

impl ActiveNetwork {
    fn has_names(&self) -> bool {
        self.network.name != NAMELESS_NETWORK
    }

    /// Of all that have the name, in an order that is another one each time.
    fn addresses_of(&self, asker: &ContainerId, name: &str) -> Option<Vec<IpAddr>> {
        let stations = self.stations();
        let links = stations.get(asker).map(|station| station.names.links.as_slice()).unwrap_or_default();
        let linked = links.iter().find(|link| link.alias.eq_ignore_ascii_case(name));
        let name = linked.map_or(name, |link| &link.container);
        let called = stations.values().filter(|station| station.is_called(name));
        let mut addresses: Vec<IpAddr> =
            called.flat_map(|station| &station.addresses).map(IpNet::addr).collect();
        if addresses.is_empty() {
            return None;
        }
        let first = rand::random_range(0..addresses.len());
        addresses.rotate_left(first);
        Some(addresses)
    }
}

impl StationView {
    fn is_called(&self, name: &str) -> bool {
        self.container_name.eq_ignore_ascii_case(name)
            || self.names.own.iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

/// What a name with dots may mean: a whole name, or one on a network.
fn readings(name: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let dots = name.match_indices('.').map(|(at, _)| at).collect::<Vec<_>>();
    let split = move |at: usize| (&name[..at], name.get(at + 1..));
    std::iter::once((name, None))
        .chain(dots.into_iter().rev().map(split))
        .filter(|(host, _)| !host.is_empty())
}

/// The host's addresses on the first network that leads to it.
fn host_on(networks: &[Arc<ActiveNetwork>]) -> Option<Vec<IpAddr>> {
    let open = networks.iter().find(|active| active.network.reach == Reach::Open)?;
    Some(open.network.subnets.iter().map(|subnet| subnet.gateway).collect())
}

#[cfg(test)]
mod tests;
