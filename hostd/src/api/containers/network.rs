//! What inspect and lists show of a container's networks.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::engine::{ContainerView, Endpoint, EndpointSpec, Link, NetworkMode, PublishedPort};

/// The `NetworkSettings` of an inspected container.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NetworkSettings {
    bridge: &'static str,
    #[serde(rename = "SandboxID")]
    sandbox_id: &'static str,
    sandbox_key: &'static str,
    ports: Map<String, Value>,
    hairpin_mode: bool,
    #[serde(rename = "LinkLocalIPv6Address")]
    link_local_ipv6_address: &'static str,
    #[serde(rename = "LinkLocalIPv6PrefixLen")]
    link_local_ipv6_prefix_len: u8,
    #[serde(rename = "SecondaryIPAddresses")]
    secondary_ip_addresses: Option<()>,
    #[serde(rename = "SecondaryIPv6Addresses")]
    secondary_ipv6_addresses: Option<()>,
    #[serde(flatten)]
    address: Address,
    networks: BTreeMap<String, EndpointSettings>,
}

/// A container's place on one network.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct EndpointSettings {
    #[serde(rename = "IPAMConfig")]
    ipam_config: Option<Value>,
    links: Option<Vec<String>>,
    aliases: Option<Vec<String>>,
    driver_opts: Option<BTreeMap<String, String>>,
    gw_priority: i64,
    #[serde(rename = "NetworkID")]
    network_id: String,
    #[serde(flatten)]
    address: Address,
    #[serde(rename = "DNSNames")]
    dns_names: Option<Vec<String>>,
}

/// The fields that the settings repeat from the endpoint on the default network.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Address {
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    gateway: String,
    #[serde(rename = "GlobalIPv6Address")]
    global_ipv6_address: String,
    #[serde(rename = "GlobalIPv6PrefixLen")]
    global_ipv6_prefix_len: u8,
    #[serde(rename = "IPAddress")]
    ip_address: String,
    #[serde(rename = "IPPrefixLen")]
    ip_prefix_len: u8,
    #[serde(rename = "IPv6Gateway")]
    ipv6_gateway: String,
    mac_address: String,
}

const DEFAULT_NETWORK: &str = "bridge";

/// Docker's word for the kind of network that a container has.
pub(super) fn mode(view: &ContainerView) -> Cow<'_, str> {
    match &view.spec.network.mode {
        NetworkMode::Default => "default".into(),
        NetworkMode::None => "none".into(),
        NetworkMode::Machine => "host".into(),
        NetworkMode::Container(id) => format!("container:{id}").into(),
        NetworkMode::Network(name) => name.into(),
    }
}

/// The names of the networks it is on, or would be if it ran.
pub(super) fn names(view: &ContainerView) -> impl Iterator<Item = Cow<'_, str>> {
    view.spec.network.names().into_iter().map(Cow::from)
}

pub(super) fn settings(view: &ContainerView) -> NetworkSettings {
    let on_default = view.endpoints.iter().find(|endpoint| endpoint.network_name == DEFAULT_NETWORK);
    NetworkSettings {
        bridge: "",
        sandbox_id: "",
        sandbox_key: "",
        ports: ports(view),
        hairpin_mode: false,
        link_local_ipv6_address: "",
        link_local_ipv6_prefix_len: 0,
        secondary_ip_addresses: None,
        secondary_ipv6_addresses: None,
        address: on_default.map(Address::from).unwrap_or_default(),
        networks: networks(view),
    }
}

/// The `NetworkSettings` of a container in a list.
pub(super) fn summary(view: &ContainerView) -> Value {
    json!({ "Networks": networks(view) })
}

/// Ports as lists show them: those that are published, and those that are only exposed.
pub(super) fn port_list(view: &ContainerView) -> Vec<Value> {
    let mut list = Vec::new();
    for port in published(view) {
        list.push(json!({
            "IP": port.host.ip(), "PrivatePort": port.port, "PublicPort": port.host.port(), "Type": port.protocol.to_string(),
        }));
    }
    for exposed in view.spec.exposed_ports.iter().filter(|_| !view.endpoints.is_empty()) {
        let (number, protocol) = exposed.split_once('/').unwrap_or((exposed, "tcp"));
        let Ok(number) = number.parse::<u16>() else { continue };
        if !published(view).any(|port| port.port == number && port.protocol.to_string() == protocol) {
            list.push(json!({ "PrivatePort": number, "Type": protocol }));
        }
    }
    list
}

