//! Joining networks when a run begins, and leaving them when it has ended.
//!
//! What a container has of the host is a guard, [`Joined`]: it is given back in order when the run's machine has ended,
//! and by itself wherever a start fails. Only a daemon that dies leaves it, to the next one.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, PoisonError};

use ipnet::IpNet;

use super::super::container::Container;
use super::super::error::EngineError;
use super::super::identity::ContainerId;
use super::connect::check;
use super::endpoint::{
    Endpoint, EndpointNames, EndpointSpec, PortBinding, PublishedPort, bindings, mac_of, port_carrier,
};
use super::network::{NetworkDriver, Reach};
use super::rates::rates;
use super::view::StationView;
use super::{ActiveNetwork, Networks};
use crate::network::firewall::{Neighbours, Publication, Station};
use crate::network::host::Card;
use crate::network::ports::ReservedPort;

/// A container's places on networks, for as long as its run lasts.
#[derive(Debug)]
pub(in crate::engine) struct Joined {
    pub(super) networks: Arc<Networks>,
    pub(super) container: ContainerId,
    pub(super) endpoints: Vec<Endpoint>,
    /// Nobody else gets them meanwhile.
    pub(super) ports: Vec<ReservedPort>,
}

impl Drop for Joined {
    fn drop(&mut self) {
        let rest = self.take();
        if rest.is_empty() {
            return;
        }
        let networks = Arc::clone(&self.networks);
        let container = self.container.clone();
        tokio::spawn(async move { networks.leave(&container, &rest).await });
    }
}

impl Joined {
    pub(in crate::engine) fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// To its clients the container has ended; the machine will.
    pub(in crate::engine) fn will_leave(&self) {
        if !self.endpoints.is_empty() {
            self.networks.leaving.begin(&self.container);
        }
    }

    /// Gives everything back. To be called when the machine has ended.
    pub(in crate::engine) async fn leave(mut self) {
        let endpoints = self.take();
        self.networks.leave(&self.container, &endpoints).await;
    }

    fn take(&mut self) -> Vec<Endpoint> {
        self.ports.clear();
        std::mem::take(&mut self.endpoints)
    }
}

impl Networks {
    /// Joins every network that the container asks for, and publishes its ports.
    ///
    /// # Errors
    /// A network that is not there, an address or a port that somebody has, or what the host answered. Nothing is held
    /// then.
    pub(in crate::engine) async fn join(
        self: &Arc<Self>,
        container: &Container,
    ) -> Result<Joined, EngineError> {
        let joined = match self.try_join(container).await {
            // It may have been in the way.
            Err(_refused) if self.leaving.wait(|_anybody| true).await => self.try_join(container).await,
            outcome => outcome,
        };
        // In Docker's words.
        joined.map_err(|error| {
            let message = format!("failed to set up container networking: {}", error.message);
            EngineError { message, ..error }
        })
    }

    async fn try_join(self: &Arc<Self>, container: &Container) -> Result<Joined, EngineError> {
        let spec = container.spec();
        let mut joined = self.nothing_joined(&container.id);
        for (number, (word, wanted)) in spec.network.wanted().into_iter().enumerate() {
            let network = self.find(&word)?;
            if network.network.driver != NetworkDriver::Bridge {
                let message = "container cannot be connected to multiple networks with one of the networks in private (none) or host mode";
                return Err(super::forbidden(message));
            }
            self.check_joinable(&network.network.name)?;
            check(&network.network, &wanted)?;
            let endpoint = self.join_one(&network, container, &wanted, number).await?;
            joined.endpoints.push(endpoint);
        }
        self.publish(&mut joined, container, &bindings(&spec)).await?;
        Ok(joined)
    }

    fn nothing_joined(self: &Arc<Self>, container: &ContainerId) -> Joined {
        let networks = Arc::clone(self);
        Joined { networks, container: container.clone(), endpoints: Vec::new(), ports: Vec::new() }
    }

