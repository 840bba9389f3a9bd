//! The networks of one daemon on its host: bridges and the rules for them, made and removed together.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::firewall::{FilteredNetwork, Firewall, FirewallError, Publication, Station, WayOut};
use super::links::{Bridge, LinkError, Links};
use super::parameters::{Ipv6, enable_forwarding, prepare_bridge};
use super::pools::IpVersion;

/// What the daemon's networks have in common.
#[derive(Debug)]
pub struct HostNetworks {
    links: Links,
    /// What the names of this daemon's cards begin with.
    card_prefix: String,
    firewall: Arc<Firewall>,
}

/// The host's end of a machine's network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    pub bridge: String,
    pub mtu: u32,
    /// What may be sent by it; its card is the interface's name.
    pub station: Station,
}

/// A network as its host knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeNetwork {
    pub bridge: String,
    /// The host's own address on it, with the prefix of its subnet; one of each version at most.
    pub gateways: Vec<IpNet>,
    pub mtu: u32,
    pub way_out: WayOut,
}

#[derive(Debug, thiserror::Error)]
pub enum HostNetworkError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    #[error("cannot set a kernel parameter: {0}")]
    Parameter(io::Error),
    #[error("networks take the rights of root: {0}")]
    NoRights(io::Error),
}

impl HostNetworks {
    /// Takes over what this daemon's predecessor left: its bridges stay, its rules begin anew.
    ///
    /// `name` tells this daemon's links and rules from those of others on the host: 8 letters and digits.
    ///
    /// # Errors
    /// No rights, no `nft`, or a kernel without packet filter.
    pub async fn open(name: &str, daemon_ports: Vec<u16>) -> Result<Self, HostNetworkError> {
        let links = Links::open(format!("berth:{name}")).map_err(HostNetworkError::NoRights)?;
        let table = format!("berth_{name}");
        let firewall = blocking(move || Ok(Firewall::install(&table, &daemon_ports)?)).await?;
        Ok(Self { links, card_prefix: format!("bt{name:.4}"), firewall: Arc::new(firewall) })
    }

    /// Makes the network, or makes what is there so. May be repeated.
    ///
    /// # Errors
    /// An interface that is in the way, or what the kernel answered.
    pub async fn ensure(&self, network: &BridgeNetwork) -> Result<(), HostNetworkError> {
        let ipv6 = if network.gateways.iter().any(|net| net.addr().is_ipv6()) { Ipv6::On } else { Ipv6::Off };
        let bridge =
            Bridge { name: network.bridge.clone(), addresses: network.gateways.clone(), mtu: network.mtu };
        // The rules come first: there is no moment in which the bridge is open.
        let (firewall, filtered) = (Arc::clone(&self.firewall), network.filtered());
        blocking(move || Ok(firewall.add_network(&filtered)?)).await?;
        self.links.ensure_bridge(&bridge).await?;
        let (name, way_out) = (network.bridge.clone(), network.way_out);
        blocking(move || prepare(&name, ipv6, way_out).map_err(HostNetworkError::Parameter)).await?;
        // An address of IPv6 that came before IPv6 was on is gone.
        self.links.ensure_bridge(&bridge).await.map_err(HostNetworkError::from)
    }

    /// # Errors
    /// What the kernel answered. What is not there is no error.
    pub async fn remove(&self, network: &BridgeNetwork) -> Result<(), HostNetworkError> {
        self.links.remove_bridge(&network.bridge).await?;
        let (firewall, filtered) = (Arc::clone(&self.firewall), network.filtered());
        blocking(move || Ok(firewall.remove_network(&filtered)?)).await
    }

    /// Removes all bridges and cards of this daemon's that are none of these.
    ///
    /// # Errors
    /// What the kernel answered.
    pub async fn keep_only(&self, bridges: &[&str], cards: &[&str]) -> Result<(), HostNetworkError> {
        for card in self.links.cards(&self.card_prefix).await? {
            if !cards.contains(&card.as_str()) {
                tracing::info!(card, "removing a card of no machine");
                self.links.remove_card(&card).await?;
            }
        }
        for bridge in self.links.bridges().await? {
            if !bridges.contains(&bridge.as_str()) {
                tracing::info!(bridge, "removing a bridge of no network");
                self.links.remove_bridge(&bridge).await?;
            }
        }
        Ok(())
    }

