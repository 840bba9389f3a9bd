//! Two pushes that send the same blob to the same repository do it one after the other: the second finds it there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

use crate::image::{Digest, Repository};

/// A blob at a place.
type Place = (Repository, Digest);

/// Which blobs are being sent where, over all pushes.
#[derive(Debug, Default)]
pub(in crate::engine) struct Turns {
    under_way: Mutex<HashMap<Place, Arc<tokio::sync::Mutex<()>>>>,
}

/// The right to send one blob to one place. The next one's turn comes when it is dropped.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    place: Place,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    pub(super) async fn take(&self, repository: &Repository, digest: Digest) -> Turn<'_> {
        let place = (repository.clone(), digest);
        let lock = Arc::clone(self.under_way().entry(place.clone()).or_default());
        // Made before waiting: one that stops waiting tidies up as well.
        let mut turn = Turn { turns: self, place, guard: None };
        turn.guard = Some(lock.lock_owned().await);
        turn
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.under_way().len()
    }

    fn under_way(&self) -> std::sync::MutexGuard<'_, HashMap<Place, Arc<tokio::sync::Mutex<()>>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut under_way = self.turns.under_way();
        // Gives its own handle back first, so that the count tells who else is there.
        self.guard = None;
        if under_way.get(&self.place).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            under_way.remove(&self.place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_blob_goes_to_one_place_once_at_a_time_and_nothing_is_left() {
        let (turns, digest) = (Turns::default(), Digest::of(b"x"));
        let (here, there) = (Repository::parse("r:1/a").unwrap(), Repository::parse("r:1/b").unwrap());
        let first = turns.take(&here, digest).await;
        let _elsewhere = turns.take(&there, digest).await;
        let mut second = Box::pin(turns.take(&here, digest));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        let second = second.await;
        let mut third = Box::pin(turns.take(&here, digest));
        assert!(futures_util::poll!(&mut third).is_pending());
        drop(third);
        drop(second);
        assert_eq!(turns.len(), 1, "only what goes elsewhere");
    }
}