    /// `number` is that of the container's interface, and of its machine's card.
    pub(super) async fn join_one(
        &self,
        active: &Arc<ActiveNetwork>,
        container: &Container,
        wanted: &EndpointSpec,
        number: usize,
    ) -> Result<Endpoint, EngineError> {
        let network = &active.network;
        let host = if self.is_user_mode() { None } else { Some(self.host().await?) };
        let rates = rates(&network.options, &wanted.driver_options)?;
        let endpoint_id = hex::encode(rand::random::<[u8; 32]>());
        let card = host.map(|host| host.card_name(&endpoint_id)).unwrap_or_default();
        let addresses = self.occupy(active, container, wanted, &endpoint_id, card.clone())?;
        let endpoint = Endpoint {
            network: network.id.clone(),
            network_name: network.name.clone(),
            card,
            id: endpoint_id,
            machine_card: number,
            interface: format!("{}{number}", network.bridge.container_interface_prefix),
            mac: wanted.mac.unwrap_or_else(|| mac_of(&addresses)),
            gateways: match network.reach {
                Reach::Open => network.subnets.iter().map(|subnet| subnet.gateway).collect(),
                Reach::Internal => Vec::new(),
            },
            addresses,
            mtu_bytes: network.bridge.mtu_bytes,
            rates,
            is_user_mode: host.is_none(),
            is_lost: false,
            published: Vec::new(),
            names: EndpointNames::of(container, wanted),
            gateway_priority: wanted.gateway_priority,
            is_changing: false,
        };
        let Some(host) = host else { return Ok(endpoint) };
        let plugged = host.plug(&active.card(&endpoint)).await;
        if let Err(error) = plugged {
            self.leave(&container.id, std::slice::from_ref(&endpoint)).await;
            let message = format!("cannot connect container {} to network {}", container.id, network.name);
            return Err(EngineError::internal(&message, &error));
        }
        Ok(endpoint)
    }

    /// Takes a place among the network's stations, with its addresses. A network that is removed meanwhile is not there
    /// any more.
    fn occupy(
        &self,
        network: &ActiveNetwork,
        container: &Container,
        wanted: &EndpointSpec,
        endpoint_id: &str,
        card: String,
    ) -> Result<Vec<IpNet>, EngineError> {
        let active = self.active();
        if !active.contains_key(&network.network.id) {
            return Err(EngineError::not_found(format!("network {} not found", network.network.name)));
        }
        let mut stations = network.stations();
        let addresses = network.allocate(wanted)?;
        let station = StationView {
            endpoint_id: endpoint_id.to_owned(),
            container_name: container.name(),
            card,
            mac: wanted.mac.unwrap_or_else(|| mac_of(&addresses)),
            addresses: addresses.clone(),
            names: EndpointNames::of(container, wanted),
        };
        stations.insert(container.id.clone(), station);
        Ok(addresses)
    }

    /// Publishes ports on the endpoint that has the default route.
    pub(super) async fn publish(
        &self,
        joined: &mut Joined,
        container: &Container,
        bindings: &[PortBinding],
    ) -> Result<(), EngineError> {
        if self.is_user_mode() {
            return self.publish_by_gateway(joined, container, bindings);
        }
        let Some(carrier) = port_carrier(&joined.endpoints) else { return Ok(()) };
        let endpoint = &mut joined.endpoints[carrier];
        let fallback = self.find(endpoint.network.as_str())?.network.bridge.host_binding;
        for binding in bindings {
            for address in host_addresses(binding.host_address.or(fallback)) {
                let taken = take_port(binding, address, &joined.ports);
                let mut port =
                    taken.map_err(|error| port_error(container, endpoint, binding, address, &error))?;
                let to =
                    endpoint.ipv4().or(endpoint.ipv6()).map(|net| SocketAddr::new(net.addr(), binding.port));
                if let Some(to) = to {
                    port.serve(to);
                }
                endpoint.published.push(PublishedPort {
                    protocol: binding.protocol,
                    host: port.address(),
                    port: binding.port,
                });
                joined.ports.push(port);
            }
        }
        let publications = publications(endpoint);
        let led = self.host().await?.publish(publications).await;
        led.map_err(|error| {
            EngineError::internal(&format!("cannot publish ports of container {}", container.id), &error)
        })
    }

    /// Keeps the addresses of a container that runs, or is thought to, for it, before anybody else is given any.
    pub(in crate::engine) fn keep(&self, container: &ContainerId, name: &str, endpoints: &[Endpoint]) {
        for endpoint in endpoints {
            if let Some(network) = self.active().get(&endpoint.network) {
                network.keep(container, name, endpoint);
            }
        }
    }

