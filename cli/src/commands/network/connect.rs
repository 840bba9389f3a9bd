//! `berth network connect`: let a container join a network.

use clap::Args;

use super::create::pairs;
use crate::client::{Client, Connection, EndpointAddresses, EndpointSettings};
use crate::outcome::{Failure, Outcome};

/// Connect a container to a network
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth network connect backend web
  berth network connect --alias db --ip 10.9.0.7 backend postgres
  berth network connect --gw-priority 1 uplink web")]
pub(crate) struct Arguments {
    /// Add network-scoped alias for the container
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// Driver options for the network
    #[arg(long, value_name = "KEY=VALUE")]
    driver_opt: Vec<String>,
    /// Highest gw-priority provides the default gateway. Accepts positive and negative values
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_name = "NUMBER")]
    gw_priority: i64,
    /// IPv4 address (e.g., "172.30.100.104")
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ADDRESS")]
    ip: String,
    /// IPv6 address (e.g., "2001:db8::33")
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ADDRESS")]
    ip6: String,
    /// Add link to another container
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    link: Vec<String>,
    /// Add a link-local address for the container
    #[arg(long, value_name = "ADDRESS")]
    link_local_ip: Vec<String>,
    #[arg(value_name = "NETWORK")]
    network: String,
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    client.connect_network(&arguments.network, &arguments.connection()?).await?;
    Ok(0)
}

impl Arguments {
    fn connection(&self) -> Result<Connection, Failure> {
        let addresses = EndpointAddresses {
            ipv4: self.ip.clone(),
            ipv6: self.ip6.clone(),
            link_local: self.link_local_ip.clone(),
        };
        let endpoint_config = EndpointSettings {
            ipam_config: (addresses != EndpointAddresses::default()).then_some(addresses),
            links: self.link.clone(),
            aliases: self.alias.clone(),
            driver_opts: pairs("driver-opt", &self.driver_opt)?,
            gw_priority: self.gw_priority,
            ..EndpointSettings::default()
        };
        Ok(Connection { container: self.container.clone(), endpoint_config })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn sent(line: &str) -> serde_json::Value {
        let arguments = Line::parse_from(line.split(' ')).arguments;
        serde_json::to_value(arguments.connection().unwrap()).unwrap()
    }

    #[test]
    fn what_is_not_asked_for_is_not_sent() {
        let least = json!({ "Container": "web", "EndpointConfig": {} });
        assert_eq!(sent("connect back web"), least);
        let all =
            sent("connect --alias a --alias b --ip 10.0.0.9 --gw-priority -2 --driver-opt k=v back web");
        let expected = json!({ "Container": "web", "EndpointConfig": {
            "IPAMConfig": { "IPv4Address": "10.0.0.9" }, "Aliases": ["a", "b"], "DriverOpts": { "k": "v" },
            "GwPriority": -2,
        } });
        assert_eq!(all, expected);
    }
}
