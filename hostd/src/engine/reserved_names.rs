//! Names of containers that are being made: nobody else gets them, and nobody finds a container by them yet.
//!
//! A container is there to be found once its record is kept. Who could rename or remove it before would have its record
//! written behind that, with the old name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::identity::ContainerId;

#[derive(Clone, Debug, Default)]
pub(super) struct ReservedNames(Arc<Mutex<HashMap<String, ContainerId>>>);

/// Given back when it is dropped.
#[derive(Debug)]
pub(super) struct ReservedName {
    names: ReservedNames,
    name: String,
}

impl ReservedNames {
    /// Whose it is to be.
    pub(super) fn holder(&self, name: &str) -> Option<ContainerId> {
        self.lock().get(name).cloned()
    }

    /// To be called by who has seen, and keeps others from changing, that nobody has it.
    pub(super) fn reserve(&self, name: &str, id: &ContainerId) -> ReservedName {
        self.lock().insert(name.to_owned(), id.clone());
        ReservedName { names: self.clone(), name: name.to_owned() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, ContainerId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ReservedName {
    fn drop(&mut self) {
        self.names.lock().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_reserved_until_it_is_given_back() {
        let (names, id) = (ReservedNames::default(), ContainerId::random());
        let reserved = names.reserve("red", &id);
        assert_eq!((names.holder("red"), names.holder("green")), (Some(id), None));
        drop(reserved);
        assert_eq!(names.holder("red"), None);
    }
}
