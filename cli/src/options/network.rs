//! How a container is called and reached from outside.

use clap::Args;

use super::OptionError;
use crate::client::{CreateRequest, EndpointConfig, NetworkingConfig, PortBinding};

#[derive(Args, Debug)]
#[command(next_help_heading = "Network")]
pub(crate) struct NetworkOptions {
    /// Container host name
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<String>,
    /// Container NIS domain name
    #[arg(long, value_name = "NAME")]
    domainname: Option<String>,
    /// Connect a container to a network
    #[arg(long, alias = "net", value_name = "NETWORK")]
    network: Option<String>,
    /// Publish a container's port(s) to the host
    #[arg(short, long, value_name = "[[ADDRESS:]PORT:]PORT[/PROTOCOL]")]
    publish: Vec<String>,
    /// Publish all exposed ports to random ports
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Expose a port
    #[arg(long, value_name = "PORT[/PROTOCOL]")]
    expose: Vec<String>,
    /// Set custom DNS servers
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<String>,
    /// Set DNS options
    #[arg(long, alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Set custom DNS search domains
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Add network-scoped alias for the container
    #[arg(long, alias = "net-alias", value_name = "NAME")]
    network_alias: Vec<String>,
    /// Add link to another container
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    link: Vec<String>,
    /// Add a custom host-to-IP mapping
    #[arg(long, value_name = "HOST:ADDRESS")]
    add_host: Vec<String>,
}

impl NetworkOptions {
    pub(super) fn apply(&self, request: &mut CreateRequest) -> Result<(), OptionError> {
        request.hostname = self.hostname.clone().unwrap_or_default();
        request.domainname = self.domainname.clone().unwrap_or_default();
        let host = &mut request.host_config;
        host.network_mode = self.network.clone().unwrap_or_default();
        host.publish_all_ports = self.publish_all;
        host.dns.clone_from(&self.dns);
        host.dns_options.clone_from(&self.dns_option);
        host.dns_search.clone_from(&self.dns_search);
        host.links.clone_from(&self.link);
        // Docker writes HOST=ADDRESS too; the API takes a colon.
        host.extra_hosts = self.add_host.iter().map(|entry| entry.replacen('=', ":", 1)).collect();
        request.networking_config = self.networking();
        for publish in &self.publish {
            let parsed = parse_publish(publish);
            let (port, binding) =
                parsed.map_err(|reason| OptionError::invalid("publish", publish, reason))?;
            host.port_bindings.entry(port.clone()).or_default().push(binding);
            request.exposed_ports.entry(port).or_default();
        }
        for expose in &self.expose {
            let port = parse_port(expose).map_err(|reason| OptionError::invalid("expose", expose, reason))?;
            request.exposed_ports.entry(port).or_default();
        }
        Ok(())
    }
}

impl NetworkOptions {
    /// What is asked of the network that the container joins. Links of the default network are the host's.
    fn networking(&self) -> Option<NetworkingConfig> {
        let network = self.network.as_deref().unwrap_or("default");
        let has_names = !matches!(network, "default" | "bridge" | "host" | "none" | "");
        let links = if has_names { self.link.clone() } else { Vec::new() };
        let endpoint = EndpointConfig { aliases: self.network_alias.clone(), links };
        let asks_for_something = !endpoint.aliases.is_empty() || !endpoint.links.is_empty();
        asks_for_something
            .then(|| NetworkingConfig { endpoints_config: [(network.to_owned(), endpoint)].into() })
    }
}

/// `[[ADDRESS:]PORT:]PORT[/PROTOCOL]`, an IPv6 address in brackets.
pub(super) fn parse_publish(text: &str) -> Result<(String, PortBinding), String> {
    let (front, container) = text.rsplit_once(':').unwrap_or(("", text));
    let (host_ip, host_port) = match front.rsplit_once(':') {
        Some((ip, port)) => (ip.trim_start_matches('[').trim_end_matches(']'), port),
        None => ("", front),
    };
    if !host_ip.is_empty() && host_ip.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("invalid IP address: {host_ip}"));
    }
    if !host_port.is_empty() {
        check_number(host_port)?;
    }
    let binding = PortBinding { host_ip: host_ip.to_owned(), host_port: host_port.to_owned() };
    Ok((parse_port(container)?, binding))
}

/// `PORT[/PROTOCOL]`, with the protocol written out.
fn parse_port(text: &str) -> Result<String, String> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    check_number(port)?;
    match protocol.to_ascii_lowercase().as_str() {
        protocol @ ("tcp" | "udp" | "sctp") => Ok(format!("{port}/{protocol}")),
        _ => Err(format!("invalid proto: {protocol}")),
    }
}

fn check_number(port: &str) -> Result<(), String> {
    match port.parse::<u16>() {
        Ok(number) if number > 0 => Ok(()),
        _ if port.contains('-') => Err("port ranges are not supported yet: give each port".to_owned()),
        _ => Err(format!("invalid port: {port}")),
    }
}
