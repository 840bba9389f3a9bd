//! The files in a container's /etc that tell of names: hosts and resolv.conf.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use berth_protocol::agent;

use super::super::Shared;
use super::super::container::{Container, Live};
use super::super::error::EngineError;
use super::super::launch::hostname;
use super::super::networks::{DnsSpec, Endpoint, Link, NAMELESS_NETWORK, NetworkMode};
use crate::network::resolv_conf::ResolvConf;

/// The container's own name server.
const OWN_SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));
/// Stands for the host's address in `--add-host`.
pub(super) const HOST_GATEWAY: &str = "host-gateway";

/// What a container's files say beyond their standard lines.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::engine) struct NameFiles {
    /// Lines of /etc/hosts.
    pub(in crate::engine) hosts: Vec<String>,
    /// Lines of /etc/resolv.conf; nothing if there is nobody to ask.
    pub(in crate::engine) resolution: Option<agent::NameResolution>,
    /// Variables of those that it is linked to.
    pub(in crate::engine) environment: Vec<String>,
    /// Whether it has a name server of its own. It may be used only once the container is connected to a network.
    pub(in crate::engine) name_server: bool,
}

impl NameFiles {
    /// # Errors
    /// A container that it is linked to and cannot be, or no address of the host's where one was asked for.
    pub(in crate::engine) fn of(
        shared: &Shared,
        container: &Container,
        endpoints: &[Endpoint],
    ) -> Result<Self, EngineError> {
        let spec = &*container.spec();
        let own_network = matches!(spec.network.mode, NetworkMode::Default | NetworkMode::Network(_));
        let asked_or_default = [&spec.network.dns, &shared.networks.policy().dns];
        let asks_for_something = spec.network.dns != DnsSpec::default();
        let resolution = (!endpoints.is_empty() || asks_for_something).then(|| {
            let has_names = endpoints.iter().any(|endpoint| endpoint.network_name != NAMELESS_NETWORK);
            let own = own_network && has_names;
            resolution(asked_or_default, &shared.networks.host_resolution(), own, own_network)
        });
        let environment = super::linked::variables(shared, container)?;
        let hosts = hosts(shared, container, endpoints)?;
        Ok(Self { hosts, resolution, environment, name_server: own_network })
    }
}

/// Rewrites the files of a container that runs, for the networks that it is on now. What the container itself has
/// written there stays.
///
/// # Errors
/// As [`NameFiles::of`], and those of an agent that does not do it.
pub(in crate::engine) async fn update(
    shared: &Shared,
    container: &Container,
    live: &Live,
    endpoints: &[Endpoint],
) -> Result<(), EngineError> {
    let files = NameFiles::of(shared, container, endpoints)?;
    let request = agent::UpdateNames {
        container_id: container.id.to_string(),
        extra_hosts: files.hosts,
        name_resolution: files.resolution,
    };
    let updated = live.agent.update_names(request).await;
    updated.map_err(|error| {
        EngineError::internal(&format!("cannot tell container {} of its networks", container.id), &error)
    })
}

/// Each part is what was asked for, or the daemon's, or the host's.
fn resolution(
    asked: [&DnsSpec; 2],
    host: &ResolvConf,
    own: bool,
    can_have_own: bool,
) -> agent::NameResolution {
    let first = |part: fn(&DnsSpec) -> &[String], host: &[String]| {
        let chosen = asked.iter().map(|dns| part(dns)).find(|part| !part.is_empty());
        chosen.unwrap_or(host).to_vec()
    };
    let mut search = first(|dns| &dns.search, &host.search);
    // The word for none.
    search.retain(|domain| domain != ".");
    let mut options = first(|dns| &dns.options, &host.options);
    let chosen = asked.iter().map(|dns| dns.servers.as_slice()).find(|servers| !servers.is_empty());
    let mut servers = match chosen {
        Some(servers) => servers.to_vec(),
        None => host.servers.iter().copied().filter(|server| reaches(*server)).collect(),
    };
    // Where all of the host's servers are for the host alone, it asks them for the container.
    if own || can_have_own && servers.is_empty() {
        servers.retain(|server| chosen.is_some() && server.is_loopback());
        servers.insert(0, OWN_SERVER);
        // A name without a dot may be a container's.
        if !options.iter().any(|option| option.starts_with("ndots:")) {
            options.push("ndots:0".to_owned());
        }
    }
    agent::NameResolution { servers: servers.iter().map(ToString::to_string).collect(), search, options }
}

/// A server of the host's loopback is nobody's in a container.
fn reaches(server: IpAddr) -> bool {
    !server.is_loopback()
}

