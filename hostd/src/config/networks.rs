//! Networks, as dockerd's flags and daemon.json name what can be set of them.

use std::net::IpAddr;

use ipnet::IpNet;

use super::file::FileSettings;
use super::host::Host;
use super::{ConfigError, invalid};
use crate::engine::{DefaultBridge, DnsSpec, NetworkBackend, NetworkPolicy};
use crate::network::pools::{AddressPool, AddressPools};

/// The interface of the default network. Not Docker's: both may be on one host.
const INTERFACE: &str = "berth0";
const DEFAULT_MTU_BYTES: u16 = 1500;
/// A user-mode network stack gives the guest datagrams of any length in one packet each, and is the faster the longer
/// packets are.
const STACK_MTU_BYTES: u16 = 65_520;

/// # Errors
/// The first setting that is wrong.
pub(super) fn resolve(given: &FileSettings, hosts: &[Host]) -> Result<NetworkPolicy, ConfigError> {
    let backend = given.network_backend.unwrap_or_else(NetworkBackend::of_own_rights);
    Ok(NetworkPolicy {
        backend,
        default_bridge: default_bridge(given)?,
        pools: pools(&given.default_address_pools)?,
        mtu_bytes: mtu_bytes(given.mtu, backend)?,
        daemon_ports: hosts.iter().filter_map(Host::tcp_port).collect(),
        dns: DnsSpec {
            servers: given.dns.clone(),
            search: given.dns_search.clone(),
            options: given.dns_opts.clone(),
        },
        host_gateways: given.host_gateway_ips.clone(),
    })
}

fn default_bridge(given: &FileSettings) -> Result<DefaultBridge, ConfigError> {
    let interface = given.bridge.as_deref().filter(|name| !name.is_empty()).unwrap_or(INTERFACE);
    if interface == "none" {
        if given.bip.is_some() {
            return Err(invalid("bip", "there is no default network with the bridge none"));
        }
        return Ok(DefaultBridge::None);
    }
    if interface != INTERFACE {
        let problem = format!(
            "{interface}: only none and {INTERFACE} are possible; a bridge that exists is not used yet"
        );
        return Err(invalid("bridge", problem));
    }
    let address = given.bip.as_deref().map(bip).transpose()?;
    Ok(DefaultBridge::Network { interface: interface.to_owned(), address, icc: given.icc.unwrap_or(true) })
}

/// An address of the host's with its subnet's prefix.
fn bip(text: &str) -> Result<IpNet, ConfigError> {
    let wrong = |problem: &str| invalid("bip", format!("{text:?} {problem}"));
    let net: IpNet = text.parse().map_err(|_| wrong("is no ADDRESS/PREFIX"))?;
    match net.addr() {
        IpAddr::V6(_) => Err(wrong("is not of IPv4")),
        address if net.prefix_len() > 30 => Err(wrong(&format!("leaves no room beside {address}"))),
        address if address == net.network() || address == net.broadcast() => {
            Err(wrong("is no host's address"))
        }
        _ => Ok(net),
    }
}

fn pools(given: &[AddressPool]) -> Result<AddressPools, ConfigError> {
    if given.is_empty() {
        return Ok(AddressPools::default());
    }
    AddressPools::new(given.to_vec()).map_err(|error| invalid("default-address-pools", error.to_string()))
}

fn mtu_bytes(given: Option<i64>, backend: NetworkBackend) -> Result<u16, ConfigError> {
    match (given, backend) {
        (None | Some(0), NetworkBackend::User) => Ok(STACK_MTU_BYTES),
        (None | Some(0), NetworkBackend::Bridge) => Ok(DEFAULT_MTU_BYTES),
        (Some(mtu), _) => u16::try_from(mtu)
            .ok()
            .filter(|mtu| *mtu >= 68)
            .ok_or_else(|| invalid("mtu", format!("{mtu}; 68 to 65535 bytes are possible"))),
    }
}
