//! `berth network create`: make a network.

use std::collections::BTreeMap;

use clap::Args;

use crate::client::{Client, Ipam, NetworkRequest, SubnetRequest};
use crate::environment;
use crate::outcome::{Failure, Outcome};
use crate::output::{note, print};

/// Create a network
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth network create web
  berth network create --subnet 10.9.0.0/24 --gateway 10.9.0.254 lab
  berth network create --internal --ipv6 vault")]
pub(crate) struct Arguments {
    /// Enable manual container attachment
    #[arg(long)]
    attachable: bool,
    /// Auxiliary IPv4 or IPv6 addresses that no container gets
    #[arg(long, value_name = "NAME=ADDRESS")]
    aux_address: Vec<String>,
    /// Driver to manage the network
    #[arg(short, long, default_value = "bridge", value_name = "DRIVER")]
    driver: String,
    /// IPv4 or IPv6 gateway for the subnet
    #[arg(long, value_name = "ADDRESS")]
    gateway: Vec<String>,
    /// Restrict external access to the network
    #[arg(long)]
    internal: bool,
    /// Allocate container addresses from a sub-range
    #[arg(long, value_name = "CIDR")]
    ip_range: Vec<String>,
    /// Enable or disable IPv4 address assignment
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    ipv4: Option<bool>,
    /// Enable or disable IPv6 address assignment
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    ipv6: Option<bool>,
    /// Set metadata on the network
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Set driver specific options
    #[arg(short, long = "opt", value_name = "KEY=VALUE")]
    option: Vec<String>,
    /// Subnet in CIDR format that represents a network segment
    #[arg(long, value_name = "CIDR")]
    subnet: Vec<String>,
    #[arg(value_name = "NETWORK")]
    name: String,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let created = client.create_network(&arguments.request()?).await?;
    if let Some(warning) = created.warning {
        note(&format!("WARNING: {warning}"));
    }
    print(&format!("{}\n", created.id))?;
    Ok(0)
}

impl Arguments {
    fn request(&self) -> Result<NetworkRequest, Failure> {
        let labels = environment::labels(&[], &self.label);
        Ok(NetworkRequest {
            name: self.name.clone(),
            driver: self.driver.clone(),
            internal: self.internal,
            attachable: self.attachable,
            enable_ipv4: self.ipv4,
            enable_ipv6: self.ipv6,
            ipam: Ipam { config: self.subnets()? },
            options: pairs("opt", &self.option)?,
            labels: labels.map_err(|error| Failure::Usage(error.to_string()))?,
        })
    }

    /// Each range, gateway and address goes to the subnet of its version: which addresses are whose, the daemon knows.
    fn subnets(&self) -> Result<Vec<SubnetRequest>, Failure> {
        let is_v6 = |text: &str| text.contains(':');
        let mut subnets: Vec<SubnetRequest> = self
            .subnet
            .iter()
            .map(|subnet| SubnetRequest { subnet: subnet.clone(), ..SubnetRequest::default() })
            .collect();
        let auxiliary = pairs("aux-address", &self.aux_address)?;
        for of_v6 in [false, true] {
            let of_version = |text: &&String| is_v6(text) == of_v6;
            let range = self.ip_range.iter().find(of_version);
            let gateway = self.gateway.iter().find(of_version);
            let addresses: BTreeMap<_, _> =
                auxiliary.iter().filter(|(_, address)| is_v6(address) == of_v6).collect();
            if range.is_none() && gateway.is_none() && addresses.is_empty() {
                continue;
            }
            let Some(subnet) = subnets.iter_mut().find(|subnet| is_v6(&subnet.subnet) == of_v6) else {
                let message = "every ip-range, gateway or aux-address must have a corresponding subnet";
                return Err(Failure::Usage(message.to_owned()));
            };
            subnet.ip_range = range.cloned().unwrap_or_default();
            subnet.gateway = gateway.cloned().unwrap_or_default();
            subnet.auxiliary_addresses =
                addresses.into_iter().map(|(name, address)| (name.clone(), address.clone())).collect();
        }
        Ok(subnets)
    }
}

pub(super) fn pairs(flag: &str, given: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').ok_or_else(|| {
            Failure::Usage(format!("invalid argument \"{text}\" for --{flag}: expected KEY=VALUE"))
        })?;
        Ok((name.to_owned(), value.to_owned()))
    };
    given.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn subnets(flags: &[&str]) -> Result<Vec<SubnetRequest>, String> {
        let line = [&["create"][..], flags, &["web"]].concat();
        Line::parse_from(line).arguments.subnets().map_err(|failure| failure.to_string())
    }

    #[test]
    fn what_belongs_to_a_subnet_goes_to_the_one_of_its_version() {
        let both = subnets(&[
            "--subnet",
            "fd00::/64",
            "--subnet",
            "10.9.0.0/24",
            "--gateway",
            "10.9.0.254",
            "--gateway",
            "fd00::9",
            "--ip-range",
            "10.9.0.128/25",
            "--aux-address",
            "router=10.9.0.7",
        ]);
        let v6 = SubnetRequest {
            subnet: "fd00::/64".into(),
            gateway: "fd00::9".into(),
            ..SubnetRequest::default()
        };
        let v4 = SubnetRequest {
            subnet: "10.9.0.0/24".into(),
            gateway: "10.9.0.254".into(),
            ip_range: "10.9.0.128/25".into(),
            auxiliary_addresses: [("router".to_owned(), "10.9.0.7".to_owned())].into(),
        };
        assert_eq!(both, Ok(vec![v6, v4]));
        assert_eq!(subnets(&[]), Ok(vec![]));
    }

    #[test]
    fn a_gateway_without_a_subnet_is_a_mistake() {
        let message = subnets(&["--gateway", "10.9.0.254"]).unwrap_err();
        assert!(message.contains("must have a corresponding subnet"), "{message}");
        let message = subnets(&["--subnet", "10.9.0.0/24", "--aux-address", "x"]).unwrap_err();
        assert!(message.contains("expected KEY=VALUE"), "{message}");
    }
}
