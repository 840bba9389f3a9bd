//! The host's links, as the kernel's rtnetlink(7) shows them: bridges of ours, interfaces that join them, and what ranges
//! the host's routes lead to.
//!
//! A bridge of ours bears its owner in its alias, so that a daemon that starts finds its own and touches no other's.

use std::fmt;
use std::io;
use std::net::IpAddr;

use futures_util::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::{Handle, LinkBridge, LinkBridgePort, LinkUnspec, RouteMessageBuilder};
use rustix::io::Errno;
use tokio::task::JoinHandle;

/// A bridge as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    pub name: String,
    /// The host's own addresses on it, each with the length of its network's prefix.
    pub addresses: Vec<IpNet>,
    pub mtu: u32,
}

/// Why the host's links are not as they were to be.
#[derive(Debug, thiserror::Error)]
#[error("network interface {link}: cannot {step}: {reason}")]
pub struct LinkError {
    link: String,
    step: &'static str,
    reason: String,
    errno: Option<i32>,
}

/// A connection to the kernel, in the network namespace of the process.
#[derive(Debug)]
pub struct Links {
    handle: Handle,
    /// What a bridge of ours says in its alias.
    owner: String,
    answering: JoinHandle<()>,
}

impl Drop for Links {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

impl Links {
    /// # Errors
    /// The kernel gives no socket.
    pub fn open(owner: String) -> io::Result<Self> {
        let (connection, handle, _notifications) = rtnetlink::new_connection()?;
        Ok(Self { handle, owner, answering: tokio::spawn(connection) })
    }

    /// Makes the bridge, or makes the one that is there so. May be repeated.
    ///
    /// # Errors
    /// An interface of that name that is not ours, or what the kernel answered.
    pub async fn ensure_bridge(&self, bridge: &Bridge) -> Result<(), LinkError> {
        let name = bridge.name.as_str();
        let index = match self.find(name).await? {
            Some(link) => self.check_is_ours(name, &link)?,
            None => self.add_bridge(name).await?,
        };
        let described = LinkUnspec::new_with_index(index)
            .mtu(bridge.mtu)
            .append_extra_attribute(LinkAttribute::IfAlias(self.owner.clone()))
            .up()
            .build();
        self.handle.link().set(described).execute().await.map_err(failed(name, "set it up"))?;
        self.ensure_addresses(index, bridge).await
    }

    async fn add_bridge(&self, name: &str) -> Result<u32, LinkError> {
        let added = self.handle.link().add(LinkBridge::new(name).build()).execute().await;
        added.map_err(failed(name, "make it"))?;
        let gone = || LinkError::new(name, "find it", "it is gone again");
        Ok(self.find(name).await?.ok_or_else(gone)?.header.index)
    }

    /// One without an owner is one whose maker died at the next step; nobody else has our names.
    fn check_is_ours(&self, name: &str, link: &LinkMessage) -> Result<u32, LinkError> {
        let foreign = |reason: &str| Err(LinkError::new(name, "use it as a network's bridge", reason));
        if !is_of_kind(link, &InfoKind::Bridge) {
            return foreign("there is an interface of this name that is no bridge");
        }
        match alias(link) {
            None => Ok(link.header.index),
            Some(owner) if *owner == self.owner => Ok(link.header.index),
            Some(_other) => foreign("it belongs to another program"),
        }
    }

    async fn ensure_addresses(&self, index: u32, bridge: &Bridge) -> Result<(), LinkError> {
        let name = bridge.name.as_str();
        for found in self.addresses(index, name).await? {
            let link_local = matches!(found, IpNet::V6(net) if net.addr().is_unicast_link_local());
            if !link_local && !bridge.addresses.contains(&found) {
                self.remove_address(index, name, found).await?;
            }
        }
        for address in &bridge.addresses {
            let request = self.handle.address().add(index, address.addr(), address.prefix_len()).replace();
            request.execute().await.map_err(failed(name, "give it its address"))?;
        }
        Ok(())
    }

