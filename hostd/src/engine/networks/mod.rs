//! Networks: what there is of them, and who is on them.
//!
//! A network is a record first and a bridge of the host's second: a daemon that starts makes the bridges that its records
//! name, and removes those of its own that none names. The host is not touched before there is a network that has a
//! bridge.

mod connect;
mod create;
mod endpoint;
mod join;
mod leaving;
mod live;
mod names;
mod network;
mod options;
mod rates;
mod recover;
mod remove;
mod settle;
mod user;
mod view;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ipnet::IpNet;
use tokio::sync::OnceCell;

pub(super) use self::connect::Connection;
pub use self::create::{CreatedNetwork, NetworkRequest, SubnetRequest};
pub(super) use self::endpoint::default_routes;
pub use self::endpoint::{
    DnsSpec, Endpoint, EndpointNames, EndpointSpec, Link, NetworkMode, NetworkSpec, PortBinding,
    PublishedPort,
};
pub(super) use self::join::Joined;
pub(super) use self::names::NAMELESS_NETWORK;
pub use self::network::{Network, NetworkDriver, NetworkId, Reach, Subnet};
pub(crate) use self::rates::check_endpoint_options;
pub use self::user::NetworkBackend;
pub use self::view::{NetworkView, StationView};

use self::leaving::Leaving;
use super::container::Container;
use super::error::{EngineError, ErrorKind};
use super::events::{Actor, EventKind};
use super::identity::ContainerId;
use super::records::{Record, Records};
use super::{Engine, Shared};
use crate::database::Database;
use crate::network::addresses::Addresses;
use crate::network::host::HostNetworks;
use crate::network::pools::AddressPools;
use crate::network::ports::ReservedPort;
use crate::network::resolv_conf::{HostResolution, ResolvConf};

/// What networks there are without anybody's asking, and where others get their addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkPolicy {
    pub backend: NetworkBackend,
    pub default_bridge: DefaultBridge,
    pub pools: AddressPools,
    /// Of networks that ask for none.
    pub mtu_bytes: u16,
    /// TCP ports of the daemon, closed to containers.
    pub daemon_ports: Vec<u16>,
    /// Of containers that ask for none.
    pub dns: DnsSpec,
    /// The host's addresses for containers that ask for them; if empty, those on the default network.
    pub host_gateways: Vec<IpAddr>,
}

/// The network of containers that name none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultBridge {
    /// There is none: they have loopback alone.
    None,
    /// The network `bridge`.
    Network {
        interface: String,
        /// The host's address on it, with its subnet's prefix; if unset, of the first free range.
        address: Option<IpNet>,
        icc: bool,
    },
}

/// All networks of a daemon's.
#[derive(Debug)]
pub(super) struct Networks {
    policy: NetworkPolicy,
    resolution: HostResolution,
    records: Records<Network>,
    /// What tells this daemon's links and rules from those of others on the host.
    host_name: String,
    host: OnceCell<HostNetworks>,
    active: RwLock<BTreeMap<NetworkId, Arc<ActiveNetwork>>>,
    /// Held while networks are made or removed: whoever chooses a range knows all that are taken.
    changes: tokio::sync::Mutex<()>,
    leaving: Leaving,
    /// Why the default network, which was asked for, is not there.
    no_default: OnceLock<String>,
    /// Ports that starting containers' network stacks are about to take.
    reserved: Mutex<BTreeMap<ContainerId, Vec<ReservedPort>>>,
}

/// A network that is there.
#[derive(Debug)]
pub(super) struct ActiveNetwork {
    pub(super) network: Network,
    /// In the order of the network's subnets.
    addresses: Mutex<Vec<Addresses>>,
    stations: Mutex<BTreeMap<ContainerId, StationView>>,
}