    /// Makes a card on its network's bridge. What of it was made before a failure is removed again.
    ///
    /// # Errors
    /// There is no such bridge, or what the kernel answered.
    pub async fn plug(&self, card: &Card) -> Result<(), HostNetworkError> {
        // The rules come first: nothing is sent by a card that has none.
        self.admit(card).await?;
        let made = self.links.make_card(&card.station.card, &card.bridge, card.mtu).await;
        if let Err(error) = made {
            if let Err(left) = self.unplug(&card.station).await {
                tracing::warn!(card = card.station.card, %left, "cannot remove a card that was not made");
            }
            return Err(error.into());
        }
        Ok(())
    }

    /// The rules of a card that an earlier daemon made.
    ///
    /// # Errors
    /// What the kernel answered.
    pub async fn admit(&self, card: &Card) -> Result<(), HostNetworkError> {
        let (firewall, station) = (Arc::clone(&self.firewall), card.station.clone());
        blocking(move || Ok(firewall.add_station(&station)?)).await
    }

    /// Removes a card and its rules. What is not there is no error.
    ///
    /// # Errors
    /// What the kernel answered.
    pub async fn unplug(&self, station: &Station) -> Result<(), HostNetworkError> {
        self.links.remove_card(&station.card).await?;
        let (firewall, station) = (Arc::clone(&self.firewall), station.clone());
        blocking(move || Ok(firewall.remove_station(&station)?)).await
    }

    /// Leads ports of the host's to containers.
    ///
    /// # Errors
    /// What the kernel answered; none is led anywhere then.
    pub async fn publish(&self, publications: Vec<Publication>) -> Result<(), HostNetworkError> {
        let firewall = Arc::clone(&self.firewall);
        blocking(move || Ok(firewall.publish(&publications)?)).await
    }

    /// What is not published is no error.
    ///
    /// # Errors
    /// What the kernel answered.
    pub async fn unpublish(&self, publications: Vec<Publication>) -> Result<(), HostNetworkError> {
        let firewall = Arc::clone(&self.firewall);
        blocking(move || Ok(firewall.unpublish(&publications)?)).await
    }

    /// A name for the host's end of a new card. `digits` are 9 that no other has.
    #[must_use]
    pub fn card_name(&self, digits: &str) -> String {
        format!("{}{digits:.9}", self.card_prefix)
    }

    /// The same of a host on which there are no networks of ours.
    ///
    /// # Errors
    /// What the kernel answered.
    pub async fn routes_of_host() -> Result<Vec<IpNet>, HostNetworkError> {
        let links = Links::open(String::new()).map_err(HostNetworkError::NoRights)?;
        Ok(links.routes().await?)
    }

    /// What the host reaches by routes of its own.
    ///
    /// # Errors
    /// What the kernel answered.
    pub async fn routes(&self) -> Result<Vec<IpNet>, HostNetworkError> {
        Ok(self.links.routes().await?)
    }
}

impl BridgeNetwork {
    fn filtered(&self) -> FilteredNetwork {
        FilteredNetwork {
            bridge: self.bridge.clone(),
            subnets: self.gateways.iter().map(IpNet::trunc).collect(),
            way_out: self.way_out,
        }
    }

    #[must_use]
    pub fn gateway(&self, of: IpAddr) -> Option<IpAddr> {
        self.gateways.iter().find(|net| net.contains(&of)).map(IpNet::addr)
    }
}

fn prepare(bridge: &str, ipv6: Ipv6, way_out: WayOut) -> io::Result<()> {
    prepare_bridge(bridge, ipv6)?;
    let versions = match (way_out, ipv6) {
        (WayOut::Closed, _) => &[][..],
        (_, Ipv6::Off) => &[IpVersion::V4],
        (_, Ipv6::On) => &[IpVersion::V4, IpVersion::V6],
    };
    for version in versions {
        if enable_forwarding(*version)? {
            tracing::info!(?version, "the host forwards packets from now on, as networks need it");
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HostNetworkError> + Send + 'static,
) -> Result<T, HostNetworkError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| HostNetworkError::Parameter(io::Error::other(error)))?
}
