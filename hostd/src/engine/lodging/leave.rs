//! Going from another's machine: nothing of the container is there any more, and its room is free.

use std::sync::Arc;
use std::time::Duration;

use super::super::Shared;
use super::super::container::Live;
use super::super::error::chain;
use super::super::files::{IdleMachine, Unwritten};
use super::super::identity::ContainerId;
use super::super::mounts::MountedVolumes;
use super::super::readers::Readers;
use super::{Home, Lodging, Place, shares_of};
use crate::agent_client::{AgentClient, CallError, within};

/// Killing what is left, writing a file system back and unmounting it.
const LEAVE_DEADLINE: Duration = Duration::from_secs(60);

/// What is left of a run when its process has ended.
pub(in crate::engine) enum Remains {
    Machine(Box<IdleMachine>),
    Lodging(Leaving),
}

/// A container whose process has ended in another's machine.
pub(in crate::engine) struct Leaving {
    pub(in crate::engine) lodging: Lodging,
    pub(in crate::engine) container: ContainerId,
    /// Of its files.
    pub(in crate::engine) readers: Arc<Readers>,
    /// In use until it is gone.
    pub(in crate::engine) volumes: Arc<MountedVolumes>,
}

impl Remains {
    /// Ends it once nobody reads the container's files any more.
    pub(in crate::engine) async fn end(self, unwritten: Unwritten) {
        match self {
            Self::Machine(machine) => machine.end(unwritten).await,
            Self::Lodging(leaving) => leaving.end().await,
        }
    }
}

impl Leaving {
    /// Goes once nobody reads its files any more.
    async fn end(self) {
        self.readers.close(Duration::ZERO).await;
        self.lodging.leave(&self.container).await;
        drop(self.volumes);
    }
}

impl Lodging {
    /// Ends whatever there is of the container in the machine, and takes its disks away: from here on nobody but the next
    /// run writes to them.
    pub(in crate::engine) async fn leave(self, container: &ContainerId) {
        let home = Arc::clone(self.home());
        let removed = self.remove(container).await;
        unshare(&home, container).await;
        let Some(spare_disk) = &home.spare_disk else { return };
        match (removed, spare_disk.unbind(self.room).await) {
            (Ok(()), Ok(())) => home.free_room(self.room),
            // The machine is gone, and everything in it.
            (_, _) if home.has_ended() => {}
            (Err(error), Ok(())) => {
                let error = chain(&error);
                tracing::warn!(container = %container, error, "the machine that it was in does not let go of it");
                self.keep_room();
            }
            (_, Err(error)) => {
                let error = chain(&error);
                tracing::error!(container = %container, error, "the machine that it was in keeps its disks; ending it");
                self.companion.killer.kill();
            }
        }
    }

    /// Nothing of the container's has been there.
    pub(in crate::engine) fn give_up(self) {
        self.home().free_room(self.room);
    }

    async fn remove(&self, container: &ContainerId) -> Result<(), CallError> {
        let removing = async {
            let agent = AgentClient::connect(self.vsock_path()).await?;
            agent.remove_container(container.as_str()).await
        };
        within(self.pace().deadline(LEAVE_DEADLINE), "its disks to be unmounted", removing).await
    }
}

/// The guest has let go of the container's shares, or is not to have them any more all the same.
async fn unshare(home: &Home, container: &ContainerId) {
    let Some(shares) = home.shares.as_ref().filter(|_| !home.has_ended()) else { return };
    if let Err(error) = shares.remove_all(&shares_of(container)).await
        && !home.has_ended()
    {
        let error = chain(&error);
        tracing::warn!(container = %container, error, "the machine that it was in keeps its shares");
    }
}

/// Removes from the machines that this daemon took over what an earlier one was about to remove there, or to start. Who
/// runs there has its room already.
pub(in crate::engine) async fn sweep(shared: &Shared, left: &[(ContainerId, Place)]) {
    for (container, place) in left {
        let Some(live) = live_in(shared, place) else { continue };
        let removing = live.agent.remove_container(container.as_str());
        let removed = within(live.pace.deadline(LEAVE_DEADLINE), "its disks to be unmounted", removing).await;
        if let Err(error) = removed {
            let error = chain(&error);
            tracing::warn!(container = %container, error, "cannot remove what is left of a container in a machine");
        }
        unshare(&live.home, container).await;
        let Some(spare_disk) = &live.home.spare_disk else { continue };
        for room in live.home.free_rooms() {
            if let Err(error) = spare_disk.unbind(room).await {
                let error = chain(&error);
                tracing::error!(container = %container, error, "a machine keeps its disks; ending it");
                live.killer.kill();
            }
        }
    }
}

/// The run of the owner's in whose machine that place is.
pub(super) fn live_in(shared: &Shared, place: &Place) -> Option<Arc<Live>> {
    let owner = shared.containers().get(&place.owner).cloned()?;
    owner.current().live.filter(|live| live.home.is(place))
}