impl Record for Network {
    const TABLE: &'static str = "networks";
    const NOUN: &'static str = "network";

    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl Networks {
    pub(super) fn new(policy: NetworkPolicy, host_name: String, database: Database) -> Self {
        Self {
            policy,
            resolution: HostResolution::default(),
            records: Records::new(database),
            host_name,
            host: OnceCell::new(),
            active: RwLock::default(),
            changes: tokio::sync::Mutex::default(),
            leaving: Leaving::default(),
            no_default: OnceLock::new(),
            reserved: Mutex::default(),
        }
    }

    /// All that the database has. Blocks.
    pub(super) fn records(&self) -> Result<Vec<Network>, EngineError> {
        self.records.all()
    }

    /// What is to be known of networks here: that the default one is not there, or what all of them lack.
    pub(super) fn warning(&self) -> Option<String> {
        match (&self.policy.default_bridge, self.no_default.get()) {
            (DefaultBridge::None, _) => {
                Some("containers that name no network have loopback alone (--bridge=none)".to_owned())
            }
            (_, Some(reason)) => {
                Some(format!("containers that name no network have loopback alone: {reason}"))
            }
            (_, None) => self.user_mode_warning(),
        }
    }

    pub(super) fn policy(&self) -> &NetworkPolicy {
        &self.policy
    }

    /// Whom the host asks for names, now.
    pub(super) fn host_resolution(&self) -> Arc<ResolvConf> {
        self.resolution.current()
    }

    pub(super) fn backend(&self) -> NetworkBackend {
        self.policy.backend
    }

    /// The host's side, set up when it is first needed.
    async fn host(&self) -> Result<&HostNetworks, EngineError> {
        let open = || HostNetworks::open(&self.host_name, self.policy.daemon_ports.clone());
        let opened = self.host.get_or_try_init(open).await;
        opened.map_err(|error| EngineError::internal("networks are not possible on this host", &error))
    }

    fn active(&self) -> RwLockReadGuard<'_, BTreeMap<NetworkId, Arc<ActiveNetwork>>> {
        self.active.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn active_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<NetworkId, Arc<ActiveNetwork>>> {
        self.active.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The container has another name from now on, on all of its networks.
    pub(super) fn renamed(&self, container: &ContainerId, name: &str) {
        for network in self.active().values() {
            if let Some(station) = network.stations().get_mut(container) {
                station.container_name = name.into();
            }
        }
    }

    fn activate(&self, network: Network) -> Arc<ActiveNetwork> {
        let active = Arc::new(ActiveNetwork::new(network));
        self.active_mut().insert(active.network.id.clone(), Arc::clone(&active));
        active
    }

    /// The network that a client's word means: a name, an id, or the beginning of one id.
    pub(super) fn find(&self, word: &str) -> Result<Arc<ActiveNetwork>, EngineError> {
        let active = self.active();
        let exact = active.values().find(|active| active.network.id.as_str() == word);
        if let Some(found) = exact.or_else(|| active.values().find(|active| active.network.name == word)) {
            return Ok(Arc::clone(found));
        }
        let fits =
            |active: &&Arc<ActiveNetwork>| !word.is_empty() && active.network.id.as_str().starts_with(word);
        let found: Vec<_> = active.values().filter(fits).collect();
        match found[..] {
            [one] => Ok(Arc::clone(one)),
            [] => Err(EngineError::not_found(format!("network {word} not found"))),
            _ => {
                let matches = found.len();
                let message =
                    format!("network {word} is ambiguous ({matches} matches found based on ID prefix)");
                Err(EngineError::invalid(message))
            }
        }
    }
}

impl ActiveNetwork {
    fn new(network: Network) -> Self {
        let addresses = network.subnets.iter().map(|subnet| {
            let mut addresses = Addresses::new(subnet.net, subnet.range);
            for reserved in std::iter::once(&subnet.gateway).chain(subnet.auxiliary.values()) {
                // Both may name the same.
                let _taken_already = addresses.take(*reserved);
            }
            addresses
        });
        Self { addresses: Mutex::new(addresses.collect()), stations: Mutex::default(), network }
    }

    /// Of a container that is on it.
    pub(super) fn ipv4_of(&self, container: &ContainerId) -> Option<IpAddr> {
        let stations = self.stations();
        stations.get(container)?.address(IpAddr::is_ipv4).map(|net| net.addr())
    }

    fn stations(&self) -> MutexGuard<'_, BTreeMap<ContainerId, StationView>> {
        self.stations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    fn publish_network(&self, action: &'static str, network: &Network) {
        self.shared.publish_network(action, network, None);
    }
}

impl Shared {
    /// That a container came to all of these networks, or went. Of one that is on none, Docker tells of the network that
    /// stands for that.
    pub(super) fn publish_places(&self, action: &'static str, container: &Container, endpoints: &[Endpoint]) {
        let spec = container.spec();
        let networks: Vec<&str> = match &spec.network.mode {
            _ if !endpoints.is_empty() => {
                endpoints.iter().map(|endpoint| endpoint.network.as_str()).collect()
            }
            NetworkMode::None | NetworkMode::Machine => spec.network.names(),
            NetworkMode::Default | NetworkMode::Container(_) | NetworkMode::Network(_) => Vec::new(),
        };
        for network in networks {
            self.publish_place(action, network, &container.id);
        }
    }

    /// A network that is gone is told of no more.
    pub(super) fn publish_place(&self, action: &'static str, network: &str, container: &ContainerId) {
        if let Ok(found) = self.networks.find(network) {
            self.publish_network(action, &found.network, Some(("container", container.to_string())));
        }
    }

    fn publish_network(&self, action: &'static str, network: &Network, more: Option<(&str, String)>) {
        let mut attributes = BTreeMap::from([
            ("name".to_owned(), network.name.clone()),
            ("type".to_owned(), network.driver.name().to_owned()),
        ]);
        attributes.extend(more.map(|(name, value)| (name.to_owned(), value)));
        let actor = Actor { id: network.id.to_string(), attributes };
        self.events.publish(EventKind::Network, action, actor);
    }
}

/// Nobody may, whatever the network's state.
fn forbidden(message: impl Into<String>) -> EngineError {
    EngineError::new(ErrorKind::Forbidden, message)
}
