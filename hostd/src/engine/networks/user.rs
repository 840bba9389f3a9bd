//! Networks without privilege: what they are where the daemon may make neither bridges nor cards.
//!
//! Each machine has a network stack of its own then, a process that speaks for it with sockets of the host's. So there is
//! one network, `bridge`, on which every container is alone with its gateway: it reaches what the daemon's user reaches,
//! and is reached at published ports. What takes containers that reach each other is refused, and says why.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{MutexGuard, PoisonError};

use rustix::thread::CapabilitySet;
use serde::Deserialize;

use super::super::container::Container;
use super::super::error::EngineError;
use super::super::identity::ContainerId;
use super::endpoint::{Endpoint, PortBinding, PublishedPort};
use super::join::{Joined, port_error, take_port};
use super::{Networks, forbidden};
use crate::machine::{Forward, GatewayRequest};
use crate::network::firewall::Protocol;
use crate::network::ports::ReservedPort;

const DEFAULT_NETWORK: &str = "bridge";
const FIX: &str = "run berthd as root, with --network-backend bridge";

/// What carries networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum NetworkBackend {
    /// Bridges of the host's.
    Bridge,
    /// A network stack for each machine.
    User,
}

impl NetworkBackend {
    /// The one that this process has the rights for.
    #[must_use]
    pub fn of_own_rights() -> Self {
        let own = rustix::thread::capabilities(None);
        let may = own.is_ok_and(|own| own.effective.contains(CapabilitySet::NET_ADMIN));
        if may { Self::Bridge } else { Self::User }
    }

    /// As the flag has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::User => "user",
        }
    }

    /// As `info` says it to people.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::Bridge => "bridges of the host",
            Self::User => "user mode (passt)",
        }
    }
}

impl Networks {
    pub(super) fn is_user_mode(&self) -> bool {
        self.policy.backend == NetworkBackend::User
    }

    /// # Errors
    /// `what` takes bridges, and there are none.
    pub(super) fn refuse_in_user_mode(&self, what: &str) -> Result<(), EngineError> {
        if !self.is_user_mode() {
            return Ok(());
        }
        Err(forbidden(format!(
            "{what} is not possible: networks are in user mode here, where each container is alone on the network \
             {DEFAULT_NETWORK}, because the daemon may make no bridges; {FIX}"
        )))
    }

    /// # Errors
    /// It is not the one network that there is.
    pub(super) fn check_joinable(&self, network: &str) -> Result<(), EngineError> {
        if network == DEFAULT_NETWORK {
            return Ok(());
        }
        self.refuse_in_user_mode(&format!("joining network {network}"))
    }

    /// What is to be known of networks in user mode.
    pub(super) fn user_mode_warning(&self) -> Option<String> {
        self.is_user_mode().then(|| {
            format!(
                "networks are in user mode (passt): containers do not reach each other but by published ports, there are no \
                 networks but {DEFAULT_NETWORK}, and no IPv6; {FIX}"
            )
        })
    }

    /// Chooses the host's ports, which the container's network stack will have. Until it does, nobody else gets them.
    pub(super) fn publish_by_gateway(
        &self,
        joined: &mut Joined,
        container: &Container,
        bindings: &[PortBinding],
    ) -> Result<(), EngineError> {
        let Some(endpoint) = joined.endpoints.first_mut() else { return Ok(()) };
        let mut reserved: Vec<ReservedPort> = Vec::new();
        for binding in bindings {
            let address = binding.host_address.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
            check_possible(binding, address)?;
            let taken = take_port(binding, address, &reserved);
            let port = taken.map_err(|error| port_error(container, endpoint, binding, address, &error))?;
            check_is_alone(&port, &reserved)?;
            let (protocol, host) = (binding.protocol, port.address());
            endpoint.published.push(PublishedPort { protocol, host, port: binding.port });
            reserved.push(port);
        }
        self.reserved().insert(container.id.clone(), reserved);
        Ok(())
    }

    /// What the container's machine has in the place of an interface; nothing if it has one, or no network.
    pub(in crate::engine) fn gateway(
        &self,
        container: &ContainerId,
        endpoints: &[Endpoint],
    ) -> Option<GatewayRequest> {
        let endpoint = endpoints.first().filter(|endpoint| endpoint.is_user_mode)?;
        let guest = endpoint.ipv4()?;
        let (IpAddr::V4(address), Some(IpAddr::V4(gateway))) =
            (guest.addr(), endpoint.gateway(IpAddr::is_ipv4))
        else {
            return None;
        };
        Some(GatewayRequest {
            guest: address,
            prefix_length: guest.prefix_len(),
            address: gateway,
            forwards: endpoint.published.iter().filter_map(forward).collect(),
            reserved: self.reserved().remove(container).unwrap_or_default(),
        })
    }

    /// A container that got no machine does not keep its ports.
    pub(super) fn give_back_reserved(&self, container: &ContainerId) {
        self.reserved().remove(container);
    }

