//! The addresses of one range: which are given out, and which is next.
//!
//! The lowest free one is next, as with Docker. Nothing here is kept on disk: an address belongs to whoever's record
//! says so, and the daemon takes those again when it starts.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// What a network gives out of one range.
#[derive(Clone, Debug)]
pub struct Addresses {
    subnet: IpNet,
    /// Where those come from that nobody asked for by name: the subnet, or a part of it.
    range: IpNet,
    taken: BTreeSet<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("no available IPv4 or IPv6 addresses on this network's address pools: {0}")]
    Exhausted(IpNet),
    #[error("no configured subnet or ip-range contain the IP address {0}")]
    Outside(IpAddr),
    #[error("Address already in use: {0}")]
    Taken(IpAddr),
}

impl Addresses {
    /// All of `subnet` is free but what IPv4 does not use for stations: its first and its last address.
    #[must_use]
    pub fn new(subnet: IpNet, range: Option<IpNet>) -> Self {
        let mut taken = BTreeSet::from([subnet.network()]);
        if let IpNet::V4(_) = subnet {
            taken.insert(subnet.broadcast());
        }
        Self { subnet, range: range.unwrap_or(subnet), taken }
    }

    #[must_use]
    pub fn subnet(&self) -> IpNet {
        self.subnet
    }

    /// The lowest free address of the range.
    ///
    /// # Errors
    /// There is none.
    pub fn lowest(&mut self) -> Result<IpAddr, AddressError> {
        let mut candidate = self.range.network();
        let last = self.range.broadcast();
        // What is taken comes in ascending order: the first gap is free.
        for taken in self.taken.range(candidate..=last) {
            if *taken != candidate {
                break;
            }
            candidate = successor(candidate).ok_or(AddressError::Exhausted(self.range))?;
        }
        if candidate > last {
            return Err(AddressError::Exhausted(self.range));
        }
        self.taken.insert(candidate);
        Ok(candidate)
    }

    /// This very address, in or out of the range.
    ///
    /// # Errors
    /// It is none of the subnet's, or taken.
    pub fn take(&mut self, address: IpAddr) -> Result<(), AddressError> {
        if !self.subnet.contains(&address) {
            return Err(AddressError::Outside(address));
        }
        if self.taken.insert(address) { Ok(()) } else { Err(AddressError::Taken(address)) }
    }

    pub fn give_back(&mut self, address: IpAddr) {
        let is_stations = address != self.subnet.network()
            && (self.subnet.max_prefix_len() == 128 || address != self.subnet.broadcast());
        if is_stations {
            self.taken.remove(&address);
        }
    }
}

fn successor(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => Some(Ipv4Addr::from(u32::from(address).checked_add(1)?).into()),
        IpAddr::V6(address) => Some(Ipv6Addr::from(u128::from(address).checked_add(1)?).into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addresses(subnet: &str, range: Option<&str>) -> Addresses {
        Addresses::new(subnet.parse().unwrap(), range.map(|range| range.parse().unwrap()))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_lowest_free_one_is_next_and_ends_are_not_given() {
        let mut small = addresses("10.0.0.0/29", None);
        let given: Vec<_> = std::iter::from_fn(|| small.lowest().ok()).collect();
        assert_eq!(given.len(), 6);
        assert_eq!((given[0], given[5]), (ip("10.0.0.1"), ip("10.0.0.6")));
        assert_eq!(small.lowest(), Err(AddressError::Exhausted("10.0.0.0/29".parse().unwrap())));
        small.give_back(ip("10.0.0.3"));
        small.give_back(ip("10.0.0.7"));
        assert_eq!((small.lowest().ok(), small.lowest().ok()), (Some(ip("10.0.0.3")), None));
    }

    #[test]
    fn a_range_bounds_what_is_given_and_not_what_is_asked_for() {
        let mut addresses = addresses("10.0.0.0/24", Some("10.0.0.128/30"));
        assert_eq!(addresses.lowest(), Ok(ip("10.0.0.128")));
        assert_eq!(addresses.take(ip("10.0.0.129")), Ok(()));
        assert_eq!(addresses.take(ip("10.0.0.129")), Err(AddressError::Taken(ip("10.0.0.129"))));
        assert_eq!(addresses.take(ip("10.0.0.5")), Ok(()));
        assert_eq!(addresses.take(ip("10.0.0.255")), Err(AddressError::Taken(ip("10.0.0.255"))));
        assert_eq!(addresses.take(ip("10.0.1.5")), Err(AddressError::Outside(ip("10.0.1.5"))));
        assert_eq!(addresses.take(ip("fd00::1")), Err(AddressError::Outside(ip("fd00::1"))));
        assert_eq!(addresses.lowest(), Ok(ip("10.0.0.130")));
    }

    #[test]
    fn all_of_ipv6_does_not_take_all_of_memory() {
        let mut all = addresses("::/0", None);
        assert_eq!((all.lowest(), all.lowest()), (Ok(ip("::1")), Ok(ip("::2"))));
        let mut last = addresses("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127", None);
        assert_eq!(last.lowest(), Ok(ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")));
        assert!(last.lowest().is_err());
    }

    proptest! {
        #[test]
        fn no_address_has_two_owners(steps in prop::collection::vec((any::<bool>(), 0_u8..32), 0..200)) {
            let mut addresses = addresses("10.0.0.0/27", None);
            let mut owned = BTreeSet::new();
            for (takes, last) in steps {
                if takes {
                    let lowest = (1..31).map(|last| IpAddr::from([10, 0, 0, last])).find(|free| !owned.contains(free));
                    prop_assert_eq!(addresses.lowest().ok(), lowest);
                    owned.extend(lowest);
                } else if owned.remove(&IpAddr::from([10, 0, 0, last])) {
                    addresses.give_back(IpAddr::from([10, 0, 0, last]));
                }
            }
        }
    }
}
