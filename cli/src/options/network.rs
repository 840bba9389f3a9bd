//! How a container is called and reached from outside.

use clap::Args;

use super::OptionError;
use super::attachment::{Attachment, attachments};
use super::ports;
use crate::client::{CreateRequest, NetworkingConfig};

#[derive(Args, Debug)]
#[command(next_help_heading = "Network")]
pub(crate) struct NetworkOptions {
    /// Container host name
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<String>,
    /// Container NIS domain name
    #[arg(long, value_name = "NAME")]
    domainname: Option<String>,
    /// Connect a container to a network; several times for several
    #[arg(long, alias = "net", value_name = "NETWORK|name=NETWORK,OPTION=VALUE,...")]
    network: Vec<String>,
    /// IPv4 address (e.g., 172.30.100.104)
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// IPv6 address (e.g., 2001:db8::33)
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<String>,
    /// Container IPv4/IPv6 link-local addresses
    #[arg(long, value_name = "ADDRESS")]
    link_local_ip: Vec<String>,
    /// Container MAC address (e.g., 92:d0:c6:0a:29:33)
    #[arg(long, value_name = "ADDRESS")]
    mac_address: Option<String>,
    /// Publish a container's port(s) to the host
    #[arg(short, long, value_name = "[[ADDRESS:]PORT[-PORT]:]PORT[-PORT][/PROTOCOL]")]
    publish: Vec<String>,
    /// Publish all exposed ports to random ports
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Expose a port
    #[arg(long, value_name = "PORT[-PORT][/PROTOCOL]")]
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
        let attachments = attachments(&self.network, &self.of_first())?;
        let host = &mut request.host_config;
        host.network_mode = attachments.first().map(|first| first.network.clone()).unwrap_or_default();
        host.publish_all_ports = self.publish_all;
        host.dns.clone_from(&self.dns);
        host.dns_options.clone_from(&self.dns_option);
        host.dns_search.clone_from(&self.dns_search);
        host.links.clone_from(&self.link);
        // Docker writes HOST=ADDRESS too; the API takes a colon.
        host.extra_hosts = self.add_host.iter().map(|entry| entry.replacen('=', ":", 1)).collect();
        request.networking_config = self.networking(attachments);
        for publish in &self.publish {
            let parsed = ports::parse_publish(publish);
            for (port, binding) in
                parsed.map_err(|reason| OptionError::invalid("publish", publish, reason))?
            {
                host.port_bindings.entry(port.clone()).or_default().push(binding);
                request.exposed_ports.entry(port).or_default();
            }
        }
        for expose in &self.expose {
            let parsed = ports::parse_expose(expose);
            for port in parsed.map_err(|reason| OptionError::invalid("expose", expose, reason))? {
                request.exposed_ports.entry(port).or_default();
            }
        }
        Ok(())
    }

    /// What flags of their own say of the first network.
    fn of_first(&self) -> Attachment {
        let mut first = Attachment::default();
        first.settings.aliases.clone_from(&self.network_alias);
        first.settings.mac_address = self.mac_address.clone().unwrap_or_default();
        first.addresses.ipv4 = self.ip.clone().unwrap_or_default();
        first.addresses.ipv6 = self.ip6.clone().unwrap_or_default();
        first.addresses.link_local.clone_from(&self.link_local_ip);
        first
    }

    /// What is asked of the networks that the container joins. Links of the default network are the host's.
    fn networking(&self, attachments: Vec<Attachment>) -> Option<NetworkingConfig> {
        let mut config = NetworkingConfig::default();
        for (number, attachment) in attachments.into_iter().enumerate() {
            let network = attachment.network.clone();
            let is_users = !matches!(network.as_str(), "default" | "bridge" | "host" | "none" | "");
            let mut settings = attachment.settings();
            if number == 0 && is_users {
                settings.links.clone_from(&self.link);
            }
            // The first is the mode's; what is not asked for need not be said.
            if number > 0 || settings != crate::client::EndpointSettings::default() {
                let name = if network.is_empty() { "default".to_owned() } else { network };
                config.endpoints_config.insert(name, settings);
            }
        }
        (!config.endpoints_config.is_empty()).then_some(config)
    }
}