    fn reserved(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Vec<ReservedPort>>> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forward(published: &PublishedPort) -> Option<Forward> {
    let SocketAddr::V4(host) = published.host else { return None };
    Some(Forward { protocol: published.protocol, host, port: published.port })
}

/// # Errors
/// What the stack does not carry.
fn check_possible(binding: &PortBinding, address: IpAddr) -> Result<(), EngineError> {
    let impossible = |what: String| {
        Err(forbidden(format!("{what} cannot be published: networks are in user mode here; {FIX}")))
    };
    if binding.protocol == Protocol::Sctp {
        return impossible(format!("port {}/sctp", binding.port));
    }
    if address.is_ipv6() {
        return impossible(format!("port {} at the address {address} of IPv6", binding.port));
    }
    Ok(())
}

/// # Errors
/// The stack tells ports apart by their numbers alone.
fn check_is_alone(port: &ReservedPort, before: &[ReservedPort]) -> Result<(), EngineError> {
    let same = |other: &&ReservedPort| {
        (other.protocol(), other.address().port()) == (port.protocol(), port.address().port())
    };
    match before.iter().find(same) {
        Some(other) => Err(forbidden(format!(
            "port {} of the host cannot be published at both {} and {}: networks are in user mode here; {FIX}",
            port.address().port(),
            other.address().ip(),
            port.address().ip()
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DefaultBridge, DnsSpec, EndpointNames, NetworkId, NetworkPolicy};
    use super::*;
    use crate::database::Database;
    use crate::network::pools::AddressPools;

    fn networks(backend: NetworkBackend) -> (tempfile::TempDir, Networks) {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(&directory.path().join("berth.db")).unwrap();
        let policy = NetworkPolicy {
            backend,
            default_bridge: DefaultBridge::Network { interface: "berth0".into(), address: None, icc: true },
            pools: AddressPools::default(),
            mtu_bytes: 65_520,
            daemon_ports: Vec::new(),
            dns: DnsSpec::default(),
            host_gateways: Vec::new(),
        };
        (directory, Networks::new(policy, "00000000".into(), database))
    }

    #[tokio::test]
    async fn there_is_the_default_network_and_what_takes_others_says_the_fix() {
        let (_directory, networks) = networks(NetworkBackend::User);
        networks.recover(Vec::new()).await.unwrap();
        let default = networks.find("bridge").unwrap();
        assert!(default.network.has_ipv4() && !default.network.has_ipv6());
        assert!(networks.host.get().is_none(), "the host has nothing of it");
        let message = networks.check_joinable("web").unwrap_err().message;
        assert!(message.contains("joining network web") && message.contains("--network-backend bridge"));
        assert_eq!(networks.check_joinable("bridge"), Ok(()));
        assert!(networks.warning().is_some_and(|warning| warning.contains("user mode")));
    }

    #[test]
    fn with_bridges_nothing_is_refused() {
        let (_directory, networks) = networks(NetworkBackend::Bridge);
        assert_eq!(networks.check_joinable("web"), Ok(()));
        assert_eq!(networks.warning(), None);
    }

    fn binding(protocol: Protocol) -> PortBinding {
        PortBinding { protocol, port: 80, host_address: None, host_ports: None }
    }

    #[tokio::test]
    async fn what_the_stack_does_not_carry_is_refused_by_name() {
        let any = Ipv4Addr::UNSPECIFIED.into();
        assert_eq!(check_possible(&binding(Protocol::Udp), any), Ok(()));
        let message = check_possible(&binding(Protocol::Sctp), any).unwrap_err().message;
        assert!(message.starts_with("port 80/sctp cannot be published"), "{message}");
        let message = check_possible(&binding(Protocol::Tcp), "::1".parse().unwrap()).unwrap_err().message;
        assert!(message.contains("address ::1 of IPv6"), "{message}");

        let take = |protocol, address: &str| ReservedPort::take(protocol, address.parse().unwrap());
        let first = take(Protocol::Tcp, "127.0.0.1:0").unwrap();
        let number = first.address().port();
        let second = take(Protocol::Tcp, &format!("127.0.0.2:{number}")).unwrap();
        let other = take(Protocol::Udp, &format!("127.0.0.2:{number}")).unwrap();
        let before = [first];
        assert_eq!(check_is_alone(&other, &before), Ok(()));
        let message = check_is_alone(&second, &before).unwrap_err().message;
        assert!(message.contains("at both 127.0.0.1 and 127.0.0.2"), "{message}");
    }

    #[tokio::test]
    async fn a_container_that_gets_no_machine_gives_its_ports_back() {
        let (_directory, networks) = networks(NetworkBackend::User);
        let container = ContainerId::random();
        let port = ReservedPort::take(Protocol::Tcp, "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = port.address();
        networks.reserved().insert(container.clone(), vec![port]);
        assert!(ReservedPort::take(Protocol::Tcp, address).is_err());
        networks.leave(&container, &[]).await;
        ReservedPort::take(Protocol::Tcp, address).unwrap();

        let endpoint = Endpoint {
            network: NetworkId::random(),
            network_name: "bridge".into(),
            id: "0".repeat(64),
            card: String::new(),
            interface: "eth0".into(),
            mac: [2; 6],
            addresses: vec!["172.17.0.2/16".parse().unwrap()],
            gateways: vec![[172, 17, 0, 1].into()],
            mtu_bytes: 65_520,
            rates: berth_vmm::config::CardRates::default(),
            is_user_mode: true,
            is_lost: false,
            published: vec![PublishedPort { protocol: Protocol::Tcp, host: address, port: 80 }],
            names: EndpointNames::default(),
            gateway_priority: 0,
            machine_card: 0,
            is_changing: false,
        };
        let request = networks.gateway(&container, std::slice::from_ref(&endpoint)).unwrap();
        assert_eq!((request.prefix_length, request.forwards.len()), (16, 1));
        let on_bridge = Endpoint { is_user_mode: false, ..endpoint };
        assert!(networks.gateway(&container, &[on_bridge]).is_none());
    }
}
