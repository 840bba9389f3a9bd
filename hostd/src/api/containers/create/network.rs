//! Which networks a container joins, what it is called there, and which of its ports are the host's.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::body::{Config, HostConfig, list, null_as_default};
use crate::api::body as json;
use crate::api::error::{ApiError, ApiResult};
use crate::engine::{
    DnsSpec, EndpointSpec, Link, NetworkMode, NetworkSpec, PortBinding, Protocol, check_endpoint_options,
};

/// The part of a create request that is about networks.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct NetworkingConfig {
    #[serde(deserialize_with = "null_as_default")]
    endpoints_config: BTreeMap<String, Option<Map<String, Value>>>,
}

/// What is asked of one network.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(in crate::api) struct EndpointSettings {
    #[serde(rename = "IPAMConfig")]
    ipam_config: Option<IpamConfig>,
    #[serde(deserialize_with = "list")]
    links: Vec<String>,
    #[serde(deserialize_with = "list")]
    aliases: Vec<String>,
    mac_address: String,
    #[serde(deserialize_with = "null_as_default")]
    driver_opts: BTreeMap<String, String>,
    gw_priority: i64,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct IpamConfig {
    #[serde(rename = "IPv4Address")]
    ipv4_address: String,
    #[serde(rename = "IPv6Address")]
    ipv6_address: String,
    #[serde(rename = "LinkLocalIPs", deserialize_with = "list")]
    link_local_ips: Vec<String>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct HostPort {
    host_ip: String,
    host_port: String,
}

/// # Errors
/// Docker's texts for what is no address, port or mode, 501 for what Berth does not have.
pub(super) fn network(
    config: &Config,
    host: &HostConfig,
    networking: NetworkingConfig,
) -> ApiResult<NetworkSpec> {
    let mode = if config.network_disabled { NetworkMode::None } else { mode(&host.network_mode)? };
    let mut endpoints = BTreeMap::new();
    for (name, settings) in networking.endpoints_config {
        let settings = json::decode(&settings.unwrap_or_default())?;
        // What clients say of the networks that nobody can join.
        if !(matches!(name.as_str(), "none" | "host") && settings_ask_for_nothing(&settings)) {
            endpoints.insert(name, endpoint(settings)?);
        }
    }
    if !config.mac_address.is_empty() {
        let network = match &mode {
            NetworkMode::Network(name) => name.clone(),
            NetworkMode::Default => "bridge".to_owned(),
            NetworkMode::None | NetworkMode::Machine | NetworkMode::Container(_) => {
                return Err(ApiError::invalid("conflicting options: mac-address and the network mode"));
            }
        };
        let endpoint: &mut EndpointSpec = endpoints.entry(network).or_default();
        endpoint.mac = endpoint.mac.or(Some(mac_address(&config.mac_address)?));
    }
    check_conflicts(&mode, &endpoints)?;
    check_shared(&mode, config, host)?;
    check_default(&mode, &endpoints)?;
    // On other networks, clients ask for links with the network.
    let links = match &mode {
        NetworkMode::Network(name) if name != "bridge" => Vec::new(),
        _ => links(&host.links)?,
    };
    Ok(NetworkSpec {
        links,
        published: published(&host.port_bindings)?,
        publish_all: host.publish_all_ports,
        dns: dns(host)?,
        mode,
        endpoints,
        has_left_mode: false,
    })
}

fn mode(mode: &str) -> ApiResult<NetworkMode> {
    match mode {
        "" | "default" => Ok(NetworkMode::Default),
        "none" => Ok(NetworkMode::None),
        "host" => Ok(NetworkMode::Machine),
        "container" | "container:" => {
            Err(ApiError::invalid("invalid network mode: invalid container format container:<name|id>"))
        }
        mode if mode.starts_with("container:") => {
            Ok(NetworkMode::Container(mode.trim_start_matches("container:").to_owned()))
        }
        name => Ok(NetworkMode::Network(name.to_owned())),
    }
}

/// What goes with a network is its owner's.
fn check_shared(mode: &NetworkMode, config: &Config, host: &HostConfig) -> ApiResult<()> {
    if !matches!(mode, NetworkMode::Container(_)) {
        return Ok(());
    }
    let publishes = !host.port_bindings.is_empty() || host.publish_all_ports;
    let conflicts = [
        (!config.hostname.is_empty(), "hostname and the network mode"),
        (!host.dns.is_empty(), "dns and the network mode"),
        (!host.extra_hosts.is_empty(), "custom host-to-IP mapping and the network mode"),
        (publishes, "port publishing and the container type network mode"),
        (!config.exposed_ports.is_empty(), "port exposing and the container type network mode"),
    ];
    match conflicts.into_iter().find(|(conflict, _)| *conflict) {
        Some((_, what)) => Err(ApiError::invalid(format!("conflicting options: {what}"))),
        None => Ok(()),
    }
}

fn check_conflicts(mode: &NetworkMode, endpoints: &BTreeMap<String, EndpointSpec>) -> ApiResult<()> {
    if matches!(mode, NetworkMode::Container(_)) && !endpoints.is_empty() {
        let message = "container sharing network namespace with another container or host cannot be connected to any \
             other network";
        return Err(ApiError::invalid(message));
    }
    let joins_none = matches!(mode, NetworkMode::None | NetworkMode::Machine);
    if joins_none && !endpoints.is_empty() {
        let message = "container cannot be connected to multiple networks with one of the networks in private (none) or host mode";
        return Err(ApiError::invalid(message));
    }
    Ok(())
}

/// On the default network containers have neither names nor addresses of their choice.
fn check_default(mode: &NetworkMode, endpoints: &BTreeMap<String, EndpointSpec>) -> ApiResult<()> {
    let is_default = |name: &str| match name {
        "bridge" => true,
        "default" => matches!(mode, NetworkMode::Default),
        _ => false,
    };
    let mut of_default = endpoints.iter().filter(|(name, _)| is_default(name)).map(|(_, endpoint)| endpoint);
    let refusal = of_default.find_map(|endpoint| {
        let has_address = endpoint.ipv4.is_some() || endpoint.ipv6.is_some();
        let address = "user specified IP address is supported on user defined networks only";
        let alias = "network-scoped alias is supported only for containers in user defined networks";
        let has_alias = !endpoint.aliases.is_empty();
        has_address.then_some(address).or(has_alias.then_some(alias))
    });
    match refusal {
        Some(reason) => Err(ApiError::invalid(format!(
            "invalid config for network bridge: invalid endpoint settings:\n{reason}"
        ))),
        None => Ok(()),
    }
}

fn settings_ask_for_nothing(settings: &EndpointSettings) -> bool {
    settings.ipam_config.is_none() && settings.mac_address.is_empty() && settings.links.is_empty()
}

/// # Errors
/// As [`network`].
pub(in crate::api) fn endpoint(settings: EndpointSettings) -> ApiResult<EndpointSpec> {
    let later = |field: &str| {
        Err(ApiError::not_supported(format!(
            "berth cannot honour {field} of NetworkingConfig.EndpointsConfig yet"
        )))
    };
    check_endpoint_options(&settings.driver_opts)?;
    let ipam = settings.ipam_config.unwrap_or_default();
    if !ipam.link_local_ips.is_empty() {
        return later("LinkLocalIPs");
    }
    let mac = Some(settings.mac_address).filter(|mac| !mac.is_empty());
    Ok(EndpointSpec {
        aliases: settings.aliases,
        links: links(&settings.links)?,
        ipv4: address("IPv4", &ipam.ipv4_address, IpAddr::is_ipv4)?,
        ipv6: address("IPv6", &ipam.ipv6_address, IpAddr::is_ipv6)?,
        mac: mac.as_deref().map(mac_address).transpose()?,
        gateway_priority: settings.gw_priority,
        driver_options: settings.driver_opts,
    })
}

/// "container:alias"; without an alias, it is called by its name.
fn links(links: &[String]) -> ApiResult<Vec<Link>> {
    let read = |text: &String| {
        let (container, alias) = text.split_once(':').unwrap_or((text, text));
        // Older clients send names of containers as paths.
        let (container, alias) =
            (container.trim_start_matches('/'), alias.rsplit('/').next().unwrap_or(alias));
        if container.is_empty() || alias.is_empty() || alias.contains([':', ' ', '\t', '\n']) {
            return Err(ApiError::invalid(format!("bad format for links: {text}")));
        }
        Ok(Link { container: container.to_owned(), alias: alias.to_owned() })
    };
    links.iter().map(read).collect()
}

fn address(version: &str, text: &str, fits: impl Fn(&IpAddr) -> bool) -> ApiResult<Option<IpAddr>> {
    if text.is_empty() {
        return Ok(None);
    }
    let address = text.parse().ok().filter(fits);
    address.map(Some).ok_or_else(|| ApiError::invalid(format!("invalid {version} address: {text}")))
}

/// Six pairs of hexadecimal digits between colons or hyphens, of one station.
fn mac_address(text: &str) -> ApiResult<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text
        .split([':', '-'])
        .map(|pair| u8::from_str_radix(pair, 16).ok().filter(|_| pair.len() == 2))
        .collect();
    let mac = bytes.and_then(|bytes| <[u8; 6]>::try_from(bytes).ok());
    mac.filter(|mac| mac[0] & 1 == 0 && *mac != [0; 6])
        .ok_or_else(|| ApiError::invalid(format!("invalid MAC address: {text}")))
}

