//! The host's packet filter: what leaves and enters networks, what is published, and what a station may send.
//!
//! The rules are one text (`ruleset.nft`), given to the program `nft` once, when the daemon starts. Everything that comes
//! and goes is an element of one of its sets ([`elements`]), changed in one transaction without any program.

mod elements;

use std::fmt;
use std::io::{self, Write};
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::str::FromStr;

use ipnet::IpNet;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use self::elements::{Change, Element, End, Family, Value};

const RULESET: &str = include_str!("ruleset.nft");
/// What stands for the table's name in it.
const TABLE: &str = "TABLE";

/// The two tables of a daemon's.
#[derive(Clone, Debug)]
pub struct Firewall {
    table: String,
}

/// A network, as far as the filter must know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilteredNetwork {
    pub bridge: String,
    pub subnets: Vec<IpNet>,
    pub way_out: WayOut,
}

/// What becomes of packets that leave a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayOut {
    /// They bear one of the host's addresses.
    Masqueraded,
    /// They bear their sender's: whoever they go to must know the way back.
    Routed,
    /// None leaves, and none comes in.
    Closed,
}

/// What a machine's card may send from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Station {
    /// The host's end of it, a TAP interface.
    pub card: String,
    pub mac: [u8; 6],
    pub addresses: Vec<IpAddr>,
    pub neighbours: Neighbours,
}

/// Whether stations of one network hear each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbours {
    Connected,
    Isolated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// A port of the host's that leads to one of a container's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Publication {
    pub protocol: Protocol,
    /// 0.0.0.0 and :: are all of the host's addresses of their version.
    pub host_address: IpAddr,
    pub host_port: u16,
    /// Of the same version.
    pub address: IpAddr,
    pub port: u16,
}

#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    #[error("cannot run nft, which networks take (Debian's package nftables): {0}")]
    NoProgram(io::Error),
    #[error("nft refuses the rules: {0}")]
    Ruleset(String),
    #[error("the host's packet filter: cannot {step}: {source}")]
    Elements { step: &'static str, source: io::Error },
}

impl Firewall {
    /// Puts the rules in place, in the stead of what an earlier daemon of this name left; nothing of networks, stations
    /// and ports is in them yet. Blocks.
    ///
    /// # Errors
    /// There is no `nft`, or it says why not.
    pub fn install(table: &str, daemon_ports: &[u16]) -> Result<Self, FirewallError> {
        let mut nft = Command::new("nft");
        nft.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = nft.spawn().map_err(FirewallError::NoProgram)?;
        let mut rules = child.stdin.take().expect("it is piped");
        let written = rules.write_all(RULESET.replace(TABLE, table).as_bytes());
        drop(rules);
        let output = child.wait_with_output().map_err(FirewallError::NoProgram)?;
        if !output.status.success() || written.is_err() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            return Err(FirewallError::Ruleset(complaint.lines().next().unwrap_or("no reason").to_owned()));
        }
        let firewall = Self { table: table.to_owned() };
        let port = |port: &u16| single(Family::Inet, "daemon_ports", Value::only_port(*port));
        firewall.add(&daemon_ports.iter().map(port).collect::<Vec<_>>(), "guard the daemon's ports")?;
        Ok(firewall)
    }

    /// Blocks, as all that follow.
    ///
    /// # Errors
    /// What the kernel answered; nothing has changed then.
    pub fn add_network(&self, network: &FilteredNetwork) -> Result<(), FirewallError> {
        self.add(&network.elements(), "let a network through")
    }

    /// # Errors
    /// What the kernel answered. What is not there is no error.
    pub fn remove_network(&self, network: &FilteredNetwork) -> Result<(), FirewallError> {
        self.remove(&network.elements(), "forget a network")
    }

    /// # Errors
    /// As [`Self::add_network`].
    pub fn add_station(&self, station: &Station) -> Result<(), FirewallError> {
        self.add(&station.elements(), "let a network card send")
    }

    /// # Errors
    /// As [`Self::remove_network`].
    pub fn remove_station(&self, station: &Station) -> Result<(), FirewallError> {
        self.remove(&station.elements(), "forget a network card")
    }

    /// # Errors
    /// As [`Self::add_network`].
    pub fn publish(&self, publications: &[Publication]) -> Result<(), FirewallError> {
        let elements: Vec<_> = publications.iter().map(Publication::element).collect();
        self.add(&elements, "publish a port")
    }

    /// # Errors
    /// As [`Self::remove_network`].
    pub fn unpublish(&self, publications: &[Publication]) -> Result<(), FirewallError> {
        let elements: Vec<_> = publications.iter().map(Publication::element).collect();
        self.remove(&elements, "unpublish a port")
    }

    fn add(&self, elements: &[Element], step: &'static str) -> Result<(), FirewallError> {
        let added = elements::change(&self.table, Change::Add, elements);
        added.map_err(|source| FirewallError::Elements { step, source })
    }

    fn remove(&self, elements: &[Element], step: &'static str) -> Result<(), FirewallError> {
        let remove = |elements: &[Element]| match elements::change(&self.table, Change::Remove, elements) {
            Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => Ok(false),
            outcome => outcome.map(|()| true),
        };
        let failed = |source| FirewallError::Elements { step, source };
        if !remove(elements).map_err(failed)? {
            // One that is missing keeps all the others: by themselves.
            for element in elements {
                remove(std::slice::from_ref(element)).map_err(failed)?;
            }
        }
        Ok(())
    }
}

