//! Making a network: its name and its ranges taken, its record written, its bridge made.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;

use super::super::Engine;
use super::super::error::EngineError;
use super::network::{Network, NetworkDriver, NetworkId, Reach, Subnet};
use super::options::BridgeOptions;
use super::{Networks, forbidden};
use crate::network::host::HostNetworks;
use crate::network::pools::{IpVersion, overlap};

/// Names that mean something else.
pub(super) const PREDEFINED: [&str; 3] = ["bridge", "host", "none"];
/// The words of Docker's for a range that is somebody else's.
const OVERLAP: &str = "invalid pool request: Pool overlaps with other one on this address space";

/// A network as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkRequest {
    pub name: String,
    pub driver: NetworkDriver,
    pub ipv4: bool,
    pub ipv6: bool,
    pub reach: Reach,
    pub attachable: bool,
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
    pub subnets: Vec<SubnetRequest>,
}

/// A range as it is asked for; what is unset is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubnetRequest {
    pub net: Option<IpNet>,
    pub range: Option<IpNet>,
    pub gateway: Option<IpAddr>,
    pub auxiliary: BTreeMap<String, IpAddr>,
}

/// A network that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedNetwork {
    pub id: NetworkId,
}

impl Engine {
    /// # Errors
    /// A name or a range that is taken, options that are none, or a host that cannot have networks; nothing is left then.
    pub async fn create_network(&self, request: NetworkRequest) -> Result<CreatedNetwork, EngineError> {
        if PREDEFINED.contains(&request.name.as_str()) {
            return Err(forbidden(format!(
                "operation is not permitted on predefined {} network",
                request.name
            )));
        }
        check_name(&request.name)?;
        if request.driver != NetworkDriver::Bridge {
            let name = request.driver.name();
            return Err(forbidden(format!("only one instance of \"{name}\" network is allowed")));
        }
        self.shared.networks.refuse_in_user_mode(&format!("making network {}", request.name))?;
        let engine = self.clone();
        // A task of its own: a client that goes away must not leave a network half made.
        let creating = tokio::spawn(async move {
            let _turn = engine.shared.networks.changes.lock().await;
            let network = engine.shared.networks.describe(request).await?;
            engine.shared.networks.make(network.clone()).await?;
            engine.publish_network("create", &network);
            Ok(CreatedNetwork { id: network.id })
        });
        creating.await.map_err(|error| EngineError::internal("cannot create network", &error))?
    }
}

fn check_name(name: &str) -> Result<(), EngineError> {
    let first = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if first && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) {
        return Ok(());
    }
    let rule =
        "must start with a letter or digit and consist of letters, digits, underscores, dots and hyphens";
    Err(EngineError::invalid(format!("invalid network name {name:?}: it {rule}")))
}

impl Networks {
    /// The network asked for, complete. The caller holds `changes`.
    async fn describe(&self, request: NetworkRequest) -> Result<Network, EngineError> {
        let name = request.name.as_str();
        if self.active().values().any(|active| active.network.name == name) {
            return Err(EngineError::conflict(format!("network with name {name} already exists")));
        }
        let id = NetworkId::random();
        let options =
            BridgeOptions { mtu_bytes: self.policy.mtu_bytes, ..BridgeOptions::named(id.bridge_name()) };
        let bridge = options.read(&request.options)?;
        self.check_interface_is_free(&bridge.name)?;
        let subnets = self.subnets(&request).await?;
        Ok(Network {
            id,
            name: request.name,
            created_at: Timestamp::now(),
            driver: request.driver,
            subnets,
            reach: request.reach,
            attachable: request.attachable,
            labels: request.labels,
            options: request.options,
            bridge,
        })
    }

    fn check_interface_is_free(&self, interface: &str) -> Result<(), EngineError> {
        match self.active().values().find(|active| active.network.bridge.name == interface) {
            Some(holder) => Err(forbidden(format!(
                "conflicts with network {} ({}): networks have same bridge name",
                holder.network.id, holder.network.name
            ))),
            None => Ok(()),
        }
    }

