//! Removing a container and everything that is its own.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::container::{Command, Container};
use super::error::{EngineError, ErrorKind};
use super::events::{Actor, EventKind};
use super::identity::ContainerId;
use super::state::ContainerState;
use super::stop::end_for_good;
use super::view::ContainerView;
use super::{Engine, Shared};

/// How long a daemon that stops waits for machines that it is still ending and for what it is still deleting; the next
/// one does the rest.
const LAST_ENDINGS_DEADLINE: Duration = Duration::from_secs(20);

/// How often a container that somebody starts again and again is ended before force is given up.
const FORCED_ATTEMPTS: u32 = 5;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Kill it first if it runs.
    pub force: bool,
    /// With the volumes that it has and nobody named.
    pub volumes: bool,
}

/// What a prune removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrunedContainers {
    pub ids: Vec<ContainerId>,
    /// What they had written to the host's disk.
    pub reclaimed_bytes: u64,
}

impl Engine {
    /// Removes all containers that have ended or never ran, and that fit.
    ///
    /// # Errors
    /// A container that cannot be removed. One that is started or removed meanwhile is not one of them.
    pub async fn prune_containers(
        &self,
        fits: impl Fn(&ContainerView) -> bool,
    ) -> Result<PrunedContainers, EngineError> {
        let is_idle = |state: &ContainerState| {
            matches!(state, ContainerState::Created { .. } | ContainerState::Exited(_))
        };
        let mut pruned = PrunedContainers::default();
        for view in self.containers().into_iter().filter(|view| is_idle(&view.state) && fits(view)) {
            let written_bytes = self.written_bytes(&view.id);
            match self.remove(view.id.as_str(), RemoveOptions::default()).await {
                Ok(()) => {
                    pruned.reclaimed_bytes += written_bytes;
                    pruned.ids.push(view.id);
                }
                Err(error) if matches!(error.kind, ErrorKind::Conflict | ErrorKind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        let reclaimed = ("reclaimed".to_owned(), pruned.reclaimed_bytes.to_string());
        let actor = Actor { id: String::new(), attributes: [reclaimed].into() };
        self.events().publish(EventKind::Container, "prune", actor);
        Ok(pruned)
    }

    /// Removes a container.
    ///
    /// # Errors
    /// No such container; one that runs, unless forced; one that is being removed already.
    pub async fn remove(&self, name: &str, how: RemoveOptions) -> Result<(), EngineError> {
        let container = self.find(name)?;
        let removing = tokio::spawn(async move { remove(&container, how).await });
        removing.await.map_err(|error| EngineError::internal("cannot remove container", &error))?
    }

    /// To be called when nobody asks for anything any more: completes when no machine is ending any more, and removed
    /// containers have left nothing.
    pub async fn finish_endings(&self) {
        self.shared.endings.close();
        if timeout(LAST_ENDINGS_DEADLINE, self.shared.endings.wait()).await.is_err() {
            tracing::warn!("not all that ended or was removed is gone; the next start does the rest");
        }
    }
}

async fn remove(container: &Arc<Container>, how: RemoveOptions) -> Result<(), EngineError> {
    for _ in 1..FORCED_ATTEMPTS {
        match try_remove(container, how).await {
            // Somebody has started it between its end and its removal.
            Err(error) if how.force && error.kind == ErrorKind::Conflict && is_up(container) => {}
            outcome => return outcome,
        }
    }
    try_remove(container, how).await
}

fn is_up(container: &Container) -> bool {
    let state = container.current().state;
    matches!(state, ContainerState::Starting { .. }) || state.is_up()
}

async fn try_remove(container: &Arc<Container>, how: RemoveOptions) -> Result<(), EngineError> {
    let status = container.settled().await;
    match (&status.state, &status.live) {
        (ContainerState::Removing, _) => {
            let message = format!("removal of container {} is already in progress", container.name());
            return Err(EngineError::conflict(message));
        }
        (ContainerState::Paused(_), _) if !how.force => {
            let message = format!(
                "cannot remove container \"/{}\": container is paused and must be unpaused first",
                container.name()
            );
            return Err(EngineError::conflict(message));
        }
        (state, _) if state.is_up() && !how.force => {
            return Err(EngineError::conflict(format!(
                "cannot remove container \"/{}\": container is {}: stop the container before removing or force remove",
                container.name(),
                state.name()
            )));
        }
        (state, _) if state.is_up() => end_for_good(container).await?,
        _ => {}
    }
    let removed = container.command(|reply| Command::Remove { volumes: how.volumes, reply }).await;
    match removed {
        Ok(outcome) => outcome,
        // With `--rm` its end was its removal.
        Err(_gone) if how.force => Ok(()),
        Err(gone) => Err(gone),
    }
}

impl Shared {
    /// Deletes what a container that no record names any more has left, once its machine has ended. Nobody waits for
    /// it: should the daemon die before, the next one finds what no record names.
    pub(super) fn delete_remains_later(self: &Arc<Self>, id: ContainerId, teardown: Option<JoinHandle<()>>) {
        let shared = Arc::clone(self);
        self.endings.spawn(async move {
            if let Some(teardown) = teardown {
                // If it panicked, clearing the machine's directory does the rest.
                let _panicked = teardown.await;
            }
            if let Err(error) = shared.delete_remains(&id).await {
                tracing::warn!(container = %id, error = error.message, "cannot delete what a container left");
            }
        });
    }

    /// Deletes what a container that does not run has on disk; may be repeated.
    pub(super) async fn delete_remains(self: &Arc<Self>, id: &ContainerId) -> Result<(), EngineError> {
        self.clear_machine(id).await;
        let directory = self.container_directory(id);
        match tokio::fs::remove_dir_all(&directory).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(EngineError::internal(&format!("cannot remove {}", directory.display()), &error))
            }
            _ => Ok(()),
        }
    }

    /// Ends and clears away whatever machine bears that container's id.
    pub(super) async fn clear_machine(self: &Arc<Self>, id: &ContainerId) {
        self.clear_machine_of_id(id.machine_id().to_owned()).await;
    }

    pub(super) async fn clear_machine_of_id(self: &Arc<Self>, machine_id: String) {
        let shared = Arc::clone(self);
        let clearing = tokio::task::spawn_blocking(move || {
            if let Err(error) = shared.machines.clear(&machine_id) {
                tracing::warn!(machine = machine_id, %error, "cannot clear a machine away");
            }
        });
        let _panicked = clearing.await;
    }
}
