//! A container's places on networks: what is asked for, and what it has while it runs.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use berth_vmm::config::CardRates;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::super::container::Container;
use super::super::launch::hostname;
use super::super::spec::ContainerSpec;
use super::network::NetworkId;
use crate::network::firewall::Protocol;

/// What a container has of a network's kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// The network `bridge` where there is one, loopback alone where not.
    #[default]
    Default,
    /// Loopback alone.
    None,
    /// The network namespace of its machine.
    Machine,
    /// The network namespace of this container, by name or id.
    Container(String),
    /// This network, by name or id, and perhaps others.
    Network(String),
}

/// What a container calls another one, and nobody else does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// By name or id.
    pub container: String,
    pub alias: String,
}

/// What a container asks of one network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointSpec {
    /// Names beside its own that others of the network find it by.
    pub aliases: Vec<String>,
    /// Others of the network, as it calls them.
    pub links: Vec<Link>,
    pub ipv4: Option<IpAddr>,
    pub ipv6: Option<IpAddr>,
    pub mac: Option<[u8; 6]>,
    /// Of all endpoints, the highest has the default route.
    pub gateway_priority: i64,
    /// How fast it may be, as it was asked for.
    #[serde(default)]
    pub driver_options: BTreeMap<String, String>,
}

/// A port to publish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortBinding {
    pub protocol: Protocol,
    pub port: u16,
    /// All of the host's, or what the network says, if unset.
    pub host_address: Option<IpAddr>,
    /// First and last; the first that is free is taken. Any if unset.
    pub host_ports: Option<(u16, u16)>,
}

/// What a container asks of networks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkSpec {
    pub mode: NetworkMode,
    /// By the word that the client has for the network.
    pub endpoints: BTreeMap<String, EndpointSpec>,
    pub published: Vec<PortBinding>,
    /// Every exposed port is published, on a host's port that is free.
    pub publish_all: bool,
    pub dns: DnsSpec,
    /// Others of the default network, which are lines of /etc/hosts.
    pub links: Vec<Link>,
    /// The container was disconnected from what its mode says.
    pub has_left_mode: bool,
}

/// Lines of a container's resolv.conf in place of the host's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DnsSpec {
    pub servers: Vec<IpAddr>,
    pub search: Vec<String>,
    pub options: Vec<String>,
}

/// How a container is found on a network beside its name, which may change, and how it finds others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointNames {
    /// Aliases, the beginning of its id, its host name.
    pub own: Vec<String>,
    pub links: Vec<Link>,
}

/// A container's place on a network, for as long as a run lasts. Kept in its record: the next daemon takes over what
/// it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub network: NetworkId,
    pub network_name: String,
    /// 64 hex digits.
    pub id: String,
    /// The host's end of its card.
    pub card: String,
    /// Which of its machine's cards that is, in guest order.
    #[serde(default)]
    pub machine_card: usize,
    /// What the container calls its end.
    pub interface: String,
    pub mac: [u8; 6],
    /// At most one of each version, with its subnet's prefix.
    pub addresses: Vec<IpNet>,
    /// Where packets for elsewhere go; none of a network that leads nowhere.
    pub gateways: Vec<IpAddr>,
    pub mtu_bytes: u16,
    #[serde(default)]
    pub rates: CardRates,
    /// There is no card: the machine's own network stack has the addresses and the ports.
    #[serde(default)]
    pub is_user_mode: bool,
    /// That stack has ended, and the machine goes on without it.
    #[serde(default)]
    pub is_lost: bool,
    pub published: Vec<PublishedPort>,
    #[serde(default)]
    pub names: EndpointNames,
    #[serde(default)]
    pub gateway_priority: i64,
    /// It is being connected or disconnected: a daemon that finds it so ends it.
    #[serde(default)]
    pub is_changing: bool,
}

/// A port of the host's that leads to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    pub protocol: Protocol,
    pub host: SocketAddr,
    pub port: u16,
}

impl Endpoint {
    #[must_use]
    pub fn ipv4(&self) -> Option<IpNet> {
        self.addresses.iter().find(|net| net.addr().is_ipv4()).copied()
    }

    #[must_use]
    pub fn ipv6(&self) -> Option<IpNet> {
        self.addresses.iter().find(|net| net.addr().is_ipv6()).copied()
    }