    /// Takes over what was [kept](Self::keep) for a container that does run.
    pub(in crate::engine) async fn rejoin(
        self: &Arc<Self>,
        container: &ContainerId,
        endpoints: Vec<Endpoint>,
    ) -> Joined {
        let mut joined = self.nothing_joined(container);
        for endpoint in with_cards(endpoints) {
            if let Err(error) = self.rejoin_one(&mut joined.ports, &endpoint).await {
                tracing::warn!(%container, network = endpoint.network_name, %error, "a network does not have its container again");
            }
            joined.endpoints.push(endpoint);
        }
        joined
    }

    async fn rejoin_one(
        &self,
        ports: &mut Vec<ReservedPort>,
        endpoint: &Endpoint,
    ) -> Result<(), EngineError> {
        if endpoint.is_user_mode {
            // Its ports are its stack's, which has outlived the daemon as well.
            return Ok(());
        }
        let network = self.find(endpoint.network.as_str())?;
        let failed = |error| EngineError::internal("its rules", &error);
        let host = self.host().await?;
        host.admit(&network.card(endpoint)).await.map_err(failed)?;
        host.publish(publications(endpoint)).await.map_err(failed)?;
        for published in &endpoint.published {
            let taken = ReservedPort::take(published.protocol, published.host);
            let mut port =
                taken.map_err(|error| EngineError::internal(&format!("port {}", published.host), &error))?;
            if let Some(net) = endpoint.ipv4().or(endpoint.ipv6()) {
                port.serve(SocketAddr::new(net.addr(), published.port));
            }
            ports.push(port);
        }
        Ok(())
    }

    /// Gives back what a container's run had, or what was [kept](Self::keep) for one that does not run any more.
    pub(in crate::engine) async fn leave(&self, container: &ContainerId, endpoints: &[Endpoint]) {
        self.give_back_reserved(container);
        for endpoint in endpoints {
            let network = self.active().get(&endpoint.network).cloned();
            // A network is not removed while somebody is on it.
            let Some(network) = network else { continue };
            if let Some(host) = self.host.get().filter(|_| !endpoint.is_user_mode) {
                let unpublished = host.unpublish(publications(endpoint)).await;
                let unplugged = host.unplug(&network.card(endpoint).station).await;
                if let Err(error) = unpublished.and(unplugged) {
                    tracing::warn!(%container, network = endpoint.network_name, %error, "cannot leave a network");
                }
            }
            network.vacate(container, endpoint);
        }
        self.leaving.end(container);
    }
}

impl ActiveNetwork {
    fn allocate(&self, wanted: &EndpointSpec) -> Result<Vec<IpNet>, EngineError> {
        let mut ranges = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let mut given: Vec<IpNet> = Vec::new();
        for index in 0..ranges.len() {
            let subnet = ranges[index].subnet();
            let fixed = if subnet.addr().is_ipv4() { wanted.ipv4 } else { wanted.ipv6 };
            let address = match fixed {
                Some(address) => ranges[index].take(address).map(|()| address),
                None => ranges[index].lowest(),
            };
            match address {
                Ok(address) => given.extend(IpNet::new(address, subnet.prefix_len())),
                Err(error) => {
                    for (range, net) in ranges.iter_mut().zip(&given) {
                        range.give_back(net.addr());
                    }
                    return Err(EngineError::invalid(error.to_string()));
                }
            }
        }
        Ok(given)
    }

    fn keep(&self, container: &ContainerId, name: &str, endpoint: &Endpoint) {
        let mut ranges = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        for net in &endpoint.addresses {
            for range in ranges.iter_mut().filter(|range| range.subnet().contains(&net.addr())) {
                // Nobody else can have it: no container has been started yet.
                let _taken = range.take(net.addr());
            }
        }
        let station = StationView {
            endpoint_id: endpoint.id.clone(),
            container_name: name.into(),
            card: endpoint.card.clone(),
            mac: endpoint.mac,
            addresses: endpoint.addresses.clone(),
            names: endpoint.names.clone(),
        };
        self.stations().insert(container.clone(), station);
    }

