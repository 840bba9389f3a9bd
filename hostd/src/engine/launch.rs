//! A container's description on its way to the agent, and the agent's refusals on their way back.

use berth_protocol::agent::{self, ErrorCode};

use super::confinement::{self, Confinement};
use super::container::{Container, StartError};
use super::error::{EngineError, ErrorKind, chain};
use super::exec::ExecSpec;
use super::mounts::{BoundSocket, MachineNames, agent_mounts};
use super::names::NameFiles;
use super::networks::{Endpoint, default_routes};
use super::security::{Ipc, Namespace};
use super::spec::TerminalSize;
use super::state::StartFailure;
use super::user_namespace::UserNamespace;
use crate::agent_client::CallError;

/// Disks in guest order, as `run` gives them to the machine.
pub(super) const IMAGE_DISK: &str = "vda";
pub(super) const SCRATCH_DISK: &str = "vdb";

/// Docker's size of /dev/shm.
pub const DEFAULT_SHM_BYTES: u64 = 64 << 20;

/// Docker's default (moby, `oci/defaults.go`): files of the kernel's that tell or change too much.
pub const MASKED_PATHS: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
pub const READONLY_PATHS: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What images that say nothing get.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// # Errors
/// What of the description cannot be translated, a seccomp profile, or not be had in the daemon's user namespace.
pub(super) fn launch_request(
    container: &Container,
    user_namespace: Option<&UserNamespace>,
    endpoints: &[Endpoint],
    sockets: &[BoundSocket],
    names: NameFiles,
    in_machine: &MachineNames,
) -> Result<agent::StartContainer, EngineError> {
    let spec = &*container.spec();
    let user_namespace = UserNamespace::of(user_namespace, spec)?;
    let [users, groups] = user_namespace.map(UserNamespace::ranges).unwrap_or_default();
    let [masked_paths, readonly_paths] = confinement::protected_paths(&spec.security);
    Ok(agent::StartContainer {
        container_id: container.id.to_string(),
        image_disk: IMAGE_DISK.into(),
        scratch_disk: SCRATCH_DISK.into(),
        hostname: hostname(container),
        domainname: spec.domainname.clone().unwrap_or_default(),
        process: Some(first_process(container, &names.environment)?),
        resources: Some(spec.limits.resources()),
        mounts: agent_mounts(spec, &container.mounts, sockets, in_machine),
        lower_part: in_machine.images.own,
        readonly_rootfs: spec.readonly_rootfs,
        masked_paths,
        readonly_paths,
        extra_hosts: names.hosts,
        shm_size_bytes: spec.shm_size_bytes.unwrap_or(DEFAULT_SHM_BYTES),
        init: spec.init,
        sysctls: spec.sysctls.clone(),
        devices: confinement::devices(&spec.devices),
        device_rules: confinement::device_rules(&spec.device_rules),
        outer_namespaces: confinement::outer_namespaces(spec),
        privileged: spec.security.privileged,
        no_shm: spec.namespaces.ipc == Ipc::WithoutShm,
        shareable_shm: spec.namespaces.shares_ipc(),
        users,
        groups,
        interfaces: interfaces(endpoints),
        name_resolution: names.resolution,
        name_server: names.name_server,
        ..agent::StartContainer::default()
    })
}

fn interfaces(endpoints: &[Endpoint]) -> Vec<agent::NetworkInterface> {
    (0..endpoints.len()).map(|number| interface(endpoints, number)).collect()
}

/// That of one of them. One way leads out, whatever the number of networks.
pub(super) fn interface(endpoints: &[Endpoint], number: usize) -> agent::NetworkInterface {
    let endpoint = &endpoints[number];
    let its_routes = default_routes(endpoints).into_iter().filter(|(by, _)| *by == number);
    agent::NetworkInterface {
        card: card_name(endpoint),
        name: endpoint.interface.clone(),
        mac_address: endpoint.mac.to_vec(),
        addresses: endpoint.addresses.iter().map(ToString::to_string).collect(),
        gateways: its_routes.map(|(_, gateway)| gateway.to_string()).collect(),
        mtu_bytes: endpoint.mtu_bytes.into(),
    }
}

/// As the guest's kernel calls it, which finds cards in the machine's order.
pub(super) fn card_name(endpoint: &Endpoint) -> String {
    format!("eth{}", endpoint.machine_card)
}

/// What machines are called (`CONFIG_DEFAULT_HOSTNAME` of the guest's kernel).
const MACHINE_HOSTNAME: &str = "berth";

/// Its own name, or the beginning of its id; its machine's if it does without one.
pub(super) fn hostname(container: &Container) -> String {
    if container.spec().namespaces.uts == Namespace::Machine {
        return MACHINE_HOSTNAME.to_owned();
    }
    container.spec().hostname.clone().unwrap_or_else(|| container.id.short().to_owned())
}

fn first_process(container: &Container, linked: &[String]) -> Result<agent::Process, EngineError> {
    let spec = &*container.spec();
    let process = agent::Process {
        process_id: container.id.to_string(),
        args: spec.args(),
        env: environment(&hostname(container), spec.stdio.terminal, linked, &spec.env),
        working_directory: spec.working_directory.clone().unwrap_or_default(),
        user: spec.user.clone().unwrap_or_default(),
        additional_groups: spec.additional_groups.clone(),
        terminal: spec.stdio.terminal,
        terminal_size: spec.stdio.terminal_size.map(terminal_size),
        stdin: spec.stdio.open_stdin,
        ..agent::Process::default()
    };
    Ok(confined(process, Confinement::of(spec)?))
}

