//! Where the daemon listens: `-H` values.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// dockerd's port without TLS.
const DEFAULT_PORT: u16 = 2375;

/// One place to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    Unix(PathBuf),
    /// Loopback only: whoever reaches the API owns the host.
    Tcp(SocketAddr),
}

impl Host {
    /// Nothing of one that the kernel chooses: such is of loopback alone.
    pub(super) fn tcp_port(&self) -> Option<u16> {
        match self {
            Self::Tcp(address) => Some(address.port()).filter(|port| *port != 0),
            Self::Unix(_) => None,
        }
    }

    /// `default_socket` is what `unix://` without a path means.
    pub(super) fn parse(text: &str, default_socket: &Path) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!(
                "\"{text}\" has no scheme; unix:///path and tcp://127.0.0.1:port are possible"
            ));
        };
        match scheme {
            "unix" if rest.is_empty() => Ok(Self::Unix(default_socket.to_owned())),
            "unix" if rest.starts_with('/') => Ok(Self::Unix(rest.into())),
            "unix" => Err(format!("\"{text}\": the socket's path must be absolute")),
            "tcp" => tcp(text, rest).map(Self::Tcp),
            "fd" => Err(format!(
                "\"{text}\": socket activation is not supported; name a socket with unix:///path"
            )),
            _ => Err(format!(
                "\"{text}\": the scheme {scheme} is not supported; unix:///path and tcp://127.0.0.1:port are possible"
            )),
        }
    }
}

fn tcp(text: &str, rest: &str) -> Result<SocketAddr, String> {
    let address = address(rest).ok_or_else(|| format!("\"{text}\" is not tcp://ADDRESS:PORT"))?;
    if address.ip().is_loopback() {
        return Ok(address);
    }
    Err(format!(
        "\"{text}\": without TLS the API may be reached only from this host; use tcp://127.0.0.1:{} or a unix socket",
        address.port()
    ))
}

fn address(text: &str) -> Option<SocketAddr> {
    let with_ip = text.replacen("localhost", "127.0.0.1", 1);
    if let Ok(address) = with_ip.parse() {
        return Some(address);
    }
    match with_ip.strip_prefix(':') {
        // `:2375` means every address, as dockerd reads it; the caller refuses that with the reason.
        Some(port) => Some(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port.parse().ok()?)),
        None => with_ip.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, DEFAULT_PORT)),
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Host, String> {
        Host::parse(text, Path::new("/default.sock"))
    }

    #[test]
    fn loopback_and_unix_are_places_to_listen() {
        assert_eq!(parse("unix://"), Ok(Host::Unix("/default.sock".into())));
        assert_eq!(parse("unix:///a b.sock"), Ok(Host::Unix("/a b.sock".into())));
        for text in ["tcp://127.0.0.1:2375", "tcp://localhost:2375", "tcp://127.0.0.1"] {
            assert_eq!(parse(text), Ok(Host::Tcp("127.0.0.1:2375".parse().unwrap())), "{text}");
        }
        assert_eq!(parse("tcp://[::1]:80"), Ok(Host::Tcp("[::1]:80".parse().unwrap())));
    }

    #[test]
    fn what_the_whole_network_could_reach_is_refused_with_the_reason() {
        for text in ["tcp://0.0.0.0:2375", "tcp://:2375", "tcp://192.168.1.5:2375", "tcp://[::]:2375"] {
            assert!(parse(text).unwrap_err().contains("without TLS"), "{text}");
        }
    }

    #[test]
    fn other_schemes_are_refused_by_name() {
        for (text, named) in [
            ("fd://", "socket activation"),
            ("npipe://x", "npipe"),
            ("/x", "scheme"),
            ("unix://x", "absolute"),
        ] {
            assert!(parse(text).unwrap_err().contains(named), "{text}");
        }
    }
}
