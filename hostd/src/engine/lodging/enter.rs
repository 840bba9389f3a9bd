//! Coming into another's machine: the disks bound, the shares added, the agent asked, the program started.

use std::path::Path;
use std::sync::Arc;

use berth_protocol::agent::{Ready, StartContainer};
use jiff::Timestamp;

use super::super::Shared;
use super::super::container::{Container, StartError};
use super::super::error::{EngineError, chain};
use super::super::launch::{launch_request, start_error};
use super::super::mounts::{BoundSocket, MountedVolumes};
use super::super::names::NameFiles;
use super::super::run::{HostParts, LAUNCH_DEADLINE, Prepared, RunLog, failed};
use super::super::state::Run;
use super::super::timeline::Timeline;
use super::{Lodging, share_prefix};
use crate::agent_client::{AgentClient, CallError, within};
use crate::machine::{BoundPart, Disk, MachineError, MachineKiller, NewShare, Pace, further_number};

/// What has begun to run in another's machine.
pub(in crate::engine) struct Launched {
    pub(in crate::engine) agent: AgentClient,
    pub(in crate::engine) run: Run,
    pub(in crate::engine) log: RunLog,
    pub(in crate::engine) sockets: Vec<BoundSocket>,
}

impl Lodging {
    /// Puts the container's disks into its room.
    ///
    /// # Errors
    /// The machine does not take them.
    async fn bind(&self, disks: &[Disk; 2]) -> Result<[BoundPart; 2], MachineError> {
        let spare_disk = self.home().spare_disk.as_ref().expect("who has a room has a part of the disk");
        spare_disk.bind(self.room, disks).await
    }

    /// What the agent is asked for a container of its own machine, as it is asked for one that shares it.
    fn request(&self, request: StartContainer, [lower, scratch]: [BoundPart; 2]) -> StartContainer {
        StartContainer {
            image_disk: lower.disk,
            scratch_disk: scratch.disk,
            scratch_part: Some(scratch.part),
            joined_namespaces: self.joined.clone(),
            ..request
        }
    }

    /// The path that the machine's agent is reached through.
    pub(in crate::engine) fn vsock_path(&self) -> &Path {
        &self.home().vsock_path
    }

    pub(in crate::engine) fn pace(&self) -> Pace {
        self.companion.pace
    }

    /// Of the machine, with all that is in it.
    pub(in crate::engine) fn killer(&self) -> MachineKiller {
        self.companion.killer.clone()
    }

    /// Why a container's run there is over, if its process did not say so.
    pub(in crate::engine) fn reason_of_end(&self, error: &CallError) -> String {
        let home = self.home();
        if home.has_ended() {
            return format!("container {}, whose machine it shared, has ended", home.owner);
        }
        format!("the machine of container {}, which it shared, is lost: {}", home.owner, chain(error))
    }

    /// Gives the machine what the container has of the host's.
    ///
    /// # Errors
    /// It has no shares at all, or the host refuses.
    async fn share(&self, new: Vec<NewShare>) -> Result<(), EngineError> {
        if new.is_empty() {
            return Ok(());
        }
        let owner = &self.home().owner;
        let shares = self.home().shares.as_ref().ok_or_else(|| {
            EngineError::conflict(format!(
                "the machine of container {owner} has no shares, since it was started before there was a container with \
                 volumes or binds for it: restart {owner}, then start this one"
            ))
        })?;
        for share in new {
            shares.add(share).await.map_err(|error| {
                EngineError::internal(&format!("cannot share with the machine of container {owner}"), &error)
            })?;
        }
        Ok(())
    }

    /// # Errors
    /// Why the program could not be started. [`Self::leave`] clears away what is there then.
    pub(in crate::engine) async fn launch(
        &self,
        shared: &Arc<Shared>,
        container: &Arc<Container>,
        volumes: &Arc<MountedVolumes>,
    ) -> Result<(Launched, Timeline), StartError> {
        let prepared =
            Prepared::new(shared, container, volumes, share_prefix(&container.id, rand::random())).await?;
        let Prepared { mut clock, parts } = prepared;
        let HostParts { log, disks, shares, sockets, names: mut in_machine } = parts;
        self.share(shares).await.map_err(StartError::Engine)?;
        clock.image_ready();
        let disks = disks.try_into().expect("an image disk and a scratch disk");
        let parts = self.bind(&disks).await.map_err(|error| failed("bind its disks", &error))?;
        in_machine.images = in_machine.images.on(&parts[0].part, further_number(self.room));
        clock.agent_ready();
        let user_namespace = shared.settings.user_namespace.as_ref();
        let request = NameFiles::of(shared, container, &[])
            .and_then(|names| launch_request(container, user_namespace, &[], &sockets, names, &in_machine));
        let request = self.request(request.map_err(StartError::Engine)?, parts);
        let launch = async {
            let agent = AgentClient::connect(self.vsock_path()).await?;
            let started = agent.start_container(request).await?;
            Ok((agent, started))
        };
        let deadline = self.pace().deadline(LAUNCH_DEADLINE);
        let launched = tokio::select! {
            launched = within(deadline, "the container's program to start", launch) => launched,
            () = self.home_ended() => Err(CallError::Lost),
        };
        match launched {
            Ok((agent, started)) => {
                let run = Run { pid: started.pid, started_at: Timestamp::now() };
                let timeline = clock.container_started(&Ready::default());
                Ok((Launched { agent, run, log, sockets }, timeline))
            }
            Err(error @ CallError::Agent { .. }) => Err(start_error(&error)),
            Err(error) => Err(StartError::Engine(EngineError::conflict(self.reason_of_end(&error)))),
        }
    }
}
