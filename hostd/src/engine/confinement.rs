//! What a container may and may not do, translated for the agent: part of its description on its way there.

use berth_protocol::agent;

use super::capabilities::CapabilitySet;
use super::error::{EngineError, ErrorKind};
use super::launch::{MASKED_PATHS, READONLY_PATHS};
use super::networks::NetworkMode;
use super::security::{Device, DeviceKind, DeviceRule, Ipc, Namespace, Security, Ulimit};
use super::spec::ContainerSpec;

/// How a process of a container is confined: first processes and execs alike.
pub(super) struct Confinement {
    pub(super) capabilities: agent::Capabilities,
    pub(super) no_new_privileges: bool,
    pub(super) filter: Option<agent::SystemCallFilter>,
    pub(super) limits: Vec<agent::ProcessLimit>,
    pub(super) oom_score_adj: i32,
}

impl Confinement {
    /// # Errors
    /// A seccomp profile that comes to nothing the kernel takes; it was readable when the container was made.
    pub(super) fn of(spec: &ContainerSpec) -> Result<Self, EngineError> {
        let held = spec.security.capabilities();
        let filter = spec.security.effective_seccomp().filter(&held.names());
        let filter =
            filter.map_err(|error| EngineError::new(ErrorKind::InvalidParameter, error.to_string()))?;
        Ok(Self {
            capabilities: capabilities(held),
            no_new_privileges: spec.security.no_new_privileges,
            filter: filter
                .map(|filter| agent::SystemCallFilter { program: filter.program, flags: filter.flags }),
            limits: spec.ulimits.iter().filter_map(process_limit).collect(),
            oom_score_adj: spec.oom_score_adj,
        })
    }

    /// For `exec --privileged`, which is about capabilities and nothing else.
    pub(super) fn with_all_capabilities(mut self) -> Self {
        self.capabilities = capabilities(CapabilitySet::all());
        self
    }
}

/// Nothing is inherited and nothing ambient, as with Docker: a program of another user has what its file gives it.
fn capabilities(set: CapabilitySet) -> agent::Capabilities {
    agent::Capabilities {
        bounding: set.bits(),
        permitted: set.bits(),
        effective: set.bits(),
        ..agent::Capabilities::default()
    }
}

fn process_limit(ulimit: &Ulimit) -> Option<agent::ProcessLimit> {
    // -1 is all ones on the wire.
    let number = |number: i64| number.cast_unsigned();
    let resource = ulimit.resource()?;
    Some(agent::ProcessLimit { resource, soft: number(ulimit.soft), hard: number(ulimit.hard) })
}

/// Paths that nobody reads and paths that nobody writes, unless the container says otherwise.
pub(super) fn protected_paths(security: &Security) -> [Vec<String>; 2] {
    let chosen = |own: &Option<Vec<String>>, default: &[&str]| match own {
        Some(paths) => paths.clone(),
        None if security.privileged => Vec::new(),
        None => default.iter().map(ToString::to_string).collect(),
    };
    [chosen(&security.masked_paths, &MASKED_PATHS), chosen(&security.readonly_paths, &READONLY_PATHS)]
}

pub(super) fn devices(devices: &[Device]) -> Vec<agent::Device> {
    let device = |device: &Device| agent::Device {
        path: device.path.clone(),
        target: device.path_in_container.clone(),
        access: device.access.clone(),
    };
    devices.iter().map(device).collect()
}

pub(super) fn device_rules(rules: &[DeviceRule]) -> Vec<agent::DeviceRule> {
    let kind = |kind| match kind {
        DeviceKind::Any => agent::DeviceKind::AnyDevice,
        DeviceKind::Block => agent::DeviceKind::BlockDevice,
        DeviceKind::Character => agent::DeviceKind::CharacterDevice,
    };
    let rule = |rule: &DeviceRule| agent::DeviceRule {
        kind: kind(rule.kind).into(),
        major: rule.major,
        minor: rule.minor,
        access: rule.access.clone(),
    };
    rules.iter().map(rule).collect()
}

