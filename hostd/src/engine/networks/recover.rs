//! What a daemon does first: the networks that are always there, and the bridges of those that its records name.

use std::collections::BTreeMap;

use ipnet::IpNet;
use jiff::Timestamp;

use super::super::error::EngineError;
use super::network::{Network, NetworkDriver, NetworkId, Reach, Subnet};
use super::options::BridgeOptions;
use super::{DefaultBridge, Networks};
use crate::network::pools::IpVersion;

impl Networks {
    /// Before any container is taken over.
    ///
    /// # Errors
    /// The database. A host on which the default network cannot be is warned of, and has none.
    pub(in crate::engine) async fn recover(&self, records: Vec<Network>) -> Result<(), EngineError> {
        let mut known: BTreeMap<String, Network> =
            records.into_iter().map(|network| (network.name.clone(), network)).collect();
        for (name, driver) in [("none", NetworkDriver::None), ("host", NetworkDriver::Machine)] {
            let network = known.remove(name);
            if network.is_none() {
                let bridge = BridgeOptions::named(String::new());
                self.make(predefined(name, driver, Vec::new(), bridge)).await?;
            }
            network.map(|network| self.activate(network));
        }
        let default = known.remove("bridge");
        for network in known.into_values() {
            // A bridge that cannot be made is told of when a container is to join it.
            if let Err(error) = self.make_on_host(&network).await {
                tracing::warn!(network = network.name, %error, "a network is not there");
            }
            self.activate(network);
        }
        if let Err(error) = self.recover_default(default).await {
            tracing::warn!(reason = error.message, "there is no default network");
            let _first = self.no_default.set(error.message);
        }
        Ok(())
    }

    /// Once all containers that run have been taken over: what nobody has any more goes.
    pub(in crate::engine) async fn sweep(&self) {
        // A host that was not asked for anything has nothing of ours.
        let Some(host) = self.host.get() else { return };
        let active: Vec<_> = self.active().values().cloned().collect();
        let bridges: Vec<&str> = active.iter().map(|active| active.network.bridge.name.as_str()).collect();
        let cards: Vec<String> = active
            .iter()
            .flat_map(|active| {
                active.stations().values().map(|station| station.card.clone()).collect::<Vec<_>>()
            })
            .collect();
        let cards: Vec<&str> = cards.iter().map(String::as_str).collect();
        if let Err(error) = host.keep_only(&bridges, &cards).await {
            tracing::warn!(%error, "cannot remove what no network has any more");
        }
    }

    /// The default network is as the daemon's settings say, and keeps its range while they do not say another.
    async fn recover_default(&self, before: Option<Network>) -> Result<(), EngineError> {
        let DefaultBridge::Network { interface, address, icc } = &self.policy.default_bridge else {
            if let Some(network) = before {
                // Its bridge goes with what nobody has any more, if it has one.
                if !self.is_user_mode() {
                    self.host().await?;
                }
                self.records.delete(network.id.as_str()).await?;
            }
            return Ok(());
        };
        let options = BridgeOptions {
            icc: *icc,
            mtu_bytes: self.policy.mtu_bytes,
            ..BridgeOptions::named(interface.clone())
        };
        let kept = before.as_ref().and_then(|network| network.subnets.first().cloned());
        let subnet = match (address, kept) {
            (Some(address), _) => subnet_of(*address),
            (None, Some(kept)) => kept,
            (None, None) => {
                let taken: Vec<_> = self.subnets_in_use();
                let net = self.free_range(IpVersion::V4, &taken).await?;
                let first = net.hosts().next().unwrap_or_else(|| net.network());
                subnet_of(IpNet::new(first, net.prefix_len()).unwrap_or(net))
            }
        };
        let mut network = predefined("bridge", NetworkDriver::Bridge, vec![subnet], options);
        if !self.is_user_mode() {
            network.options = network.bridge.of_default_network();
        }
        if let Some(before) = before {
            (network.id, network.created_at) = (before.id, before.created_at);
        }
        self.make(network).await
    }
}

fn subnet_of(address: IpNet) -> Subnet {
    Subnet { net: address.trunc(), gateway: address.addr(), range: None, auxiliary: BTreeMap::new() }
}

fn predefined(name: &str, driver: NetworkDriver, subnets: Vec<Subnet>, bridge: BridgeOptions) -> Network {
    Network {
        id: NetworkId::random(),
        name: name.to_owned(),
        created_at: Timestamp::now(),
        driver,
        subnets,
        reach: Reach::Open,
        attachable: false,
        labels: BTreeMap::new(),
        options: BTreeMap::new(),
        bridge,
    }
}