impl FilteredNetwork {
    fn elements(&self) -> Vec<Element> {
        let bridge = || Value::default().name(&self.bridge);
        let mut elements = vec![
            single(Family::Inet, "bridges", bridge()),
            single(Family::Inet, "same", bridge().name(&self.bridge)),
        ];
        if self.way_out == WayOut::Closed {
            elements.push(single(Family::Inet, "internal", bridge()));
        }
        for subnet in &self.subnets {
            let home = of_version(subnet.addr(), "home4", "home6");
            let first = Value::default().ip(subnet.network()).name(&self.bridge);
            let last = Value::default().ip(subnet.broadcast()).name(&self.bridge);
            elements.push(Element { end: End::Inclusive(last), ..single(Family::Inet, home, first) });
            if self.way_out == WayOut::Masqueraded {
                let set = of_version(subnet.addr(), "masqueraded4", "masqueraded6");
                elements.extend(interval(set, *subnet));
            }
        }
        elements
    }
}

impl Station {
    fn elements(&self) -> Vec<Element> {
        let card = || Value::default().name(&self.card);
        let mut elements = vec![
            single(Family::Bridge, "cards", card()),
            single(Family::Bridge, "stations", card().mac(self.mac)),
        ];
        if self.neighbours == Neighbours::Isolated {
            elements.push(single(Family::Bridge, "isolated", card()));
        }
        for address in &self.addresses {
            let station = card().mac(self.mac).ip(*address);
            if address.is_ipv6() {
                elements.push(single(Family::Bridge, "neighbours6", station.clone()));
            }
            elements.push(single(Family::Bridge, of_version(*address, "stations4", "stations6"), station));
        }
        elements
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid proto: {0}")]
pub struct UnknownProtocol(String);

impl FromStr for Protocol {
    type Err = UnknownProtocol;

    fn from_str(text: &str) -> Result<Self, UnknownProtocol> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(UnknownProtocol(text.to_owned())),
        }
    }
}

impl Protocol {
    /// As IP numbers them.
    fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl Publication {
    fn element(&self) -> Element {
        let key = Value::default().protocol(self.protocol.number());
        let (set, key) = if self.host_address.is_unspecified() {
            (of_version(self.host_address, "published4_everywhere", "published6_everywhere"), key)
        } else {
            (of_version(self.host_address, "published4", "published6"), key.ip(self.host_address))
        };
        let data = Value::default().ip(self.address).port(self.port);
        Element { data: Some(data), ..single(Family::Inet, set, key.port(self.host_port)) }
    }
}

fn single(family: Family, set: &'static str, key: Value) -> Element {
    Element { family, set, key, end: End::None, data: None }
}

/// From a subnet's first address to before the one behind its last, if there is one.
fn interval(set: &'static str, subnet: IpNet) -> Vec<Element> {
    let at = |address| single(Family::Inet, set, Value::default().ip(address));
    let behind = match subnet.broadcast() {
        IpAddr::V4(last) => u32::from(last).checked_add(1).map(|next| IpAddr::from(next.to_be_bytes())),
        IpAddr::V6(last) => u128::from(last).checked_add(1).map(|next| IpAddr::from(next.to_be_bytes())),
    };
    let end = behind.map(|behind| Element { end: End::IsOne, ..at(behind) });
    std::iter::once(at(subnet.network())).chain(end).collect()
}

fn of_version(address: IpAddr, v4: &'static str, v6: &'static str) -> &'static str {
    if address.is_ipv4() { v4 } else { v6 }
}

#[cfg(test)]
mod tests;
