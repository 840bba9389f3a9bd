//! Which users and groups of a container are which of its machine: the maps of user_namespaces(7).
//!
//! Translates numbers and writes the kernel's lines; who has which map is decided by the host.

use berth_protocol::agent::{IdRange, StartContainer};

use crate::failure::Failure;

/// As many lines as the kernel takes.
const MAX_RANGES: usize = 340;
/// What a user is called where it has no number.
const NOBODY: u32 = 65_534;
/// On disks, the owner of what the overlay makes for itself while it works, as the agent: ids of programs stay below.
const OVERLAYS_OWN: u32 = u32::MAX - 1;

/// A container's users and groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IdMaps {
    pub(crate) users: IdMap,
    pub(crate) groups: IdMap,
}

/// Empty, ids are the same inside and outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IdMap {
    ranges: Vec<IdRange>,
}

impl IdMaps {
    /// # Errors
    /// INVALID_REQUEST for a map of one kind only, without root, or with ids that there are not.
    pub(super) fn of(request: &StartContainer) -> Result<Self, Failure> {
        if request.users.is_empty() != request.groups.is_empty() {
            return Err(Failure::invalid("users and groups: one is mapped and the other is not"));
        }
        let users = IdMap::checked("users", &request.users)?;
        Ok(Self { users, groups: IdMap::checked("groups", &request.groups)? })
    }

    /// Whether the container has a user namespace of its own.
    pub(crate) fn is_mapped(&self) -> bool {
        !self.users.ranges.is_empty()
    }
}

impl IdMap {
    fn checked(field: &str, ranges: &[IdRange]) -> Result<Self, Failure> {
        let map = Self { ranges: ranges.to_vec() };
        let ends = |range: &IdRange| {
            let fits = |first: u32| first.checked_add(range.count).is_some_and(|end| end < OVERLAYS_OWN);
            range.count > 0 && fits(range.inside) && fits(range.outside)
        };
        if ranges.len() > MAX_RANGES || !ranges.iter().all(ends) {
            return Err(Failure::invalid(format!("{field} are no ranges of ids")));
        }
        // The kernel's own root is what a container with a namespace of its own must never be.
        if !ranges.is_empty() && (map.outside(0).is_none() || ranges.iter().any(|range| range.outside == 0)) {
            return Err(Failure::invalid(format!("{field}: root must be somebody else than the machine's")));
        }
        Ok(map)
    }

    /// What the container's `id` is in the machine, if it is anything.
    pub(crate) fn outside(&self, id: u32) -> Option<u32> {
        if self.ranges.is_empty() {
            return Some(id);
        }
        let range = self.ranges.iter().find(|range| id >= range.inside && id - range.inside < range.count)?;
        Some(range.outside + (id - range.inside))
    }

    /// The container's root, as the machine knows it.
    pub(crate) fn root(&self) -> u32 {
        self.outside(0).unwrap_or(NOBODY)
    }

    /// What the machine's `id` is in the container.
    pub(crate) fn inside(&self, id: u32) -> u32 {
        if self.ranges.is_empty() {
            return id;
        }
        let range = self.ranges.iter().find(|range| id >= range.outside && id - range.outside < range.count);
        range.map_or(NOBODY, |range| range.inside + (id - range.outside))
    }

    /// For `uid_map` and `gid_map` of the container's processes.
    pub(super) fn lines(&self) -> String {
        self.ranges
            .iter()
            .map(|range| format!("{} {} {}\n", range.inside, range.outside, range.count))
            .collect()
    }

    /// The same for its disks, through which the overlay works with the agent's own id as well.
    pub(super) fn lines_for_disks(&self) -> String {
        format!("{}{OVERLAYS_OWN} 0 1\n", self.lines())
    }

    /// The highest id of those that begin with the container's root.
    pub(crate) fn highest_from_root(ranges: &[IdRange]) -> Option<u32> {
        ranges.iter().find(|range| range.inside == 0).map(|range| range.count.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(inside: u32, outside: u32, count: u32) -> IdRange {
        IdRange { inside, outside, count }
    }

    fn map(ranges: &[IdRange]) -> Result<IdMap, Failure> {
        IdMap::checked("users", ranges)
    }

    #[test]
    fn ids_are_translated_both_ways() {
        let map = map(&[range(0, 100_000, 1000), range(1000, 500_000, 10)]).unwrap();
        for (inside, outside) in [(0, 100_000), (999, 100_999), (1000, 500_000), (1009, 500_009)] {
            assert_eq!((map.outside(inside), map.inside(outside)), (Some(outside), inside));
        }
        assert_eq!((map.outside(1010), map.inside(0), map.root()), (None, NOBODY, 100_000));
        assert_eq!(map.lines(), "0 100000 1000\n1000 500000 10\n");
        assert!(map.lines_for_disks().ends_with("\n4294967294 0 1\n"));
    }

    #[test]
    fn without_a_map_ids_are_the_same() {
        let same = IdMap::default();
        assert_eq!((same.outside(7), same.inside(7), same.root()), (Some(7), 7, 0));
        assert!(!IdMaps::default().is_mapped());
    }

    #[test]
    fn what_is_no_map_is_refused() {
        for wrong in [
            &[range(1, 100_000, 10)][..],
            &[range(0, 0, 10)],
            &[range(0, 100_000, 0)],
            &[range(0, u32::MAX - 5, 10)],
            &[range(0, 100_000, 10), range(10, 0, 1)],
            &vec![range(0, 100_000, 1); 341],
        ] {
            assert!(map(wrong).is_err(), "{wrong:?}");
        }
        let half = StartContainer { users: vec![range(0, 1, 1)], ..StartContainer::default() };
        assert!(IdMaps::of(&half).is_err());
    }
}