/// The namespaces that the container has of its machine.
pub(super) fn outer_namespaces(spec: &ContainerSpec) -> Vec<i32> {
    let wanted = &spec.namespaces;
    let is_outer = |namespace| namespace == Namespace::Machine;
    let outer = [
        (is_outer(wanted.pid), agent::Namespace::PidNamespace),
        (wanted.ipc == Ipc::Machine, agent::Namespace::IpcNamespace),
        (is_outer(wanted.uts), agent::Namespace::UtsNamespace),
        (is_outer(wanted.cgroup), agent::Namespace::CgroupNamespace),
        (spec.network.mode == NetworkMode::Machine, agent::Namespace::NetworkNamespace),
    ];
    outer.into_iter().filter(|(is_outer, _)| *is_outer).map(|(_, namespace)| namespace.into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{CapabilityName, Namespaces};
    use crate::seccomp::Seccomp;

    fn spec(security: Security) -> ContainerSpec {
        ContainerSpec { security, ..ContainerSpec::default() }
    }

    #[test]
    fn an_ordinary_container_has_dockers_capabilities_and_a_filter() {
        let confinement = Confinement::of(&ContainerSpec::default()).unwrap();
        let held = confinement.capabilities;
        assert_eq!((held.bounding, held.permitted, held.effective), (0xa804_25fb, 0xa804_25fb, 0xa804_25fb));
        assert_eq!((held.inheritable, held.ambient), (0, 0));
        assert!(confinement.filter.is_some());
        let [masked, readonly] = protected_paths(&Security::default());
        assert_eq!((masked.len(), readonly.len()), (MASKED_PATHS.len(), READONLY_PATHS.len()));
    }

    #[test]
    fn a_privileged_container_has_everything() {
        let security = Security { privileged: true, ..Security::default() };
        assert_eq!(protected_paths(&security), [Vec::<String>::new(), Vec::new()]);
        let confinement = Confinement::of(&spec(security)).unwrap();
        assert_eq!(confinement.capabilities.effective, CapabilitySet::all().bits());
        assert!(confinement.filter.is_none());
    }

    #[test]
    fn the_filter_follows_the_capabilities_and_an_exec_only_gets_more_of_these() {
        let added = vec![CapabilityName::parse("SYS_ADMIN").unwrap()];
        let more = Security { added_capabilities: added, ..Security::default() };
        let (ordinary, more) =
            (Confinement::of(&ContainerSpec::default()).unwrap(), Confinement::of(&spec(more)).unwrap());
        assert_ne!(ordinary.filter, more.filter);
        let filter = ordinary.filter.clone();
        let exec = ordinary.with_all_capabilities();
        assert_eq!((exec.capabilities.effective, exec.filter), (CapabilitySet::all().bits(), filter));
        let none = Security { seccomp: Seccomp::Unconfined, ..Security::default() };
        assert!(Confinement::of(&spec(none)).unwrap().filter.is_none());
    }

    #[test]
    fn unlimited_is_all_ones() {
        let ulimit = |soft, hard| Ulimit { name: "nofile".into(), soft, hard };
        let limit = process_limit(&ulimit(5, -1)).unwrap();
        assert_eq!((limit.resource, limit.soft, limit.hard), (7, 5, u64::MAX));
    }

    #[test]
    fn only_what_is_not_its_own_is_named() {
        assert_eq!(outer_namespaces(&ContainerSpec::default()), [0; 0]);
        let namespaces = Namespaces { pid: Namespace::Machine, ipc: Ipc::Shareable, ..Namespaces::default() };
        let spec = ContainerSpec { namespaces, ..ContainerSpec::default() };
        assert_eq!(outer_namespaces(&spec), [agent::Namespace::PidNamespace as i32]);
    }
}