    async fn addresses(&self, index: u32, name: &str) -> Result<Vec<IpNet>, LinkError> {
        let request = self.handle.address().get().set_link_index_filter(index).execute();
        let messages: Vec<_> = request.try_collect().await.map_err(failed(name, "read its addresses"))?;
        let address = |attribute: &AddressAttribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        };
        let nets = messages.iter().filter_map(|message| {
            let address = message.attributes.iter().find_map(address)?;
            IpNet::new(address, message.header.prefix_len).ok()
        });
        Ok(nets.collect())
    }

    async fn remove_address(&self, index: u32, name: &str, address: IpNet) -> Result<(), LinkError> {
        let matching = self
            .handle
            .address()
            .get()
            .set_link_index_filter(index)
            .set_address_filter(address.addr())
            .set_prefix_length_filter(address.prefix_len())
            .execute();
        let messages: Vec<_> = matching.try_collect().await.map_err(failed(name, "read its addresses"))?;
        for message in messages {
            let removed = self.handle.address().del(message).execute().await;
            removed.map_err(failed(name, "take an address from it"))?;
        }
        Ok(())
    }

    /// Makes the host's end of a machine's card, a TAP interface, on a bridge and up. Frames that come in by it may leave
    /// by it: a container reaches its own published port.
    ///
    /// # Errors
    /// There is one of this name, no such bridge, or what the kernel answered. The interface may be there then.
    pub async fn make_card(&self, name: &str, bridge: &str, mtu: u32) -> Result<(), LinkError> {
        let bridge_index = self.index(bridge).await?;
        let tap = name.to_owned();
        let made = tokio::task::spawn_blocking(move || berth_vmm::make_tap(&tap)).await;
        let unmade = |error: &dyn fmt::Display| LinkError::new(name, "make it", error);
        made.map_err(|error| unmade(&error))?.map_err(|error| unmade(&error))?;
        let index = self.index(name).await?;
        let joining = LinkUnspec::new_with_index(index)
            .append_extra_attribute(LinkAttribute::IfAlias(self.owner.clone()))
            .controller(bridge_index)
            .mtu(mtu)
            .up()
            .build();
        self.handle.link().set(joining).execute().await.map_err(failed(name, "let it join a bridge"))?;
        let port = LinkBridgePort::new(index).hairpin(true).build();
        self.handle.link().set_port(port).execute().await.map_err(failed(name, "set its port"))
    }

    /// Removes the host's end of a card; none is no error.
    ///
    /// # Errors
    /// It is not ours, or what the kernel answered.
    pub async fn remove_card(&self, name: &str) -> Result<(), LinkError> {
        match self.find(name).await? {
            Some(link) if is_of_kind(&link, &InfoKind::Tun) => self.delete(name, link.header.index).await,
            Some(_other) => Err(LinkError::new(name, "remove it", "it is no card of ours")),
            None => Ok(()),
        }
    }

    /// The names of all cards of ours. One that was not finished has no owner, but a name as ours have.
    ///
    /// # Errors
    /// What the kernel answered.
    pub async fn cards(&self, prefix: &str) -> Result<Vec<String>, LinkError> {
        let is_ours = |link: &&LinkMessage| {
            let unfinished = || name_of(link).is_some_and(|name| name.starts_with(prefix));
            is_of_kind(link, &InfoKind::Tun)
                && alias(link).map_or_else(unfinished, |alias| *alias == self.owner)
        };
        Ok(self.all().await?.iter().filter(is_ours).filter_map(name_of).collect())
    }

    async fn all(&self) -> Result<Vec<LinkMessage>, LinkError> {
        let links = self.handle.link().get().execute().try_collect().await;
        links.map_err(failed("all", "list them"))
    }

    async fn delete(&self, name: &str, index: u32) -> Result<(), LinkError> {
        match self.handle.link().del(index).execute().await.map_err(failed(name, "remove it")) {
            Err(error) if error.is_not_there() => Ok(()),
            outcome => outcome,
        }
    }