/// By port of the container, where it is on the host; null of one that is exposed and no more.
fn ports(view: &ContainerView) -> Map<String, Value> {
    let mut ports = Map::new();
    // To whom, without a network?
    if view.endpoints.is_empty() {
        return ports;
    }
    for exposed in &view.spec.exposed_ports {
        ports.insert(exposed.clone(), Value::Null);
    }
    for port in published(view) {
        let place = json!({ "HostIp": port.host.ip(), "HostPort": port.host.port().to_string() });
        match ports.entry(format!("{}/{}", port.port, port.protocol)).or_insert(Value::Null) {
            Value::Array(places) => places.push(place),
            places => *places = json!([place]),
        }
    }
    ports
}

fn published(view: &ContainerView) -> impl Iterator<Item = &PublishedPort> {
    view.endpoints.iter().flat_map(|endpoint| &endpoint.published)
}

fn networks(view: &ContainerView) -> BTreeMap<String, EndpointSettings> {
    let asked = &view.spec.network.endpoints;
    let running = view.endpoints.iter().map(|endpoint| {
        let name = &endpoint.network_name;
        (name.clone(), EndpointSettings::new(asked.get(name), Some(endpoint), view))
    });
    let mut networks: BTreeMap<_, _> = running.collect();
    if networks.is_empty() {
        let wanted = names(view).map(|name| {
            let settings = EndpointSettings::new(asked.get(&*name), None, view);
            (name.into_owned(), settings)
        });
        networks.extend(wanted);
    }
    networks
}

impl EndpointSettings {
    fn new(asked: Option<&EndpointSpec>, endpoint: Option<&Endpoint>, view: &ContainerView) -> Self {
        let asked = asked.cloned().unwrap_or_default();
        let named = endpoint.is_some_and(|endpoint| endpoint.network_name != DEFAULT_NETWORK);
        let aliases = Some(asked.aliases.clone()).filter(|aliases| !aliases.is_empty());
        Self {
            ipam_config: ipam_config(&asked),
            dns_names: endpoint.filter(|_| named).map(|endpoint| {
                let mut names = vec![view.name.clone()];
                names.extend(endpoint.names.own.iter().filter(|own| **own != view.name).cloned());
                names
            }),
            links: Some(links(&asked.links)).filter(|links| !links.is_empty()),
            aliases,
            gw_priority: asked.gateway_priority,
            driver_opts: Some(asked.driver_options.clone()).filter(|options| !options.is_empty()),
            network_id: endpoint.map(|endpoint| endpoint.network.to_string()).unwrap_or_default(),
            address: endpoint.map(Address::from).unwrap_or_default(),
        }
    }
}

/// As they were asked for.
pub(super) fn links(links: &[Link]) -> Vec<String> {
    links.iter().map(|link| format!("{}:{}", link.container, link.alias)).collect()
}

/// Null if nobody asked for an address.
fn ipam_config(asked: &EndpointSpec) -> Option<Value> {
    let mut config = Map::new();
    for (name, address) in [("IPv4Address", asked.ipv4), ("IPv6Address", asked.ipv6)] {
        if let Some(address) = address {
            config.insert(name.to_owned(), json!(address));
        }
    }
    (!config.is_empty()).then_some(Value::Object(config))
}

impl From<&Endpoint> for Address {
    fn from(endpoint: &Endpoint) -> Self {
        let (ipv4, ipv6) = (endpoint.ipv4(), endpoint.ipv6());
        let text = |address: Option<IpAddr>| address.map(|address| address.to_string()).unwrap_or_default();
        Self {
            endpoint_id: endpoint.id.clone(),
            gateway: text(endpoint.gateway(IpAddr::is_ipv4)),
            global_ipv6_address: text(ipv6.map(|net| net.addr())),
            global_ipv6_prefix_len: ipv6.map_or(0, |net| net.prefix_len()),
            ip_address: text(ipv4.map(|net| net.addr())),
            ip_prefix_len: ipv4.map_or(0, |net| net.prefix_len()),
            ipv6_gateway: text(endpoint.gateway(IpAddr::is_ipv6)),
            mac_address: endpoint.mac.map(|byte| format!("{byte:02x}")).join(":"),
        }
    }
}
