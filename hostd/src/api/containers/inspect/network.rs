//! The `NetworkSettings` of an inspected container: loopback only, which Docker calls the network "none".

use std::collections::BTreeMap;

use serde::Serialize;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NetworkSettings {
    bridge: &'static str,
    #[serde(rename = "SandboxID")]
    sandbox_id: &'static str,
    sandbox_key: &'static str,
    ports: BTreeMap<String, ()>,
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
    networks: BTreeMap<&'static str, Endpoint>,
}

/// A container's place on one network.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api::containers) struct Endpoint {
    #[serde(rename = "IPAMConfig")]
    ipam_config: Option<()>,
    links: Option<()>,
    aliases: Option<()>,
    driver_opts: Option<()>,
    gw_priority: i64,
    #[serde(rename = "NetworkID")]
    network_id: &'static str,
    #[serde(flatten)]
    address: Address,
    #[serde(rename = "DNSNames")]
    dns_names: Option<()>,
}

/// The fields that the settings repeat from their first endpoint.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Address {
    #[serde(rename = "EndpointID")]
    endpoint_id: &'static str,
    gateway: &'static str,
    #[serde(rename = "GlobalIPv6Address")]
    global_ipv6_address: &'static str,
    #[serde(rename = "GlobalIPv6PrefixLen")]
    global_ipv6_prefix_len: u8,
    #[serde(rename = "IPAddress")]
    ip_address: &'static str,
    #[serde(rename = "IPPrefixLen")]
    ip_prefix_len: u8,
    #[serde(rename = "IPv6Gateway")]
    ipv6_gateway: &'static str,
    mac_address: &'static str,
}

pub(in crate::api::containers) fn none_endpoint() -> Endpoint {
    Endpoint::default()
}

impl Default for NetworkSettings {
    fn default() -> Self {
        Self {
            bridge: "",
            sandbox_id: "",
            sandbox_key: "",
            ports: BTreeMap::new(),
            hairpin_mode: false,
            link_local_ipv6_address: "",
            link_local_ipv6_prefix_len: 0,
            secondary_ip_addresses: None,
            secondary_ipv6_addresses: None,
            address: Address::default(),
            networks: BTreeMap::from([("none", none_endpoint())]),
        }
    }
}