    /// Removes a bridge of ours; none is no error.
    ///
    /// # Errors
    /// It is not ours, or what the kernel answered.
    pub async fn remove_bridge(&self, name: &str) -> Result<(), LinkError> {
        let Some(link) = self.find(name).await? else { return Ok(()) };
        let index = self.check_is_ours(name, &link)?;
        self.delete(name, index).await
    }

    /// The names of all bridges of ours.
    ///
    /// # Errors
    /// What the kernel answered.
    pub async fn bridges(&self) -> Result<Vec<String>, LinkError> {
        let is_ours =
            |link: &&LinkMessage| is_of_kind(link, &InfoKind::Bridge) && alias(link) == Some(&self.owner);
        Ok(self.all().await?.iter().filter(is_ours).filter_map(name_of).collect())
    }

    /// What the host reaches by routes of its own: what a new network must not overlap. The default routes are not
    /// among it.
    ///
    /// # Errors
    /// What the kernel answered.
    pub async fn routes(&self) -> Result<Vec<IpNet>, LinkError> {
        let mut routes = self.routes_of(RouteMessageBuilder::<std::net::Ipv4Addr>::new().build()).await?;
        routes.extend(self.routes_of(RouteMessageBuilder::<std::net::Ipv6Addr>::new().build()).await?);
        Ok(routes)
    }

    async fn routes_of(&self, family: RouteMessage) -> Result<Vec<IpNet>, LinkError> {
        let messages: Vec<_> = self
            .handle
            .route()
            .get(family)
            .execute()
            .try_collect()
            .await
            .map_err(failed("all", "list the host's routes"))?;
        Ok(messages.iter().filter_map(destination).collect())
    }

    async fn index(&self, name: &str) -> Result<u32, LinkError> {
        let link = self.find(name).await?;
        link.map(|link| link.header.index).ok_or_else(|| LinkError::new(name, "find it", "it is not there"))
    }

    async fn find(&self, name: &str) -> Result<Option<LinkMessage>, LinkError> {
        let mut found = std::pin::pin!(self.handle.link().get().match_name(name).execute());
        match found.next().await.transpose().map_err(failed(name, "look it up")) {
            Err(error) if error.is_not_there() => Ok(None),
            outcome => outcome,
        }
    }
}

impl LinkError {
    fn new(link: &str, step: &'static str, reason: impl fmt::Display) -> Self {
        Self { link: link.to_owned(), step, reason: reason.to_string(), errno: None }
    }

    fn is_not_there(&self) -> bool {
        self.errno == Some(Errno::NODEV.raw_os_error())
    }
}

fn failed<'a>(link: &'a str, step: &'static str) -> impl Fn(rtnetlink::Error) -> LinkError + 'a {
    move |error| match &error {
        rtnetlink::Error::NetlinkError(message) => {
            let errno = message.raw_code().wrapping_neg();
            let reason = io::Error::from_raw_os_error(errno);
            LinkError { errno: Some(errno), ..LinkError::new(link, step, reason) }
        }
        _ => LinkError::new(link, step, error),
    }
}

fn is_of_kind(link: &LinkMessage, kind: &InfoKind) -> bool {
    let says_so = |attribute: &LinkAttribute| match attribute {
        LinkAttribute::LinkInfo(infos) => {
            infos.iter().any(|info| matches!(info, LinkInfo::Kind(found) if found == kind))
        }
        _ => false,
    };
    link.attributes.iter().any(says_so)
}

fn alias(link: &LinkMessage) -> Option<&String> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfAlias(alias) => Some(alias),
        _ => None,
    })
}