fn confined(process: agent::Process, confinement: Confinement) -> agent::Process {
    agent::Process {
        capabilities: Some(confinement.capabilities),
        no_new_privileges: confinement.no_new_privileges,
        system_call_filter: confinement.filter,
        limits: confinement.limits,
        oom_score_adj: confinement.oom_score_adj,
        ..process
    }
}

/// A further process; what it does not say itself it has from the container.
///
/// # Errors
/// As [`launch_request`].
pub(super) fn exec_process(
    container: &Container,
    exec_id: &str,
    exec: &ExecSpec,
    linked: &[String],
) -> Result<agent::Process, EngineError> {
    let spec = &*container.spec();
    let mut env = environment(&hostname(container), exec.terminal, linked, &spec.env);
    for entry in &exec.env {
        let name = entry.split_once('=').map_or(entry.as_str(), |(name, _)| name);
        env.retain(|existing| existing.split_once('=').is_none_or(|(existing, _)| existing != name));
        env.push(entry.clone());
    }
    let confinement = Confinement::of(spec)?;
    let confinement = if exec.privileged { confinement.with_all_capabilities() } else { confinement };
    let process = agent::Process {
        process_id: exec_id.into(),
        args: exec.args.clone(),
        env,
        working_directory: exec
            .working_directory
            .clone()
            .or(spec.working_directory.clone())
            .unwrap_or_default(),
        user: exec.user.clone().or(spec.user.clone()).unwrap_or_default(),
        additional_groups: spec.additional_groups.clone(),
        terminal: exec.terminal,
        terminal_size: exec.terminal_size.map(terminal_size),
        stdin: exec.attach_stdin,
        ..agent::Process::default()
    };
    Ok(confined(process, confinement))
}

/// Docker's own variables, those of links, those of image and request in the places of their namesakes, and the others after them.
fn environment(hostname: &str, terminal: bool, linked: &[String], env: &[String]) -> Vec<String> {
    let mut merged = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if terminal {
        merged.push("TERM=xterm".into());
    }
    merged.extend_from_slice(linked);
    for entry in env {
        let name = |entry: &str| entry.split_once('=').map(|(name, _)| name.to_owned());
        match merged.iter_mut().find(|default| name(default) == name(entry)) {
            Some(default) => default.clone_from(entry),
            None => merged.push(entry.clone()),
        }
    }
    merged
}

fn terminal_size(size: TerminalSize) -> agent::TerminalSize {
    agent::TerminalSize { rows: size.rows.into(), columns: size.columns.into() }
}

/// What Docker's clients look for in the text of a start that failed; the program's name follows.
const START_PREFIX: &str = "failed to create task for container: failed to create shim task: OCI runtime create failed: \
     unable to start container process: error during container init: ";
const EXEC_PREFIX: &str = "OCI runtime exec failed: exec failed: unable to start container process: ";

pub(super) fn start_error(error: &CallError) -> StartError {
    match program_failure(error, START_PREFIX) {
        Some(failure) => StartError::Program(failure),
        None => StartError::Engine(EngineError::new(ErrorKind::Internal, chain(error))),
    }
}

/// Why an exec did not start, with the code that it then has, if that is the request's fault.
pub(super) fn exec_failure(error: &CallError) -> Option<StartFailure> {
    program_failure(error, EXEC_PREFIX)
}

/// A refusal that is the request's fault, in Docker's words.
fn program_failure(error: &CallError, prefix: &str) -> Option<StartFailure> {
    let CallError::Agent { code, message } = error else { return None };
    let prefixed = format!("{prefix}{message}: unknown");
    let failure = |code, message: &str| Some(StartFailure { code, message: message.to_owned() });
    match code {
        ErrorCode::CommandNotFound => failure(127, &prefixed),
        ErrorCode::CommandNotExecutable | ErrorCode::BadWorkingDirectory => failure(126, &prefixed),
        ErrorCode::NoSuchUser => failure(126, message),
        ErrorCode::MountFailed | ErrorCode::ResourceLimit | ErrorCode::InvalidRequest => {
            failure(128, &prefixed)
        }
        ErrorCode::UnknownOperation
        | ErrorCode::NoSuchContainer
        | ErrorCode::NoSuchProcess
        | ErrorCode::Internal
        | ErrorCode::AlreadyExists
        | ErrorCode::NoSuchFile
        | ErrorCode::NotADirectory
        | ErrorCode::ReadOnly => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_the_image_or_client_sets_replaces_dockers_own_variables() {
        let env =
            environment("box", true, &strings(&["DB_NAME=/box/db", "A=0"]), &strings(&["PATH=/mine", "A=1"]));
        assert_eq!(env, ["PATH=/mine", "HOSTNAME=box", "TERM=xterm", "DB_NAME=/box/db", "A=1"]);
    }

    #[test]
    fn a_missing_program_is_told_in_the_words_that_clients_look_for() {
        let message = "exec: \"nope\": executable file not found in $PATH".to_owned();
        let error = CallError::Agent { code: ErrorCode::CommandNotFound, message };
        let StartError::Program(failure) = start_error(&error) else { panic!("{error:?}") };
        assert_eq!(failure.code, 127);
        assert!(failure.message.ends_with("exec: \"nope\": executable file not found in $PATH: unknown"));
    }
}