    /// One of each version that is wanted, IPv4 first.
    async fn subnets(&self, request: &NetworkRequest) -> Result<Vec<Subnet>, EngineError> {
        let mut taken: Vec<IpNet> = self.subnets_in_use();
        let mut subnets = Vec::new();
        for (version, wanted) in [(IpVersion::V4, request.ipv4), (IpVersion::V6, request.ipv6)] {
            let mut asked = request.subnets.iter().filter(|subnet| subnet.version() == version);
            match (wanted, asked.next(), asked.next()) {
                (false, None, _) => {}
                (false, Some(_), _) => {
                    return Err(EngineError::invalid(format!("{version} is disabled for this network")));
                }
                (true, _, Some(_)) => {
                    let message = format!("bridge driver doesn't support multiple {version} subnets");
                    return Err(EngineError::invalid(message));
                }
                (true, asked, None) => {
                    let asked = asked.cloned().unwrap_or_default();
                    let net = match asked.net {
                        Some(net) if taken.iter().any(|other| overlap(other, &net)) => {
                            return Err(forbidden(OVERLAP));
                        }
                        Some(net) => net,
                        None => self.free_range(version, &taken).await?,
                    };
                    taken.push(net);
                    subnets.push(asked.complete(net)?);
                }
            }
        }
        if subnets.is_empty() {
            return Err(EngineError::invalid("IPv4 or IPv6 must be enabled"));
        }
        Ok(subnets)
    }

    pub(super) fn subnets_in_use(&self) -> Vec<IpNet> {
        let active = self.active();
        active.values().flat_map(|active| &active.network.subnets).map(|subnet| subnet.net).collect()
    }

    pub(super) async fn free_range(&self, version: IpVersion, taken: &[IpNet]) -> Result<IpNet, EngineError> {
        let routes = match self.is_user_mode() {
            false => self.host().await?.routes().await,
            true => HostNetworks::routes_of_host().await,
        };
        let mut all = routes.map_err(|error| EngineError::internal("cannot choose a range", &error))?;
        all.extend(taken);
        let exhausted = || EngineError::invalid("all predefined address pools have been fully subnetted");
        self.policy.pools.free(version, &all).ok_or_else(exhausted)
    }

    /// Record first, bridge second: what a crash leaves is a record, and the next daemon makes its bridge.
    pub(super) async fn make(&self, network: Network) -> Result<(), EngineError> {
        self.records.put(&network).await?;
        if let Err(error) = self.make_on_host(&network).await {
            self.unmake(&network).await;
            return Err(error);
        }
        self.activate(network);
        Ok(())
    }

    pub(super) async fn make_on_host(&self, network: &Network) -> Result<(), EngineError> {
        let Some(bridge) = network.on_host().filter(|_| !self.is_user_mode()) else { return Ok(()) };
        let made = self.host().await?.ensure(&bridge).await;
        made.map_err(|error| EngineError::internal(&format!("cannot make network {}", network.name), &error))
    }

    async fn unmake(&self, network: &Network) {
        if let (Some(host), Some(bridge)) = (self.host.get(), network.on_host())
            && let Err(error) = host.remove(&bridge).await
        {
            tracing::warn!(network = network.name, %error, "cannot remove what is left of a network");
        }
        if let Err(error) = self.records.delete(network.id.as_str()).await {
            tracing::warn!(network = network.name, %error, "cannot forget a network that was not made");
        }
    }
}

impl SubnetRequest {
    /// That of whatever it names; one that names nothing is of IPv4.
    fn version(&self) -> IpVersion {
        let named = self.net.as_ref().or(self.range.as_ref()).map(IpNet::addr).or(self.gateway);
        match named {
            Some(IpAddr::V6(_)) => IpVersion::V6,
            Some(IpAddr::V4(_)) | None => IpVersion::V4,
        }
    }