fn name_of(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

/// Where a route leads, unless it is for everything or for the host itself.
fn destination(route: &RouteMessage) -> Option<IpNet> {
    let leads_out =
        matches!(route.header.kind, RouteType::Unicast | RouteType::BlackHole | RouteType::Unreachable);
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::from(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::from(*address)),
        _ => None,
    })?;
    let length = route.header.destination_prefix_length;
    let link_local =
        matches!(address, IpAddr::V6(address) if address.is_unicast_link_local() || address.is_multicast());
    (leads_out && length > 0 && !link_local).then(|| IpNet::new(address, length).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::super::namespace::in_a_network_namespace;
    use super::*;

    fn bridge(name: &str, addresses: &[&str]) -> Bridge {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Bridge { name: name.to_owned(), addresses, mtu: 1500 }
    }

    fn links(owner: &str) -> Links {
        Links::open(owner.to_owned()).unwrap()
    }

    #[test]
    fn a_bridge_is_made_once_and_is_as_it_was_asked_for_last() {
        in_a_network_namespace("a_bridge_is_made_once_and_is_as_it_was_asked_for_last", async || {
            let links = links("berth:me");
            for addresses in [&["10.9.0.1/24"][..], &["10.9.0.1/24"], &["10.8.0.1/16", "fd00:9::1/64"]] {
                links.ensure_bridge(&bridge("br-test", addresses)).await.unwrap();
            }
            let index = links.index("br-test").await.unwrap();
            let mut addresses = links.addresses(index, "br-test").await.unwrap();
            addresses.retain(|net| !net.to_string().starts_with("fe80"));
            assert_eq!(addresses, bridge("", &["10.8.0.1/16", "fd00:9::1/64"]).addresses);
            assert_eq!(links.bridges().await.unwrap(), ["br-test"]);
            let routes = links.routes().await.unwrap();
            assert!(routes.contains(&"10.8.0.0/16".parse().unwrap()), "{routes:?}");
            assert!(!routes.contains(&"10.9.0.0/24".parse().unwrap()), "{routes:?}");
            links.remove_bridge("br-test").await.unwrap();
            links.remove_bridge("br-test").await.unwrap();
            assert_eq!(links.bridges().await.unwrap(), [""; 0]);
        });
    }

    #[test]
    fn what_is_not_ours_is_not_touched() {
        in_a_network_namespace("what_is_not_ours_is_not_touched", async || {
            links("berth:other").ensure_bridge(&bridge("br-other", &["10.7.0.1/24"])).await.unwrap();
            let ours = links("berth:me");
            assert_eq!(ours.bridges().await.unwrap(), [""; 0]);
            let refused = ours.ensure_bridge(&bridge("br-other", &[])).await.unwrap_err();
            assert!(refused.to_string().ends_with("it belongs to another program"), "{refused}");
            assert!(ours.remove_bridge("br-other").await.is_err());
            let refused = ours.ensure_bridge(&bridge("lo", &[])).await.unwrap_err();
            assert!(refused.to_string().contains("no bridge"), "{refused}");
        });
    }

    #[test]
    fn a_card_is_made_on_its_bridge_found_and_removed() {
        in_a_network_namespace("a_card_is_made_on_its_bridge_found_and_removed", async || {
            let links = links("berth:me");
            links.ensure_bridge(&bridge("br-test", &["10.9.0.1/24"])).await.unwrap();
            links.make_card("bt1-test", "br-test", 1400).await.unwrap();
            assert!(links.make_card("bt1-test", "br-test", 1400).await.is_err(), "made twice");
            let port = links.find("bt1-test").await.unwrap().unwrap();
            let bridge = links.index("br-test").await.unwrap();
            assert!(port.attributes.contains(&LinkAttribute::Controller(bridge)), "{port:?}");
            assert!(port.attributes.contains(&LinkAttribute::Mtu(1400)), "{port:?}");
            // One whose maker died before it said whose it is, and one of somebody else's.
            berth_vmm::make_tap("bt1-half").unwrap();
            berth_vmm::make_tap("tap0").unwrap();
            let mut cards = links.cards("bt1-").await.unwrap();
            cards.sort();
            assert_eq!(cards, ["bt1-half", "bt1-test"]);
            for _again in 0..2 {
                links.remove_card("bt1-test").await.unwrap();
                links.remove_card("bt1-half").await.unwrap();
            }
            assert_eq!(links.cards("").await.unwrap(), ["tap0"]);
            assert!(links.remove_card("br-test").await.is_err(), "a bridge is no card");
            let refused = links.make_card("bt1-test", "br-none", 1500).await.unwrap_err();
            assert!(refused.to_string().contains("br-none: cannot find it"), "{refused}");
        });
    }
}
