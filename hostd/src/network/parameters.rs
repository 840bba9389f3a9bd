//! Parameters of the kernel's that networks take: of our own bridges, and that the host forwards packets at all.

use std::fs;
use std::io;

use super::pools::IpVersion;

/// Whether stations of a network have addresses of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv6 {
    Off,
    On,
}

/// Blocks.
///
/// # Errors
/// Names the parameter.
pub fn prepare_bridge(bridge: &str, ipv6: Ipv6) -> io::Result<()> {
    let set = |version: &str, name: &str, value: &str| {
        write(&format!("/proc/sys/net/{version}/conf/{bridge}/{name}"), value)
    };
    // What the host sends from a loopback address to a published port leaves by the bridge; the packet filter keeps
    // everybody else from it.
    set("ipv4", "route_localnet", "1")?;
    // No advertisement of a station makes the host's routes.
    let of_ipv6 = set("ipv6", "accept_ra", "0").and_then(|()| {
        // Without IPv6 the bridge has no address that stations could guess.
        set("ipv6", "disable_ipv6", if ipv6 == Ipv6::On { "0" } else { "1" })
    });
    match (of_ipv6, ipv6) {
        // A kernel without IPv6.
        (Err(error), Ipv6::Off) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        (outcome, _) => outcome,
    }
}

/// Makes the host a router, for packets of one version. Tells whether it was none before. Blocks.
///
/// # Errors
/// Names the parameter.
pub fn enable_forwarding(version: IpVersion) -> io::Result<bool> {
    let path = match version {
        IpVersion::V4 => "/proc/sys/net/ipv4/ip_forward",
        IpVersion::V6 => "/proc/sys/net/ipv6/conf/all/forwarding",
    };
    if fs::read_to_string(path).map_err(named(path))?.trim() == "1" {
        return Ok(false);
    }
    write(path, "1")?;
    Ok(true)
}

fn write(path: &str, value: &str) -> io::Result<()> {
    fs::write(path, value).map_err(named(path))
}

fn named(path: &str) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{path}: {error}"))
}
