//! Which range of addresses a network gets whose creator names none: the first of the daemon's pools that nothing of
//! the host uses.
//!
//! Knows neither the networks nor the host's routes; both come as a list of what is taken.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use serde::Deserialize;

/// A range to cut networks of one size from, as dockerd's `default-address-pools` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "PoolSetting")]
pub struct AddressPool {
    base: IpNet,
    /// The prefix length of the networks that are cut from it.
    size: u8,
}

/// An entry of the configuration file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PoolSetting {
    base: IpNet,
    size: u8,
}

impl TryFrom<PoolSetting> for AddressPool {
    type Error = InvalidPool;

    fn try_from(setting: PoolSetting) -> Result<Self, InvalidPool> {
        Self::new(setting.base, setting.size)
    }
}

/// The daemon's pools, in the order in which they are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressPools(Vec<AddressPool>);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPool {
    #[error("invalid address pool {0:?}: base=ADDRESS/PREFIX,size=PREFIX is expected")]
    Malformed(String),
    #[error("invalid address pool {base}: networks of size /{size} do not fit into it")]
    Size { base: IpNet, size: u8 },
    #[error("invalid address pools: {0} and {1} overlap")]
    Overlap(IpNet, IpNet),
}

impl AddressPool {
    /// # Errors
    /// `size` is shorter than the base's prefix, or leaves no room for a gateway and a container.
    pub fn new(base: IpNet, size: u8) -> Result<Self, InvalidPool> {
        let largest = base.max_prefix_len() - 2;
        if size < base.prefix_len() || size > largest {
            return Err(InvalidPool::Size { base, size });
        }
        Ok(Self { base: base.trunc(), size })
    }

    /// The first network of the pool that overlaps nothing of what is taken.
    ///
    /// Jumps over what is in the way, so the work is bounded by `taken`, not by the pool's size.
    fn free(&self, taken: &[IpNet]) -> Option<IpNet> {
        let mut candidate = first_of(self.base, self.size)?;
        // Each obstacle is behind the candidate once it has been met, so each is met at most once.
        for _ in 0..=taken.len() {
            let Some(obstacle) = taken.iter().find(|net| overlap(net, &candidate)) else {
                return Some(candidate);
            };
            candidate = next_behind(&candidate, obstacle)?;
            if !self.base.contains(&candidate) {
                return None;
            }
        }
        None
    }
}

impl FromStr for AddressPool {
    type Err = InvalidPool;

    /// "base=10.10.0.0/16,size=24", as dockerd's `--default-address-pool`.
    fn from_str(text: &str) -> Result<Self, InvalidPool> {
        let malformed = || InvalidPool::Malformed(text.to_owned());
        let (mut base, mut size) = (None, None);
        for part in text.split(',') {
            match part.trim().split_once('=') {
                Some(("base", value)) => base = value.parse().ok(),
                Some(("size", value)) => size = value.parse().ok(),
                _ => return Err(malformed()),
            }
        }
        Self::new(base.ok_or_else(malformed)?, size.ok_or_else(malformed)?)
    }
}

impl fmt::Display for AddressPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "base={},size={}", self.base, self.size)
    }
}

impl AddressPools {
    /// # Errors
    /// Two of them overlap.
    pub fn new(pools: Vec<AddressPool>) -> Result<Self, InvalidPool> {
        for (index, pool) in pools.iter().enumerate() {
            if let Some(other) = pools[..index].iter().find(|other| overlap(&other.base, &pool.base)) {
                return Err(InvalidPool::Overlap(other.base, pool.base));
            }
        }
        Ok(Self(pools))
    }

    /// A range of the version wanted that overlaps nothing of `taken`: networks and the host's routes.
    #[must_use]
    pub fn free(&self, version: IpVersion, taken: &[IpNet]) -> Option<IpNet> {
        let of_version = self.0.iter().filter(|pool| IpVersion::of(&pool.base) == version);
        of_version.filter_map(|pool| pool.free(taken)).next()
    }

    pub fn iter(&self) -> impl Iterator<Item = (IpNet, u8)> {
        self.0.iter().map(|pool| (pool.base, pool.size))
    }
}