    #[must_use]
    pub fn gateway(&self, is_it: impl Fn(&IpAddr) -> bool) -> Option<IpAddr> {
        self.gateways.iter().copied().find(is_it)
    }
}

impl EndpointNames {
    pub(super) fn of(container: &Container, wanted: &EndpointSpec) -> Self {
        let mut own = Vec::new();
        let always = [container.id.short().to_owned(), hostname(container)];
        for name in wanted.aliases.iter().cloned().chain(always) {
            if !own.contains(&name) {
                own.push(name);
            }
        }
        Self { own, links: wanted.links.clone() }
    }
}

impl NetworkSpec {
    /// The networks to join: by priority, then the mode's, then by name.
    pub(super) fn wanted(&self) -> Vec<(String, EndpointSpec)> {
        let mode = self.network_of_mode();
        let mut wanted = self.endpoints.clone();
        if let Some(mode) = mode {
            wanted.entry(mode.to_owned()).or_default();
        }
        let mut wanted: Vec<_> = wanted.into_iter().collect();
        wanted.sort_by_key(|(name, spec)| (Reverse(spec.gateway_priority), Some(name.as_str()) != mode));
        wanted
    }

    /// What of networks its mode alone gives it, unless it has left that.
    fn network_of_mode(&self) -> Option<&str> {
        match &self.mode {
            _ if self.has_left_mode => None,
            NetworkMode::None | NetworkMode::Machine | NetworkMode::Container(_) => None,
            NetworkMode::Default => Some("bridge"),
            NetworkMode::Network(name) => Some(name),
        }
    }

    /// As clients call what it is on, or would be on if it ran: those of its mode first.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mode = match &self.mode {
            _ if self.has_left_mode => None,
            // Whoever is on another's is on none.
            NetworkMode::Container(_) => None,
            NetworkMode::Default => Some("default"),
            NetworkMode::None => Some("none"),
            NetworkMode::Machine => Some("host"),
            NetworkMode::Network(name) => Some(name.as_str()),
        };
        let others = self.endpoints.keys().map(String::as_str).filter(|name| Some(*name) != mode);
        mode.into_iter().chain(others).collect()
    }
}

/// The default routes of who is on these networks: by which of them, and to whom. For each version of IP that network has
/// it which leads anywhere and has the highest priority, and of equals the one whose name comes first.
pub(in crate::engine) fn default_routes(endpoints: &[Endpoint]) -> Vec<(usize, IpAddr)> {
    let versions: [fn(&IpAddr) -> bool; 2] = [IpAddr::is_ipv4, IpAddr::is_ipv6];
    let route = |is_it: fn(&IpAddr) -> bool| {
        let leading = endpoints
            .iter()
            .enumerate()
            .filter_map(|(number, endpoint)| Some((number, endpoint, endpoint.gateway(is_it)?)));
        let first = leading
            .min_by_key(|(_, endpoint, _)| (Reverse(endpoint.gateway_priority), &endpoint.network_name));
        first.map(|(number, _, gateway)| (number, gateway))
    };
    versions.into_iter().filter_map(route).collect()
}

/// Which of them published ports lead to: the one with the default route, of IPv4 if there is any.
pub(super) fn port_carrier(endpoints: &[Endpoint]) -> Option<usize> {
    default_routes(endpoints).first().map(|(number, _)| *number)
}

/// Ports to publish, with those that come of publishing all.
pub(super) fn bindings(spec: &ContainerSpec) -> Vec<PortBinding> {
    let mut bindings = spec.network.published.clone();
    if spec.network.publish_all {
        for exposed in &spec.exposed_ports {
            let Some((port, protocol)) = exposed_port(exposed) else { continue };
            if !bindings.iter().any(|binding| (binding.port, binding.protocol) == (port, protocol)) {
                bindings.push(PortBinding { protocol, port, host_address: None, host_ports: None });
            }
        }
    }
    bindings
}

/// "80/tcp".
fn exposed_port(text: &str) -> Option<(u16, Protocol)> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    Some((port.parse().ok()?, protocol.parse().ok()?))
}

