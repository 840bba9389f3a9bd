//! What a network is: the noun, as it is kept and shown.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::options::BridgeOptions;
use crate::network::firewall::WayOut;
use crate::network::host::BridgeNetwork;

/// 64 hex digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NetworkId(String);

const BRIDGE_DIGITS: usize = 12;

impl NetworkId {
    pub(super) fn random() -> Self {
        Self(hex::encode(rand::random::<[u8; 32]>()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the bridge whose creator asked for none, as Docker makes it.
    pub(super) fn bridge_name(&self) -> String {
        format!("br-{}", &self.0[..BRIDGE_DIGITS])
    }
}

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What carries a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkDriver {
    /// A Linux bridge of the host's.
    Bridge,
    /// The network namespace of the machine itself: `host`, seen from inside.
    Machine,
    /// Loopback alone.
    None,
}

impl NetworkDriver {
    /// Docker's words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Machine => "host",
            Self::None => "null",
        }
    }
}

/// A range of addresses of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    pub net: IpNet,
    pub gateway: IpAddr,
    /// Where addresses come from that nobody asked for by name; all of the subnet if unset.
    pub range: Option<IpNet>,
    /// Addresses that no container gets, by what they are for.
    pub auxiliary: BTreeMap<String, IpAddr>,
}

/// Whether a network is joined to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reach {
    #[default]
    Open,
    /// No packet leaves it, and none comes in.
    Internal,
}

/// A network, for as long as it exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub id: NetworkId,
    pub name: String,
    pub created_at: Timestamp,
    pub driver: NetworkDriver,
    /// At most one of each version of IP.
    pub subnets: Vec<Subnet>,
    pub reach: Reach,
    pub attachable: bool,
    pub labels: BTreeMap<String, String>,
    /// As they were asked for.
    pub options: BTreeMap<String, String>,
    /// What they mean.
    pub bridge: BridgeOptions,
}

impl Network {
    #[must_use]
    pub fn subnet(&self, of: IpAddr) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.net.contains(&of))
    }

    #[must_use]
    pub fn has_ipv4(&self) -> bool {
        self.subnets.iter().any(|subnet| subnet.net.addr().is_ipv4())
    }

    #[must_use]
    pub fn has_ipv6(&self) -> bool {
        self.subnets.iter().any(|subnet| subnet.net.addr().is_ipv6())
    }

    /// What the host makes of it; nothing of one without a bridge.
    pub(super) fn on_host(&self) -> Option<BridgeNetwork> {
        let way_out = match (self.reach, self.bridge.masquerade) {
            (Reach::Internal, _) => WayOut::Closed,
            (Reach::Open, true) => WayOut::Masqueraded,
            (Reach::Open, false) => WayOut::Routed,
        };
        let gateway = |subnet: &Subnet| IpNet::new(subnet.gateway, subnet.net.prefix_len()).ok();
        (self.driver == NetworkDriver::Bridge).then(|| BridgeNetwork {
            bridge: self.bridge.name.clone(),
            gateways: self.subnets.iter().filter_map(gateway).collect(),
            mtu: self.bridge.mtu_bytes.into(),
            way_out,
        })
    }
}