    fn vacate(&self, container: &ContainerId, endpoint: &Endpoint) {
        self.stations().remove(container);
        let mut ranges = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        for net in &endpoint.addresses {
            for range in ranges.iter_mut().filter(|range| range.subnet().contains(&net.addr())) {
                range.give_back(net.addr());
            }
        }
    }

    fn card(&self, endpoint: &Endpoint) -> Card {
        let neighbours = if self.network.bridge.icc { Neighbours::Connected } else { Neighbours::Isolated };
        let link_local = endpoint.ipv6().map(|_| IpAddr::V6(link_local(endpoint.mac)));
        Card {
            bridge: self.network.bridge.name.clone(),
            mtu: self.network.bridge.mtu_bytes.into(),
            station: Station {
                card: endpoint.card.clone(),
                mac: endpoint.mac,
                addresses: endpoint.addresses.iter().map(IpNet::addr).chain(link_local).collect(),
                neighbours,
            },
        }
    }
}

/// A daemon that connected nothing to what runs did not say which card is whose: the first is the first.
fn with_cards(mut endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
    let different: HashSet<_> = endpoints.iter().map(|endpoint| endpoint.machine_card).collect();
    if different.len() < endpoints.len() {
        for (number, endpoint) in endpoints.iter_mut().enumerate() {
            endpoint.machine_card = number;
        }
    }
    endpoints
}

/// The address that an interface gives itself (RFC 4291, appendix A).
fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// Where a port is published: one address, or all of both versions.
fn host_addresses(asked: Option<IpAddr>) -> Vec<IpAddr> {
    match asked {
        Some(address) => vec![address],
        None => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
    }
}

/// The first free port of those that are asked for. A port of IPv6 has the number of the one of IPv4 before it.
pub(super) fn take_port(
    binding: &PortBinding,
    address: IpAddr,
    taken: &[ReservedPort],
) -> io::Result<ReservedPort> {
    let before = taken.last().filter(|_| binding.host_address.is_none() && address.is_ipv6());
    let (first, last) = match (before, binding.host_ports) {
        (Some(before), _) => (before.address().port(), before.address().port()),
        (None, Some(range)) => range,
        (None, None) => (0, 0),
    };
    let mut outcome = Err(io::ErrorKind::AddrInUse.into());
    for port in first..=last {
        outcome = ReservedPort::take(binding.protocol, SocketAddr::new(address, port));
        if outcome.as_ref().err().is_none_or(|error| error.kind() != io::ErrorKind::AddrInUse) {
            break;
        }
    }
    outcome
}

/// In Docker's words.
pub(super) fn port_error(
    container: &Container,
    endpoint: &Endpoint,
    binding: &PortBinding,
    address: IpAddr,
    error: &io::Error,
) -> EngineError {
    let (first, last) = binding.host_ports.unwrap_or_default();
    let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
    let reason = match error.kind() {
        io::ErrorKind::AddrInUse => "address already in use".to_owned(),
        _ => error.to_string(),
    };
    let host = match address {
        IpAddr::V4(address) => format!("{address}:{ports}"),
        IpAddr::V6(address) => format!("[{address}]:{ports}"),
    };
    let (name, id, protocol) = (container.name(), &endpoint.id, binding.protocol);
    EngineError::new(
        super::ErrorKind::Internal,
        format!(
            "driver failed programming external connectivity on endpoint {name} \
             ({id}): failed to bind host port {host}/{protocol}: {reason}"
        ),
    )
}

/// What the packet filter can lead: ports and addresses of the same version.
pub(super) fn publications(endpoint: &Endpoint) -> Vec<Publication> {
    let lead = |published: &PublishedPort| {
        let to = if published.host.is_ipv4() { endpoint.ipv4() } else { endpoint.ipv6() };
        to.map(|net| Publication {
            protocol: published.protocol,
            host_address: published.host.ip(),
            host_port: published.host.port(),
            address: net.addr(),
            port: published.port,
        })
    };
    endpoint.published.iter().filter_map(lead).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_local_address_comes_of_the_mac_address() {
        assert_eq!(link_local([0x02, 0x42, 0xac, 0x11, 0, 2]).to_string(), "fe80::42:acff:fe11:2");
    }
}