/// The container's own names at its own addresses, those it is linked to, then those of the request.
fn hosts(shared: &Shared, container: &Container, endpoints: &[Endpoint]) -> Result<Vec<String>, EngineError> {
    let spec = &*container.spec();
    let hostname = hostname(container);
    let names = match spec.domainname.as_deref().filter(|domain| !domain.is_empty()) {
        Some(domain) => format!("{hostname}.{domain} {hostname}"),
        None => hostname,
    };
    let own = endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
    let mut lines: Vec<String> = own.map(|net| format!("{}\t{names}", net.addr())).collect();
    for link in &spec.network.links {
        lines.push(linked(shared, container, link)?);
    }
    for host in &spec.extra_hosts {
        let Some((name, address)) = host.split_once([':', '=']) else { continue };
        if address == HOST_GATEWAY {
            let gateways = host_gateways(shared, endpoints)?;
            lines.extend(gateways.iter().map(|gateway| format!("{gateway}\t{name}")));
        } else {
            lines.push(format!("{}\t{name}", address.trim_start_matches('[').trim_end_matches(']')));
        }
    }
    Ok(lines)
}

/// The daemon's word, or the host's address on the default network, or on the container's own.
fn host_gateways(shared: &Shared, endpoints: &[Endpoint]) -> Result<Vec<IpAddr>, EngineError> {
    let said = &shared.networks.policy().host_gateways;
    if !said.is_empty() {
        return Ok(said.clone());
    }
    let default = shared.networks.find(NAMELESS_NETWORK).ok();
    let of_default =
        default.map(|active| active.network.subnets.iter().map(|subnet| subnet.gateway).collect());
    let of_container =
        || endpoints.iter().map(|endpoint| endpoint.gateways.clone()).find(|all| !all.is_empty());
    of_default.or_else(of_container).ok_or_else(|| {
        EngineError::invalid(
            "unable to derive the IP value for host-gateway: there is no network that leads to the host",
        )
    })
}

/// A container of the default network by the names that this one has for it.
fn linked(shared: &Shared, container: &Container, link: &Link) -> Result<String, EngineError> {
    let (other, address) = linked_address(shared, container, link)?;
    let (name, hostname, alias) = (other.name(), hostname(&other), &link.alias);
    let also = if *name == **alias { String::new() } else { format!(" {name}") };
    Ok(format!("{address}\t{alias} {hostname}{also}"))
}

/// Whom a container is linked to, and where that is.
///
/// # Errors
/// In Docker's words: it does not run, or is not on the default network.
pub(super) fn linked_address(
    shared: &Shared,
    container: &Container,
    link: &Link,
) -> Result<(Arc<Container>, IpAddr), EngineError> {
    let other = shared.find(&link.container)?;
    let name = other.name();
    let is_up = other.current().state.is_up();
    if !is_up {
        let (own_name, alias) = (container.name(), &link.alias);
        return Err(EngineError::conflict(format!(
            "Cannot link to a non running container: /{name} AS /{own_name}/{alias}"
        )));
    }
    let default = shared.networks.find(NAMELESS_NETWORK).ok();
    let address = default.and_then(|active| active.ipv4_of(&other.id)).ok_or_else(|| {
        EngineError::conflict(format!("Cannot link to /{name}, as it does not belong to the default network"))
    })?;
    Ok((other, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> ResolvConf {
        ResolvConf {
            servers: vec![[127, 0, 0, 53].into(), [10, 0, 0, 1].into()],
            search: vec!["host.example".into()],
            options: vec!["edns0".into()],
        }
    }

    fn asked(servers: &[&str]) -> DnsSpec {
        DnsSpec {
            servers: servers.iter().map(|server| server.parse().unwrap()).collect(),
            ..DnsSpec::default()
        }
    }

    #[test]
    fn where_there_are_names_the_own_server_is_asked() {
        let none = DnsSpec::default();
        let found = resolution([&none, &none], &host(), true, true);
        assert_eq!(found.servers, ["127.0.0.11"]);
        assert_eq!(
            (found.search, found.options),
            (vec!["host.example".into()], vec!["edns0".into(), "ndots:0".into()])
        );
        let dots = DnsSpec {
            options: vec!["ndots:2".into()],
            search: vec![".".into()],
            ..asked(&["10.0.0.7", "127.0.0.1"])
        };
        let found = resolution([&dots, &none], &host(), true, true);
        assert_eq!(found.servers, ["127.0.0.11", "127.0.0.1"], "the container's own loopback is its own");
        assert_eq!((found.search, found.options), (vec![], vec!["ndots:2".to_owned()]));
    }

    #[test]
    fn elsewhere_the_hosts_servers_are_asked_if_they_can_be() {
        let none = DnsSpec::default();
        let found = resolution([&none, &none], &host(), false, true);
        assert_eq!((found.servers, found.options), (vec!["10.0.0.1".to_owned()], vec!["edns0".to_owned()]));
        let alone = ResolvConf { servers: vec![[127, 0, 0, 53].into()], ..host() };
        assert_eq!(resolution([&none, &none], &alone, false, true).servers, ["127.0.0.11"]);
        assert_eq!(resolution([&none, &none], &alone, false, false).servers, [""; 0]);
        let daemons = asked(&["10.9.9.9"]);
        assert_eq!(resolution([&none, &daemons], &host(), false, true).servers, ["10.9.9.9"]);
        assert_eq!(resolution([&asked(&["10.8.8.8"]), &daemons], &host(), false, true).servers, ["10.8.8.8"]);
    }
}
