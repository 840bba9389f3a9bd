//! A machine as a home for lodgers: its rooms, and how they hear of its end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::super::Shared;
use super::super::container::Live;
use super::super::error::EngineError;
use super::super::identity::ContainerId;
use super::super::readers::{Readers, Reading};
use super::leave::live_in;
use super::{Company, Place};
use crate::machine::{Machine, ROOMS, Shares, SpareDisk};

/// Longer than it takes to go when all is well.
const LEAVING_DEADLINE: Duration = Duration::from_secs(60);

/// Who has a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Free,
    Taken,
    /// Whoever had it is going.
    Leaving,
}

/// The machine of one run of a container, as those in it know it.
#[derive(Debug)]
pub(in crate::engine) struct Home {
    pub(in crate::engine) owner: ContainerId,
    since: Timestamp,
    pub(super) vsock_path: PathBuf,
    /// None if the machine had no place for it, or is of a daemon that knew none.
    pub(super) spare_disk: Option<SpareDisk>,
    /// None if the machine was started before anybody was known to want any.
    pub(super) shares: Option<Arc<Shares>>,
    rooms: watch::Sender<[Use; ROOMS]>,
    /// Of the owner's files; the machine does not end while there are any.
    readers: Arc<Readers>,
    /// The owner's run is over.
    ended: CancellationToken,
}

/// A container's place in a home; the machine stays until it is given back.
#[derive(Debug)]
pub(in crate::engine) struct Lodging {
    /// Whose namespace it shares; in the same machine as the owner.
    pub(super) companion: Arc<Live>,
    pub(super) joined: Vec<berth_protocol::agent::JoinedNamespace>,
    pub(super) room: usize,
    _staying: Reading,
}

impl Home {
    pub(in crate::engine) fn new(
        owner: ContainerId,
        since: Timestamp,
        machine: &Machine,
        readers: Arc<Readers>,
    ) -> Arc<Self> {
        Arc::new(Self {
            owner,
            since,
            vsock_path: machine.vsock_path(),
            spare_disk: machine.spare_disk(),
            shares: machine.shares().cloned(),
            rooms: watch::Sender::new([Use::Free; ROOMS]),
            readers,
            ended: CancellationToken::new(),
        })
    }

    /// The owner's run is over: all lodgers go.
    pub(in crate::engine) fn end(&self) {
        self.ended.cancel();
    }

    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    pub(super) fn is(&self, place: &Place) -> bool {
        self.owner == place.owner && self.since == place.since
    }

    fn take_room(&self, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        let mut found = None;
        self.rooms.send_if_modified(|rooms| {
            found = rooms.iter().enumerate().position(|(room, state)| *state == Use::Free && is_it(room));
            if let Some(room) = found {
                rooms[room] = Use::Taken;
            }
            found.is_some()
        });
        found
    }

    /// Waits while all rooms are taken, and one of them is about to be free.
    async fn wait_for_room(&self) {
        let mut rooms = self.rooms.subscribe();
        let settled = rooms.wait_for(|rooms| rooms.contains(&Use::Free) || !rooms.contains(&Use::Leaving));
        // Whoever takes that long to leave keeps its room.
        drop(timeout(LEAVING_DEADLINE, settled).await);
    }

    fn set_room(&self, room: usize, to: Use) {
        self.rooms.send_modify(|rooms| {
            if let Some(state) = rooms.get_mut(room) {
                *state = to;
            }
        });
    }

    /// Nothing of a lodger's is bound there any more.
    pub(super) fn free_room(&self, room: usize) {
        self.set_room(room, Use::Free);
    }

    pub(super) fn free_rooms(&self) -> Vec<usize> {
        let rooms = self.rooms.borrow();
        rooms.iter().enumerate().filter(|(_, state)| **state == Use::Free).map(|(room, _)| room).collect()
    }
}

impl Lodging {
    /// A room for one more.
    ///
    /// # Errors
    /// The machine has none, or ends.
    pub(in crate::engine) async fn take(company: Company) -> Result<Self, EngineError> {
        let home = Arc::clone(&company.companion.home);
        let owner = &home.owner;
        if home.spare_disk.is_none() {
            return Err(EngineError::conflict(format!(
                "the machine of container {owner} has no room for further containers: all its places for devices are \
                 taken, or it was started by an earlier version; restart it with fewer networks, or a newer one"
            )));
        }
        home.wait_for_room().await;
        Self::stay(company, |_any| true)?.ok_or_else(|| {
            EngineError::conflict(format!(
                "the machine of container {owner} has no room for further containers: {ROOMS} share it already"
            ))
        })
    }

