//! Whose namespaces a container has. "host" is the machine that it runs in; "container:" is another container's, in whose
//! machine it runs then. Its network is in [`super::network`].

use super::body::{Config, HostConfig};
use crate::api::error::{ApiError, ApiResult};
use crate::engine::{Ipc, Namespace, Namespaces};

/// # Errors
/// Docker's texts for a mode that is none, 501 for one that needs machines of several containers.
pub(super) fn namespaces(config: &Config, host: &HostConfig) -> ApiResult<Namespaces> {
    let uts = mode("UTSMode", "UTS", &host.uts_mode, &[])?;
    if uts == Namespace::Machine && !(config.hostname.is_empty() && config.domainname.is_empty()) {
        return Err(ApiError::invalid("conflicting options: hostname and the UTS mode"));
    }
    let pid_of = of_container(&host.pid_mode).map(str::to_owned);
    let ipc_of = of_container(&host.ipc_mode).map(str::to_owned);
    Ok(Namespaces {
        pid: if pid_of.is_some() { Namespace::Own } else { mode("PidMode", "PID", &host.pid_mode, &[])? },
        pid_of,
        ipc: if ipc_of.is_some() { Ipc::Private } else { ipc(&host.ipc_mode)? },
        ipc_of,
        uts,
        cgroup: mode("CgroupnsMode", "cgroup namespace", &host.cgroupns_mode, &["private"])?,
        user: mode("UsernsMode", "userns", &host.userns_mode, &[])?,
    })
}

fn mode(field: &str, name: &str, mode: &str, own: &[&str]) -> ApiResult<Namespace> {
    match mode {
        "" => Ok(Namespace::Own),
        "host" => Ok(Namespace::Machine),
        mode if own.contains(&mode) => Ok(Namespace::Own),
        mode if of_container(mode).is_some() => Err(of_another(field, mode)),
        mode => Err(ApiError::invalid(format!("invalid {name} mode: {mode}"))),
    }
}

fn ipc(mode: &str) -> ApiResult<Ipc> {
    match mode {
        "" | "private" => Ok(Ipc::Private),
        "shareable" => Ok(Ipc::Shareable),
        "none" => Ok(Ipc::WithoutShm),
        "host" => Ok(Ipc::Machine),
        mode => Err(ApiError::invalid(format!("invalid IPC mode: {mode}"))),
    }
}

/// The container that a mode names.
fn of_container(mode: &str) -> Option<&str> {
    mode.strip_prefix("container:").filter(|container| !container.is_empty())
}

fn of_another(field: &str, mode: &str) -> ApiError {
    ApiError::not_supported(format!(
        "berth cannot honour HostConfig.{field} \"{mode}\" yet: containers of a machine share networks, processes and IPC alone"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(host: &HostConfig, hostname: &str) -> Result<Namespaces, (u16, String)> {
        let config = Config { hostname: hostname.to_owned(), ..Config::default() };
        namespaces(&config, host).map_err(|error| (error.status.as_u16(), error.message))
    }

    #[test]
    fn the_hosts_is_the_machines() {
        let host = HostConfig {
            pid_mode: "host".into(),
            ipc_mode: "host".into(),
            uts_mode: "host".into(),
            cgroupns_mode: "host".into(),
            userns_mode: "host".into(),
            ..HostConfig::default()
        };
        let machine = Namespace::Machine;
        let expected = Namespaces {
            pid: machine,
            pid_of: None,
            ipc: Ipc::Machine,
            ipc_of: None,
            uts: machine,
            cgroup: machine,
            user: machine,
        };
        assert_eq!(of(&host, ""), Ok(expected));
        assert_eq!(of(&HostConfig::default(), "web"), Ok(Namespaces::default()));
    }

    #[test]
    fn processes_and_ipc_may_be_anothers() {
        let host = HostConfig { pid_mode: "container:db".into(), ..HostConfig::default() };
        let expected = Namespaces { pid_of: Some("db".into()), ..Namespaces::default() };
        assert_eq!(of(&host, "web"), Ok(expected));
        let host = HostConfig { ipc_mode: "container:db".into(), ..HostConfig::default() };
        let expected = Namespaces { ipc_of: Some("db".into()), ..Namespaces::default() };
        assert_eq!(of(&host, "web"), Ok(expected));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let uts = HostConfig { uts_mode: "host".into(), ..HostConfig::default() };
        assert_eq!(of(&uts, "web").unwrap_err().1, "conflicting options: hostname and the UTS mode");
        let wrong = HostConfig { pid_mode: "mine".into(), ..HostConfig::default() };
        assert_eq!(of(&wrong, "").unwrap_err(), (400, "invalid PID mode: mine".to_owned()));
        let nobodys = HostConfig { pid_mode: "container:".into(), ..HostConfig::default() };
        assert_eq!(of(&nobodys, "").unwrap_err(), (400, "invalid PID mode: container:".to_owned()));
        for wrong in ["foo", "container", "container:"] {
            let wrong = HostConfig { ipc_mode: wrong.into(), ..HostConfig::default() };
            assert_eq!(of(&wrong, "").unwrap_err(), (400, format!("invalid IPC mode: {}", wrong.ipc_mode)));
        }
        let other = HostConfig { cgroupns_mode: "container:db".into(), ..HostConfig::default() };
        assert_eq!(of(&other, "").unwrap_err().0, 501);
    }
}