impl Default for AddressPools {
    /// Docker's: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 in pieces of /20.
    fn default() -> Self {
        let class_b = (17..=31).map(|second| (Ipv4Net::new([172, second, 0, 0].into(), 16), 16));
        let class_c = [(Ipv4Net::new([192, 168, 0, 0].into(), 16), 20)];
        let pool = |(base, size): (Result<Ipv4Net, _>, u8)| AddressPool {
            base: IpNet::V4(base.expect("16 is a prefix length of IPv4")),
            size,
        };
        Self(class_b.chain(class_c).map(pool).collect())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpVersion {
    V4,
    V6,
}

impl fmt::Display for IpVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

impl IpVersion {
    #[must_use]
    pub fn of(net: &IpNet) -> Self {
        match net {
            IpNet::V4(_) => Self::V4,
            IpNet::V6(_) => Self::V6,
        }
    }
}

#[must_use]
pub fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

fn first_of(base: IpNet, size: u8) -> Option<IpNet> {
    IpNet::new(base.network(), size).ok()
}

/// The network of the candidate's size that begins behind both; `None` at the end of all addresses.
fn next_behind(candidate: &IpNet, obstacle: &IpNet) -> Option<IpNet> {
    let next: IpAddr = match candidate.broadcast().max(obstacle.broadcast()) {
        IpAddr::V4(last) => Ipv4Addr::from(u32::from(last).checked_add(1)?).into(),
        IpAddr::V6(last) => Ipv6Addr::from(u128::from(last).checked_add(1)?).into(),
    };
    // What follows a larger network begins where one of any smaller size may begin.
    IpNet::new(next, candidate.prefix_len()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn pools(texts: &[&str]) -> AddressPools {
        AddressPools::new(texts.iter().map(|text| text.parse().unwrap()).collect()).unwrap()
    }

    #[test]
    fn the_first_free_range_is_taken_as_docker_does() {
        let pools = AddressPools::default();
        let free = |taken: &[&str]| {
            let taken: Vec<_> = taken.iter().map(|text| net(text)).collect();
            pools.free(IpVersion::V4, &taken).map(|net| net.to_string())
        };
        assert_eq!(free(&[]).as_deref(), Some("172.17.0.0/16"));
        assert_eq!(free(&["172.17.0.0/16", "172.18.5.0/24"]).as_deref(), Some("172.19.0.0/16"));
        assert_eq!(free(&["172.16.0.0/12"]).as_deref(), Some("192.168.0.0/20"));
        assert_eq!(free(&["172.16.0.0/12", "192.168.17.0/24"]).as_deref(), Some("192.168.0.0/20"));
        assert_eq!(free(&["172.16.0.0/12", "192.168.1.0/24"]).as_deref(), Some("192.168.16.0/20"));
        assert_eq!(free(&["172.16.0.0/12", "192.168.0.0/16"]), None);
        assert_eq!(free(&["0.0.0.0/0"]), None);
        assert_eq!(pools.free(IpVersion::V6, &[]), None);
    }

    #[test]
    fn a_pool_of_ipv6_and_the_end_of_all_addresses() {
        let ends = pools(&["base=fd00::/63,size=64", "base=ffff:ffff:ffff:ffff::/64,size=64"]);
        let free = |taken: &[IpNet]| ends.free(IpVersion::V6, taken);
        assert_eq!(free(&[net("fd00::/64")]), Some(net("fd00:0:0:1::/64")));
        assert_eq!(free(&[net("fd00::/16")]), Some(net("ffff:ffff:ffff:ffff::/64")));
        assert_eq!(free(&[net("::/0")]), None);
    }

    #[test]
    fn wrong_pools_are_refused() {
        for text in ["", "base=10.0.0.0/8", "size=24", "base=x,size=24", "base=10.0.0.0/8,size=24,more=1"] {
            assert_eq!(text.parse::<AddressPool>(), Err(InvalidPool::Malformed(text.to_owned())));
        }
        for text in ["base=10.0.0.0/16,size=8", "base=10.0.0.0/16,size=31", "base=fd00::/48,size=127"] {
            assert!(matches!(text.parse::<AddressPool>(), Err(InvalidPool::Size { .. })), "{text}");
        }
        let pools = ["base=10.0.0.0/8,size=24", "base=10.1.0.0/16,size=24"].map(|text| text.parse().unwrap());
        assert_eq!(
            AddressPools::new(pools.to_vec()),
            Err(InvalidPool::Overlap(net("10.0.0.0/8"), net("10.1.0.0/16")))
        );
    }

    proptest! {
        #[test]
        fn what_is_given_is_in_the_pool_and_free(
            taken in prop::collection::vec((any::<u16>(), 16_u8..=30), 0..40),
        ) {
            let pools = pools(&["base=10.0.0.0/16,size=24"]);
            let within = |(low, prefix): (u16, u8)| {
                let [high, low] = low.to_be_bytes();
                IpNet::new([10, 0, high, low].into(), prefix).unwrap().trunc()
            };
            let taken: Vec<_> = taken.into_iter().map(within).collect();
            let all = (0..=255).map(|third| IpNet::new([10, 0, third, 0].into(), 24).unwrap());
            let first = all.into_iter().find(|net| !taken.iter().any(|other| overlap(net, other)));
            prop_assert_eq!(pools.free(IpVersion::V4, &taken), first);
        }
    }
}