/// As Docker makes it where nobody chose: it tells the address of IPv4, so that whoever takes over the address is found
/// at the same MAC address.
pub(super) fn mac_of(addresses: &[IpNet]) -> [u8; 6] {
    match addresses.iter().map(IpNet::addr).find(IpAddr::is_ipv4) {
        Some(IpAddr::V4(address)) => {
            let [a, b, c, d] = address.octets();
            [0x02, 0x42, a, b, c, d]
        }
        _ => {
            let [_, b, c, d, e, f] = rand::random::<[u8; 6]>();
            [0x02, b, c, d, e, f]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(spec: &NetworkSpec) -> Vec<String> {
        spec.wanted().into_iter().map(|(name, _)| name).collect()
    }

    fn endpoints(list: &[(&str, i64)]) -> BTreeMap<String, EndpointSpec> {
        let spec = |priority| EndpointSpec { gateway_priority: priority, ..EndpointSpec::default() };
        list.iter().map(|(name, priority)| ((*name).to_owned(), spec(*priority))).collect()
    }

    #[test]
    fn the_network_of_the_mode_comes_first_unless_another_has_priority() {
        let mode = NetworkMode::Network("web".into());
        let spec = NetworkSpec {
            mode,
            endpoints: endpoints(&[("db", 0), ("web", 0), ("z", 1)]),
            ..Default::default()
        };
        assert_eq!(names(&spec), ["z", "web", "db"]);
        assert_eq!(names(&NetworkSpec::default()), ["bridge"]);
        let none = NetworkSpec { mode: NetworkMode::None, ..NetworkSpec::default() };
        assert_eq!(names(&none), [""; 0]);
    }

    #[test]
    fn what_was_left_is_not_wanted_and_what_came_later_is() {
        let web = NetworkMode::Network("web".into());
        for (mode, name) in [(web, "web"), (NetworkMode::None, "none"), (NetworkMode::Default, "default")] {
            let spec = NetworkSpec { mode, ..NetworkSpec::default() };
            assert_eq!(spec.names(), [name]);
            let mut left = NetworkSpec { has_left_mode: true, ..spec };
            assert_eq!((names(&left), left.names()), (vec![], vec![]));
            left.endpoints = endpoints(&[("db", 0)]);
            assert_eq!((names(&left), left.names()), (vec!["db".to_owned()], vec!["db"]));
        }
    }

    fn endpoint(network: &str, gateways: &[&str], gateway_priority: i64) -> Endpoint {
        let json = serde_json::json!({
            "network": "", "network_name": network, "id": "", "card": "", "interface": "", "mac": [2, 0, 0, 0, 0, 1],
            "addresses": [], "gateways": gateways, "mtu_bytes": 1500, "published": [],
        });
        Endpoint { gateway_priority, ..serde_json::from_value(json).unwrap() }
    }

    #[test]
    fn each_version_has_its_way_out_by_priority_and_name() {
        let closed = endpoint("a", &[], 9);
        let (web, db) = (endpoint("web", &["10.1.0.1"], 0), endpoint("db", &["10.2.0.1", "fd00::1"], 0));
        let (v4, v6): (IpAddr, IpAddr) = ([10, 2, 0, 1].into(), "fd00::1".parse().unwrap());
        let all = [closed.clone(), web.clone(), db.clone()];
        assert_eq!((default_routes(&all), port_carrier(&all)), (vec![(2, v4), (2, v6)], Some(2)));
        let first = [Endpoint { gateway_priority: 1, ..web }, db];
        assert_eq!(default_routes(&first), [(0, [10, 1, 0, 1].into()), (1, v6)]);
        assert_eq!(port_carrier(&first), Some(0));
        let only = [closed];
        assert_eq!((default_routes(&only), port_carrier(&only)), (vec![], None));
    }

    #[test]
    fn publishing_all_leaves_what_was_published_by_name() {
        let published = PortBinding {
            protocol: Protocol::Tcp,
            port: 80,
            host_address: None,
            host_ports: Some((8080, 8080)),
        };
        let spec = ContainerSpec {
            exposed_ports: vec!["80/tcp".into(), "53/udp".into(), "80".into(), "x/tcp".into()],
            network: NetworkSpec {
                published: vec![published.clone()],
                publish_all: true,
                ..Default::default()
            },
            ..ContainerSpec::default()
        };
        let any = PortBinding { protocol: Protocol::Udp, port: 53, host_address: None, host_ports: None };
        assert_eq!(bindings(&spec), [published, any]);
    }

    #[test]
    fn a_mac_address_tells_the_address() {
        assert_eq!(mac_of(&["172.17.0.2/16".parse().unwrap()]), [0x02, 0x42, 172, 17, 0, 2]);
        assert_eq!(mac_of(&["fd00::2/64".parse().unwrap()])[0], 2);
    }
}