fn published(bindings: &BTreeMap<String, Option<Vec<HostPort>>>) -> ApiResult<Vec<PortBinding>> {
    let mut published = Vec::new();
    for (port, places) in bindings {
        let (port, protocol) = container_port(port)?;
        let anywhere = [HostPort::default()];
        let places = places.as_deref().filter(|places| !places.is_empty()).unwrap_or(&anywhere);
        for place in places {
            let host_address = match place.host_ip.trim_matches(['[', ']']) {
                "" => None,
                text => {
                    Some(text.parse().map_err(|_| ApiError::invalid(format!("invalid IP address: {text}")))?)
                }
            };
            published.push(PortBinding {
                protocol,
                port,
                host_address,
                host_ports: host_ports(&place.host_port)?,
            });
        }
    }
    Ok(published)
}

/// "80/tcp"; a protocol that is left out is TCP.
fn container_port(text: &str) -> ApiResult<(u16, Protocol)> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let invalid = || ApiError::invalid(format!("invalid port specification: \"{text}\""));
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(invalid)?;
    Ok((port, protocol.parse().map_err(|_| invalid())?))
}

/// "8080", "8080-8090"; nothing and "0" are any.
fn host_ports(text: &str) -> ApiResult<Option<(u16, u16)>> {
    if matches!(text, "" | "0") {
        return Ok(None);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range =
        first.parse().ok().zip(last.parse().ok()).filter(|(first, last)| *first != 0 && first <= last);
    range.map(Some).ok_or_else(|| ApiError::invalid(format!("invalid port specification: \"{text}\"")))
}

fn dns(host: &HostConfig) -> ApiResult<DnsSpec> {
    let server = |text: &String| {
        text.parse().map_err(|_| ApiError::invalid(format!("bad nameserver address: \"{text}\"")))
    };
    Ok(DnsSpec {
        servers: host.dns.iter().map(server).collect::<ApiResult<_>>()?,
        search: host.dns_search.clone(),
        options: host.dns_options.clone(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(host: Value, networking: Value) -> Result<NetworkSpec, (u16, String)> {
        let decode = || {
            let host: HostConfig = serde_json::from_value(host).unwrap();
            let networking: NetworkingConfig = serde_json::from_value(networking).unwrap();
            network(&Config::default(), &host, networking)
        };
        decode().map_err(|error| (error.status.as_u16(), error.message))
    }

    #[test]
    fn what_the_docker_cli_sends_is_understood() {
        let host = json!({
            "NetworkMode": "web",
            "PortBindings": { "80/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "8080-8081" }], "53/udp": [] },
            "PublishAllPorts": true, "Dns": ["10.0.0.53"], "DnsSearch": ["a.example"], "DnsOptions": ["ndots:1"],
        });
        let networking = json!({ "EndpointsConfig": { "web": {
            "IPAMConfig": { "IPv4Address": "10.0.0.5" }, "Links": ["/db:/web/store"], "Aliases": ["www"],
            "MacAddress": "02:00:00:00:00:05", "DriverOpts": null, "GwPriority": 3,
        } } });
        let spec = read(host, networking).unwrap();
        assert_eq!(spec.mode, NetworkMode::Network("web".into()));
        let expected = EndpointSpec {
            aliases: vec!["www".into()],
            links: vec![Link { container: "db".into(), alias: "store".into() }],
            ipv4: Some([10, 0, 0, 5].into()),
            mac: Some([2, 0, 0, 0, 0, 5]),
            gateway_priority: 3,
            ..EndpointSpec::default()
        };
        assert_eq!(spec.endpoints["web"], expected);
        let udp = PortBinding { protocol: Protocol::Udp, port: 53, host_address: None, host_ports: None };
        let tcp = PortBinding {
            protocol: Protocol::Tcp,
            port: 80,
            host_address: Some([127, 0, 0, 1].into()),
            host_ports: Some((8080, 8081)),
        };
        assert_eq!(spec.published, [udp, tcp]);
        assert!(spec.publish_all && spec.dns.servers == [IpAddr::from([10, 0, 0, 53])]);
    }

    #[test]
    fn a_network_may_be_anothers_with_all_that_goes_with_it() {
        let spec = read(json!({ "NetworkMode": "container:db" }), json!({})).unwrap();
        assert_eq!(spec.mode, NetworkMode::Container("db".into()));
        let host: HostConfig = serde_json::from_value(json!({ "NetworkMode": "container:db" })).unwrap();
        for (config, what) in [
            (json!({ "Hostname": "web" }), "hostname and the network mode"),
            (json!({ "MacAddress": "02:00:00:00:00:01" }), "mac-address and the network mode"),
            (
                json!({ "ExposedPorts": { "80/tcp": {} } }),
                "port exposing and the container type network mode",
            ),
        ] {
            let config: Config = serde_json::from_value(config).unwrap();
            let refusal = network(&config, &host, NetworkingConfig::default()).unwrap_err();
            assert_eq!(refusal.message, format!("conflicting options: {what}"));
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let none = json!({});
        let binding = |host_ip: &str, host_port: &str| json!({ "PortBindings": { "80/tcp": [{ "HostIp": host_ip, "HostPort": host_port }] } });
        for (host, networking, status, part) in [
            (json!({ "NetworkMode": "container:" }), none.clone(), 400, "container:<name|id>"),
            (
                json!({ "NetworkMode": "container:db" }),
                json!({ "EndpointsConfig": { "web": {} } }),
                400,
                "cannot be connected to any other network",
            ),
            (
                json!({ "NetworkMode": "container:db", "PortBindings": { "80/tcp": [] } }),
                none.clone(),
                400,
                "conflicting options: port publishing and the container type network mode",
            ),
            (
                json!({ "NetworkMode": "container:db", "Dns": ["10.0.0.1"] }),
                none.clone(),
                400,
                "conflicting options: dns and the network mode",
            ),
            (
                json!({ "NetworkMode": "container:db", "ExtraHosts": ["a:10.0.0.1"] }),
                none.clone(),
                400,
                "conflicting options: custom host-to-IP mapping and the network mode",
            ),
            (
                json!({ "PortBindings": { "x/tcp": [] } }),
                none.clone(),
                400,
                "invalid port specification: \"x/tcp\"",
            ),
            (json!({ "PortBindings": { "80/icmp": [] } }), none.clone(), 400, "80/icmp"),
            (binding("nope", "1"), none.clone(), 400, "invalid IP address: nope"),
            (binding("", "9-8"), none.clone(), 400, "invalid port specification: \"9-8\""),
            (binding("", "70000"), none.clone(), 400, "70000"),
            (json!({ "Dns": ["x"] }), none.clone(), 400, "bad nameserver address"),
            (
                json!({ "NetworkMode": "none" }),
                json!({ "EndpointsConfig": { "web": {} } }),
                400,
                "in private (none) or host mode",
            ),
            (
                none.clone(),
                json!({ "EndpointsConfig": { "web": { "MacAddress": "01:00:00:00:00:00" } } }),
                400,
                "MAC",
            ),
            (
                none.clone(),
                json!({ "EndpointsConfig": { "web": { "Links": ["db:"] } } }),
                400,
                "bad format for links: db:",
            ),
            (
                none.clone(),
                json!({ "EndpointsConfig": { "default": { "IPAMConfig": { "IPv4Address": "172.17.0.9" } } } }),
                400,
                "network bridge: invalid endpoint settings:\nuser specified IP address is supported on user",
            ),
        ] {
            let (found, message) = read(host, networking).unwrap_err();
            assert!(found == status && message.contains(part), "{found} {message}");
        }
    }
}
