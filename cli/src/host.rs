//! Which daemon to talk to: the `--host` flag, then `BERTH_HOST`, then `DOCKER_HOST`, then the usual socket.
//!
//! Decides and validates only; connecting is [`crate::client`]'s work.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Where the packaged daemon listens.
const SYSTEM_SOCKET: &str = "/run/berth/berthd.sock";
/// Docker's port for the API without TLS.
const PLAIN_PORT: u16 = 2375;

/// A daemon's address, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Unix(PathBuf),
    /// Plain HTTP; only loopback addresses get this far.
    Tcp {
        name: String,
        port: u16,
    },
}

#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum HostError {
    #[error("unable to parse docker host `{0}`: expected unix:///PATH or tcp://ADDRESS:PORT")]
    Malformed(String),
    #[error(
        "{0}: this version of berth reaches a daemon over a unix socket or loopback TCP only \
         (TLS and ssh:// are not there yet). Forward the socket instead: \
         ssh -nNT -L /tmp/berthd.sock:/run/berth/berthd.sock USER@HOST, then -H unix:///tmp/berthd.sock"
    )]
    NotYet(String),
}

/// The environment that host selection looks at, gathered so that the choice itself can be tested.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    pub(crate) berth_host: Option<String>,
    pub(crate) docker_host: Option<String>,
    pub(crate) docker_tls_verify: Option<String>,
    /// `$XDG_RUNTIME_DIR/berth/berthd.sock`, if it exists and the user is not root.
    pub(crate) user_socket: Option<PathBuf>,
}

impl Environment {
    /// Reads the process's environment. A variable that is empty counts as unset, as for Docker.
    pub(crate) fn of_process() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            berth_host: variable("BERTH_HOST"),
            docker_host: variable("DOCKER_HOST"),
            docker_tls_verify: variable("DOCKER_TLS_VERIFY"),
            user_socket: variable("XDG_RUNTIME_DIR")
                .map(|dir| Path::new(&dir).join("berth/berthd.sock"))
                .filter(|socket| !is_root() && socket.exists()),
        }
    }
}

#[cfg(unix)]
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

impl Host {
    /// The daemon that flag and environment name.
    ///
    /// # Errors
    /// [`HostError`] when the chosen address is malformed or of a kind that is not supported.
    pub(crate) fn choose(flag: Option<&str>, environment: &Environment) -> Result<Self, HostError> {
        let named = flag.or(environment.berth_host.as_deref()).or(environment.docker_host.as_deref());
        let host = match (named, &environment.user_socket) {
            (Some(address), _) => Self::parse(address)?,
            (None, Some(socket)) => Self::Unix(socket.clone()),
            (None, None) => Self::Unix(PathBuf::from(SYSTEM_SOCKET)),
        };
        match (&host, &environment.docker_tls_verify) {
            // Whoever asked for TLS must not be given a plain connection.
            (Self::Tcp { .. }, Some(_)) => {
                Err(HostError::NotYet(format!("DOCKER_TLS_VERIFY is set and the daemon is at {host}")))
            }
            _ => Ok(host),
        }
    }

    fn parse(address: &str) -> Result<Self, HostError> {
        let malformed = || HostError::Malformed(address.to_owned());
        if let Some(path) = address.strip_prefix("unix://") {
            return if path.is_empty() { Err(malformed()) } else { Ok(Self::Unix(PathBuf::from(path))) };
        }
        if address.starts_with('/') {
            return Ok(Self::Unix(PathBuf::from(address)));
        }
        if address.starts_with("ssh://") || address.starts_with("https://") || address.starts_with("npipe://")
        {
            return Err(HostError::NotYet(address.to_owned()));
        }
        let authority = address
            .strip_prefix("tcp://")
            .or_else(|| address.strip_prefix("http://"))
            .ok_or_else(malformed)?
            .trim_end_matches('/');
        let (name, port) = split_authority(authority).ok_or_else(malformed)?;
        if is_loopback(&name) {
            Ok(Self::Tcp { name, port })
        } else {
            // The API is root on the daemon's host: never in the clear over a network.
            Err(HostError::NotYet(address.to_owned()))
        }
    }
}

/// `name[:port]` with IPv6 addresses in brackets.
fn split_authority(authority: &str) -> Option<(String, u16)> {
    let (name, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (name, port) = rest.split_once(']')?;
            (name, port.strip_prefix(':'))
        }
        None => match authority.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (authority, None),
        },
    };
    let port = port.map_or(Some(PLAIN_PORT), |port| port.parse().ok())?;
    let plain = !name.is_empty() && !name.contains(['/', '?', '@']);
    plain.then(|| (name.to_owned(), port))
}

fn is_loopback(name: &str) -> bool {
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl fmt::Display for Host {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(out, "unix://{}", path.display()),
            Self::Tcp { name, port } if name.contains(':') => write!(out, "tcp://[{name}]:{port}"),
            Self::Tcp { name, port } => write!(out, "tcp://{name}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(flag: Option<&str>, berth: Option<&str>, docker: Option<&str>) -> Result<String, HostError> {
        let environment = Environment {
            berth_host: berth.map(str::to_owned),
            docker_host: docker.map(str::to_owned),
            ..Environment::default()
        };
        Host::choose(flag, &environment).map(|host| host.to_string())
    }

    #[test]
    fn the_flag_wins_over_berth_host_over_docker_host() {
        let all = (Some("unix:///flag"), Some("unix:///berth"), Some("unix:///docker"));
        assert_eq!(choose(all.0, all.1, all.2).unwrap(), "unix:///flag");
        assert_eq!(choose(None, all.1, all.2).unwrap(), "unix:///berth");
        assert_eq!(choose(None, None, all.2).unwrap(), "unix:///docker");
        assert_eq!(choose(None, None, None).unwrap(), "unix:///run/berth/berthd.sock");
    }

    #[test]
    fn a_users_own_socket_comes_before_the_systems() {
        let environment =
            Environment { user_socket: Some("/run/user/7/berth/berthd.sock".into()), ..Default::default() };
        let host = Host::choose(None, &environment).unwrap();
        assert_eq!(host.to_string(), "unix:///run/user/7/berth/berthd.sock");
    }

    #[test]
    fn loopback_tcp_is_taken_and_anything_wider_is_refused() {
        assert_eq!(choose(Some("tcp://127.0.0.1:2000"), None, None).unwrap(), "tcp://127.0.0.1:2000");
        assert_eq!(choose(Some("tcp://localhost"), None, None).unwrap(), "tcp://localhost:2375");
        assert_eq!(choose(Some("tcp://[::1]:9"), None, None).unwrap(), "tcp://[::1]:9");
        for refused in ["tcp://10.0.0.1:2375", "ssh://box", "tcp://0.0.0.0:1"] {
            assert_eq!(choose(Some(refused), None, None), Err(HostError::NotYet(refused.to_owned())));
        }
    }

    #[test]
    fn tls_that_was_asked_for_is_never_dropped() {
        let environment = Environment {
            docker_host: Some("tcp://127.0.0.1:2376".to_owned()),
            docker_tls_verify: Some("1".to_owned()),
            ..Environment::default()
        };
        assert!(matches!(Host::choose(None, &environment), Err(HostError::NotYet(_))));
    }

    #[test]
    fn nonsense_is_named() {
        for address in ["unix://", "berth", "tcp://", "tcp://localhost:99999", "tcp://a@localhost:1"] {
            assert_eq!(choose(Some(address), None, None), Err(HostError::Malformed(address.to_owned())));
        }
    }
}
