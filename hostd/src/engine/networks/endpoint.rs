//! A container's places on networks: what is asked for, and what it has while it runs.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

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
    /// What the container calls its end.
    pub interface: String,
    pub mac: [u8; 6],
    /// At most one of each version, with its subnet's prefix.
    pub addresses: Vec<IpNet>,
    /// Where packets for elsewhere go; none of a network that leads nowhere.
    pub gateways: Vec<IpAddr>,
    pub mtu_bytes: u16,
    pub published: Vec<PublishedPort>,
    #[serde(default)]
    pub names: EndpointNames,
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
    /// The networks to join, the one with the default route first: by priority, then the mode's, then by name.
    pub(super) fn wanted(&self) -> Vec<(String, EndpointSpec)> {
        let mode = match &self.mode {
            NetworkMode::None | NetworkMode::Machine | NetworkMode::Container(_) => return Vec::new(),
            NetworkMode::Default => "bridge",
            NetworkMode::Network(name) => name,
        };
        let mut wanted = self.endpoints.clone();
        wanted.entry(mode.to_owned()).or_default();
        let mut wanted: Vec<_> = wanted.into_iter().collect();
        wanted.sort_by_key(|(name, spec)| (std::cmp::Reverse(spec.gateway_priority), name != mode));
        wanted
    }
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