    /// The room that an earlier daemon gave.
    pub(in crate::engine) fn take_again(shared: &Shared, place: &Place) -> Option<Self> {
        let company = Company { companion: live_in(shared, place)?, joined: Vec::new() };
        Self::stay(company, |room| room == place.room).ok().flatten()
    }

    fn stay(company: Company, room: impl Fn(usize) -> bool) -> Result<Option<Self>, EngineError> {
        let Company { companion, joined } = company;
        let home = &companion.home;
        let gone =
            || EngineError::conflict(format!("cannot join a non running container: {} ends", home.owner));
        let staying = home.readers.begin().ok_or_else(gone)?;
        let Some(room) = home.take_room(room) else { return Ok(None) };
        if home.has_ended() {
            home.free_room(room);
            return Err(gone());
        }
        Ok(Some(Self { joined, room, _staying: staying, companion }))
    }

    pub(in crate::engine) fn home(&self) -> &Arc<Home> {
        &self.companion.home
    }

    pub(in crate::engine) fn place(&self) -> Place {
        let home = self.home();
        Place { owner: home.owner.clone(), since: home.since, room: self.room }
    }

    /// The container's run is over; others that want a room may wait for this one.
    pub(in crate::engine) fn prepare_to_leave(&self) {
        self.home().set_room(self.room, Use::Leaving);
    }

    /// It did not go in order: nobody is to wait for its room.
    pub(super) fn keep_room(&self) {
        self.home().set_room(self.room, Use::Taken);
    }

    /// Completes when the owner's run is over.
    pub(in crate::engine) async fn home_ended(&self) {
        self.home().ended().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> Arc<Home> {
        Arc::new(Home {
            owner: ContainerId::random(),
            since: Timestamp::UNIX_EPOCH,
            vsock_path: PathBuf::new(),
            spare_disk: None,
            shares: None,
            rooms: watch::Sender::new([Use::Free; ROOMS]),
            readers: Readers::new(),
            ended: CancellationToken::new(),
        })
    }

    #[test]
    fn a_room_is_one_containers_until_it_is_free() {
        let home = home();
        for room in 0..ROOMS {
            assert_eq!(home.take_room(|_any| true), Some(room));
        }
        assert_eq!(home.take_room(|_any| true), None);
        home.set_room(3, Use::Leaving);
        assert_eq!((home.take_room(|_any| true), home.free_rooms()), (None, vec![]));
        home.free_room(3);
        assert_eq!(home.free_rooms(), [3]);
        assert_eq!((home.take_room(|room| room == 2), home.take_room(|room| room == 3)), (None, Some(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_waits_for_who_goes_and_for_nobody_else() {
        let home = home();
        for _room in 0..ROOMS {
            home.take_room(|_any| true);
        }
        let before = tokio::time::Instant::now();
        home.wait_for_room().await;
        assert_eq!(before.elapsed(), Duration::ZERO, "nobody goes");
        home.set_room(3, Use::Leaving);
        let waiting = tokio::spawn({
            let home = Arc::clone(&home);
            async move { home.wait_for_room().await }
        });
        tokio::time::sleep(LEAVING_DEADLINE / 2).await;
        assert!(!waiting.is_finished());
        home.free_room(3);
        waiting.await.unwrap();
        home.take_room(|_any| true);
        home.set_room(4, Use::Leaving);
        home.wait_for_room().await;
        assert_eq!(before.elapsed(), LEAVING_DEADLINE / 2 + LEAVING_DEADLINE, "it does not go");
    }

    #[test]
    fn a_place_is_in_one_run_of_its_owner() {
        let home = home();
        let place = Place { owner: home.owner.clone(), since: home.since, room: 0 };
        assert!(home.is(&place));
        assert!(!home.is(&Place { since: Timestamp::now(), ..place.clone() }));
        assert!(!home.is(&Place { owner: ContainerId::random(), ..place }));
    }
}