    /// # Errors
    /// An address or a range that is not in the subnet; a subnet without room.
    fn complete(self, net: IpNet) -> Result<Subnet, EngineError> {
        if net != net.trunc() {
            return Err(misfit(&format!("invalid subnet {net}: it should be {}", net.trunc())));
        }
        if net.prefix_len() + 2 > net.max_prefix_len() {
            return Err(misfit(&format!(
                "invalid subnet {net}: it has no room for a gateway and a container"
            )));
        }
        if let Some(range) = self.range.filter(|range| !net.contains(range)) {
            return Err(misfit(&format!(
                "invalid ip-range {range}: parent subnet {net} doesn't contain ip-range"
            )));
        }
        let outside = |what: &str, address: IpAddr| {
            let message = format!("invalid {what}: parent subnet {net} doesn't contain this address");
            (!net.contains(&address)).then(|| misfit(&message))
        };
        let auxiliary = self
            .auxiliary
            .iter()
            .find_map(|(name, address)| outside(&format!("auxiliary address {name}"), *address));
        let gateway = self.gateway.and_then(|gateway| outside(&format!("gateway {gateway}"), gateway));
        if let Some(error) = gateway.or(auxiliary) {
            return Err(error);
        }
        let range = self.range.map(|range| range.trunc());
        let gateway = match self.gateway {
            Some(gateway) => gateway,
            None => first_free(net, range, &self.auxiliary)?,
        };
        Ok(Subnet { net, gateway, range, auxiliary: self.auxiliary })
    }
}

/// In Docker's words.
fn misfit(reason: &str) -> EngineError {
    EngineError::invalid(format!("invalid network config:\n{reason}"))
}

/// Docker's choice of a gateway: the first address of what is given out.
fn first_free(
    net: IpNet,
    range: Option<IpNet>,
    auxiliary: &BTreeMap<String, IpAddr>,
) -> Result<IpAddr, EngineError> {
    let mut addresses = crate::network::addresses::Addresses::new(net, range);
    for address in auxiliary.values() {
        addresses.take(*address).map_err(|error| EngineError::invalid(error.to_string()))?;
    }
    addresses.lowest().map_err(|error| EngineError::invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(net: &str) -> SubnetRequest {
        SubnetRequest { net: net.parse().ok(), ..SubnetRequest::default() }
    }

    fn complete(request: SubnetRequest) -> Result<Subnet, String> {
        let net = request.net.unwrap();
        request.complete(net).map_err(|error| error.message)
    }

    #[test]
    fn a_gateway_is_the_first_address_that_is_nobody_elses() {
        let gateway = |request| complete(request).map(|subnet| subnet.gateway.to_string());
        assert_eq!(gateway(request("10.0.0.0/24")).as_deref(), Ok("10.0.0.1"));
        assert_eq!(gateway(request("fd00::/64")).as_deref(), Ok("fd00::1"));
        let auxiliary = BTreeMap::from([("router".to_owned(), [10, 0, 0, 1].into())]);
        assert_eq!(gateway(SubnetRequest { auxiliary, ..request("10.0.0.0/24") }).as_deref(), Ok("10.0.0.2"));
        let range = "10.0.0.64/26".parse().ok();
        assert_eq!(gateway(SubnetRequest { range, ..request("10.0.0.0/24") }).as_deref(), Ok("10.0.0.64"));
    }

    #[test]
    fn what_is_not_of_the_subnet_is_refused_by_name() {
        let outside = Some(IpAddr::from([10, 1, 0, 1]));
        let cases = [
            (request("10.0.0.5/24"), "invalid subnet 10.0.0.5/24: it should be 10.0.0.0/24"),
            (request("10.0.0.0/31"), "invalid subnet 10.0.0.0/31: it has no room"),
            (
                SubnetRequest { gateway: outside, ..request("10.0.0.0/24") },
                "invalid gateway 10.1.0.1: parent subnet",
            ),
            (
                SubnetRequest { range: "10.0.0.0/23".parse().ok(), ..request("10.0.0.0/24") },
                "invalid ip-range 10.0.0.0/23",
            ),
        ];
        for (request, expected) in cases {
            let message = complete(request).unwrap_err();
            let reason = message.strip_prefix("invalid network config:\n");
            assert!(reason.is_some_and(|reason| reason.starts_with(expected)), "{message}");
        }
    }

    #[test]
    fn names_that_could_be_options_or_paths_are_refused() {
        assert!(check_name("web_1.x-y").is_ok());
        for name in ["", "-x", "a/b", "a b", "é"] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
