//! Names of hosts, and the patterns by which settings speak of them. Resolves nothing by itself.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use reqwest::Url;

/// Names in the domain name system are shorter.
const MAX_HOST_BYTES: usize = 255;

/// A host and perhaps a port: `registry.example`, `127.0.0.1:5000`, `[::1]:5000`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct HostPort {
    /// In lower case; addresses of IPv6 without brackets.
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

/// A range of addresses, as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cidr {
    network: u128,
    prefix_bits: u32,
    family: Family,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl HostPort {
    /// Host and port of a URL; the port only if it is not the scheme's own.
    pub(super) fn of(url: &Url) -> Option<Self> {
        let host = url.host_str()?.trim_matches(['[', ']']).to_ascii_lowercase();
        Some(Self { host, port: url.port() })
    }

    pub(super) fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok().map(|address: IpAddr| address.to_canonical())
    }

    /// This machine itself, by its names and addresses; no name is looked up.
    pub(super) fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.address().is_some_and(|address| address.is_loopback())
    }
}

impl FromStr for HostPort {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_HOST_BYTES {
            return Err("too long for a host");
        }
        // An address of IPv6 alone has more than one colon and no port.
        let bare = text.trim_matches(['[', ']']);
        let (host, port) = match text.rsplit_once(':') {
            Some(_) if bare.parse::<Ipv6Addr>().is_ok() => (bare, None),
            Some((host, port)) => (host.trim_matches(['[', ']']), Some(port)),
            None => (text, None),
        };
        let port = port.map(str::parse).transpose().map_err(|_| "the port is no number below 65536")?;
        let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if host.is_empty() || !(host.bytes().all(is_name) || host.parse::<Ipv6Addr>().is_ok()) {
            return Err("not of the form HOST[:PORT]");
        }
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]", self.host)?,
            false => f.write_str(&self.host)?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl Cidr {
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let (bits, family) = numbered(address.to_canonical());
        family == self.family && masked(bits, self.prefix_bits) == self.network
    }
}

impl FromStr for Cidr {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const SHAPE: &str = "not of the form ADDRESS/BITS";
        let (address, bits) = text.split_once('/').ok_or(SHAPE)?;
        let (number, family) = numbered(address.parse().map_err(|_| SHAPE)?);
        let bits: u32 = bits.parse().map_err(|_| SHAPE)?;
        let unused = match family {
            Family::V4 => u128::BITS - Ipv4Addr::BITS,
            Family::V6 => 0,
        };
        let prefix_bits = bits.checked_add(unused).filter(|&bits| bits <= u128::BITS);
        let prefix_bits = prefix_bits.ok_or("more bits than an address has")?;
        Ok(Self { network: masked(number, prefix_bits), prefix_bits, family })
    }
}

fn numbered(address: IpAddr) -> (u128, Family) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), Family::V4),
        IpAddr::V6(address) => (address.to_bits(), Family::V6),
    }
}

fn masked(number: u128, prefix_bits: u32) -> u128 {
    number & u128::MAX.checked_shl(u128::BITS - prefix_bits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_and_shown() {
        for (text, host, port) in [
            ("registry.example", "registry.example", None),
            ("Registry.Example:5000", "registry.example", Some(5000)),
            ("127.0.0.1:5000", "127.0.0.1", Some(5000)),
            ("[::1]:5000", "::1", Some(5000)),
            ("::1", "::1", None),
            ("[fe80::1]", "fe80::1", None),
        ] {
            let read: HostPort = text.parse().unwrap();
            assert_eq!((read.host.as_str(), read.port), (host, port), "{text}");
            assert_eq!(read.to_string().parse(), Ok(read));
        }
        for text in ["", ":5000", "a b", "a:b", "a:70000", "a/b", "user@host", "[:::]", &"a".repeat(300)] {
            assert!(text.parse::<HostPort>().is_err(), "{text}");
        }
    }

    #[test]
    fn loopback_is_this_machine_only() {
        for (text, expected) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1", true),
            ("127.8.9.10:1", true),
            ("[::1]:5000", true),
            ("::ffff:127.0.0.1", true),
            ("localhost.example", false),
            ("128.0.0.1", false),
            ("127.0.0.1.example", false),
        ] {
            assert_eq!(text.parse::<HostPort>().unwrap().is_loopback(), expected, "{text}");
        }
    }

    #[test]
    fn ranges_contain_their_addresses() {
        for (range, address, expected) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.1.2.3/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "255.1.2.3", true),
            ("0.0.0.0/0", "::1", false),
            ("192.168.1.1/32", "192.168.1.1", true),
            ("192.168.1.1/32", "192.168.1.0", false),
            ("fd00::/8", "fd12::1", true),
            ("::/0", "fe80::1", true),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
        ] {
            let range: Cidr = range.parse().unwrap();
            assert_eq!(range.contains(address.parse().unwrap()), expected, "{range:?} {address}");
        }
        for text in ["10.0.0.0", "10.0.0.0/33", "::/129", "a/8", "10.0.0.0/-1", "/8"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
