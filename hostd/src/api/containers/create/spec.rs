//! The checked request in the engine's words.

use std::net::IpAddr;

use super::body::{Config, HostConfig};
use super::health::healthcheck;
use super::limits::positive;
use super::mounts::Mounts;
use super::restart::restart_policy;
use super::{devices, logging, namespaces, storage};
use crate::api::error::{ApiError, ApiResult};
use crate::engine::{
    AutoRemove, ContainerSpec, Limits, NetworkSpec, RESTART_UNHEALTHY_LABEL, RestartPolicy, Security, Stdio,
    TerminalSize,
};

/// What has been decoded already, for its warnings or its order.
pub(super) struct Parts {
    pub(super) limits: Limits,
    pub(super) security: Security,
    pub(super) mounts: Mounts,
    pub(super) network: NetworkSpec,
}

/// # Errors
/// Docker's texts for a working directory, variable, host or signal that is none.
pub(super) fn spec(config: Config, host: HostConfig, parts: Parts) -> ApiResult<ContainerSpec> {
    check_working_dir(&config.working_dir)?;
    config.env.iter().try_for_each(|entry| check_variable(entry))?;
    host.extra_hosts.iter().try_for_each(|entry| check_extra_host(entry))?;
    let stdio = stdio(&config, &host);
    let restart = restart_policy(&host.restart_policy)?;
    check_auto_remove(&config, &host, restart)?;
    let namespaces = namespaces::namespaces(&config, &host)?;
    devices::check_requests(&host)?;
    Ok(ContainerSpec {
        sysctls: devices::sysctls(&host, &namespaces)?,
        devices: devices::devices(&host)?,
        device_rules: devices::rules(&host)?,
        ulimits: devices::ulimits(&host)?,
        oom_score_adj: devices::oom_score_adj(&host)?,
        scratch_disk_bytes: storage::scratch_disk_bytes(&host)?,
        namespaces,
        image: config.image,
        entrypoint: config.entrypoint,
        command: config.cmd,
        env: config.env,
        working_directory: non_empty(config.working_dir),
        user: non_empty(config.user),
        additional_groups: host.group_add,
        hostname: non_empty(config.hostname),
        domainname: non_empty(config.domainname),
        labels: config.labels,
        exposed_ports: config.exposed_ports.into_keys().collect(),
        stdio,
        stop_signal: non_empty(config.stop_signal).map(|signal| signal.parse()).transpose()?,
        stop_timeout_s: config.stop_timeout,
        auto_remove: if host.auto_remove { AutoRemove::Remove } else { AutoRemove::Keep },
        restart,
        log: logging::settings(host.log_config)?,
        healthcheck: config.healthcheck.map(healthcheck).transpose()?,
        limits: parts.limits,
        cgroup_parent: cgroup_parent(host.cgroup_parent)?,
        readonly_rootfs: host.readonly_rootfs,
        tmpfs: parts.mounts.tmpfs,
        tmpfs_mounts: parts.mounts.tmpfs_mounts,
        mounts: parts.mounts.requests,
        storage_options: host.storage_opt,
        runtime: runtime(host.runtime)?,
        security: parts.security,
        extra_hosts: host.extra_hosts,
        shm_size_bytes: shm_size_bytes(host.shm_size)?,
        init: host.init.unwrap_or(false),
        annotations: host.annotations,
        network: parts.network,
    })
}

/// What is removed at its end cannot be started again.
fn check_auto_remove(config: &Config, host: &HostConfig, restart: RestartPolicy) -> ApiResult<()> {
    if !host.auto_remove {
        return Ok(());
    }
    if restart != RestartPolicy::No {
        return Err(ApiError::invalid("can't create 'AutoRemove' container with restart policy"));
    }
    if config.labels.get(RESTART_UNHEALTHY_LABEL).is_some_and(|value| value == "true") {
        let message = format!("can't create 'AutoRemove' container with the label {RESTART_UNHEALTHY_LABEL}");
        return Err(ApiError::invalid(message));
    }
    Ok(())
}

fn stdio(config: &Config, host: &HostConfig) -> Stdio {
    let size = host.console_size.filter(|[rows, columns]| *rows > 0 && *columns > 0);
    Stdio {
        terminal: config.tty,
        terminal_size: size.map(|[rows, columns]| TerminalSize { rows, columns }),
        open_stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        attach_stdin: config.attach_stdin,
        attach_stdout: config.attach_stdout,
        attach_stderr: config.attach_stderr,
    }
}

/// What there is instead of runc answers to its names too: people's compose files and scripts have them.
pub(in crate::api) const RUNTIMES: [&str; 3] = ["berth", "runc", "io.containerd.runc.v2"];

fn runtime(name: String) -> ApiResult<Option<String>> {
    if name.is_empty() || RUNTIMES.contains(&name.as_str()) {
        return Ok(non_empty(name));
    }
    Err(ApiError::invalid(format!("unknown or invalid runtime name: {name}")))
}

/// From the root of the host's hierarchies, with or without a `/` in front, as with dockerd's driver `cgroupfs`.
fn cgroup_parent(parent: String) -> ApiResult<Option<String>> {
    let leads_up = parent.split('/').any(|part| part == "..");
    if leads_up
        || parent.chars().any(char::is_control)
        || parent.trim_matches('/').is_empty() && !parent.is_empty()
    {
        return Err(ApiError::invalid(format!("invalid cgroup parent: {parent:?}")));
    }
    Ok(non_empty(parent))
}

fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn check_working_dir(directory: &str) -> ApiResult<()> {
    if directory.is_empty() || directory.starts_with('/') {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "the working directory '{directory}' is invalid, it needs to be an absolute path"
    )))
}

pub(in crate::api) fn check_variable(entry: &str) -> ApiResult<()> {
    if entry.is_empty() || entry.starts_with('=') {
        return Err(ApiError::invalid(format!("invalid environment variable: {entry}")));
    }
    Ok(())
}

/// "name:address"; `host-gateway` is an address that is known when the container starts.
fn check_extra_host(entry: &str) -> ApiResult<()> {
    let (name, address) = entry.split_once([':', '=']).unwrap_or_default();
    if name.is_empty() || address.is_empty() {
        return Err(ApiError::invalid(format!("bad format for add-host: \"{entry}\"")));
    }
    if address == "host-gateway" {
        return Ok(());
    }
    match address.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(_) => Ok(()),
        Err(_) => Err(ApiError::invalid(format!("invalid IP address in add-host: \"{address}\""))),
    }
}

fn shm_size_bytes(size: i64) -> ApiResult<Option<u64>> {
    if size < 0 {
        return Err(ApiError::invalid("SHM size can not be less than 0"));
    }
    Ok(positive(size))
}
