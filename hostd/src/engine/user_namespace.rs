//! Containers whose root is nobody in their machine: who their users and groups are there, and what they cannot have.
//!
//! Which ranges there are is the daemon's setting; a container can only stay out (`namespaces.user`).

use berth_protocol::agent;

use super::error::EngineError;
use super::security::{Ipc, Namespace};
use super::spec::ContainerSpec;

/// What Linux shows for an id that a namespace has no place for.
const NOBODY: u32 = 65534;

/// A container's users and groups, each from 0 upwards, by what they are in the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserNamespace {
    pub users: Vec<IdRange>,
    pub groups: Vec<IdRange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    pub first: u32,
    pub count: u32,
}

impl UserNamespace {
    /// The one of a container with this description, if it has one.
    ///
    /// # Errors
    /// Docker's texts for what such a container cannot have.
    pub(super) fn of<'a>(
        setting: Option<&'a Self>,
        spec: &ContainerSpec,
    ) -> Result<Option<&'a Self>, EngineError> {
        let Some(namespace) = setting.filter(|_| spec.namespaces.user == Namespace::Own) else {
            return Ok(None);
        };
        if spec.security.privileged {
            return Err(EngineError::invalid(
                "privileged mode is incompatible with user namespaces.  You must run the container in the host \
                 namespace when running privileged mode",
            ));
        }
        let shared = match (spec.namespaces.pid, spec.namespaces.ipc) {
            (Namespace::Machine, _) => "PID",
            (_, Ipc::Machine) => "IPC",
            _ => return Ok(Some(namespace)),
        };
        let message = format!("cannot share the host {shared} namespace when user namespaces are enabled");
        Err(EngineError::invalid(message))
    }

    /// Who a container's user and group are in the machine, and so on files that it shares with the host; ids that are in
    /// no range are nobody's.
    pub(super) fn outside(&self, uid: u32, gid: u32) -> (u32, u32) {
        let outside = |ranges: &[IdRange], inside: u32| {
            let mut rest = inside;
            for range in ranges {
                if rest < range.count {
                    return range.first.saturating_add(rest);
                }
                rest -= range.count;
            }
            NOBODY
        };
        (outside(&self.users, uid), outside(&self.groups, gid))
    }

    /// Whether somebody in the container can be that user and that group of the machine's.
    pub(super) fn has(&self, user: u32, group: u32) -> bool {
        let is_one_of = |ranges: &[IdRange], id: u32| {
            ranges.iter().any(|range| id.checked_sub(range.first).is_some_and(|nth| nth < range.count))
        };
        is_one_of(&self.users, user) && is_one_of(&self.groups, group)
    }

    /// Users and groups in the agent's words.
    pub(super) fn ranges(&self) -> [Vec<agent::IdRange>; 2] {
        [&self.users, &self.groups].map(|ranges| {
            let mut inside = 0;
            let mut range = |range: &IdRange| {
                let first = inside;
                inside += range.count;
                agent::IdRange { inside: first, outside: range.first, count: range.count }
            };
            ranges.iter().map(&mut range).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Namespaces, Security};

    fn setting() -> UserNamespace {
        let ranges = vec![IdRange { first: 100_000, count: 1000 }, IdRange { first: 500_000, count: 10 }];
        UserNamespace { users: ranges, groups: vec![IdRange { first: 200_000, count: 5 }] }
    }

    #[test]
    fn ranges_follow_each_other_inside() {
        let [users, groups] = setting().ranges();
        let numbers = |range: &agent::IdRange| (range.inside, range.outside, range.count);
        assert_eq!(users.iter().map(numbers).collect::<Vec<_>>(), [(0, 100_000, 1000), (1000, 500_000, 10)]);
        assert_eq!(groups.iter().map(numbers).collect::<Vec<_>>(), [(0, 200_000, 5)]);
    }

    #[test]
    fn an_id_inside_is_another_one_outside() {
        for (inside, outside) in [
            ((0, 0), (100_000, 200_000)),
            ((999, 4), (100_999, 200_004)),
            ((1000, 5), (500_000, NOBODY)),
            ((1009, u32::MAX), (500_009, NOBODY)),
            ((1010, 0), (NOBODY, 200_000)),
        ] {
            assert_eq!(setting().outside(inside.0, inside.1), outside, "{inside:?}");
        }
    }

    #[test]
    fn who_is_in_the_container_is_in_its_ranges() {
        let setting = setting();
        for user in [100_000, 100_999, 500_000, 500_009] {
            assert!(setting.has(user, 200_004), "{user}");
        }
        for (user, group) in [(0, 200_000), (99_999, 200_000), (101_000, 200_000), (100_000, 200_005)] {
            assert!(!setting.has(user, group), "{user}:{group}");
        }
    }

    #[test]
    fn a_container_can_stay_out_and_what_needs_that_must() {
        let setting = setting();
        let of = |spec: &ContainerSpec| {
            UserNamespace::of(Some(&setting), spec).map(|own| own.is_some()).map_err(|error| error.message)
        };
        let privileged = ContainerSpec {
            security: Security { privileged: true, ..Security::default() },
            ..ContainerSpec::default()
        };
        let namespaces = |namespaces| ContainerSpec { namespaces, ..ContainerSpec::default() };
        assert_eq!(of(&ContainerSpec::default()), Ok(true));
        assert!(of(&privileged).unwrap_err().starts_with("privileged mode is incompatible"));
        let pid = Namespaces { pid: Namespace::Machine, ..Namespaces::default() };
        assert!(of(&namespaces(pid)).unwrap_err().contains("host PID namespace"));
        let ipc = Namespaces { ipc: Ipc::Machine, ..Namespaces::default() };
        assert!(of(&namespaces(ipc)).unwrap_err().contains("host IPC namespace"));
        let out = Namespaces { pid: Namespace::Machine, user: Namespace::Machine, ..Namespaces::default() };
        assert_eq!(of(&namespaces(out)), Ok(false));
        assert_eq!(UserNamespace::of(None, &privileged), Ok(None));
    }
}
