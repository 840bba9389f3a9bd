//! What comes before a run: its files, its machine, and its program in it.

use std::sync::Arc;
use std::time::Duration;

use berth_protocol::agent::Ready;
use jiff::Timestamp;

use super::super::Shared;
use super::super::boot::{boot_machine, prepare_all_disks};
use super::super::container::{Container, StartError};
use super::super::error::{EngineError, ErrorKind};
use super::super::launch::{launch_request, start_error};
use super::super::lodging::expects_shares;
use super::super::mounts::{BoundSocket, MachineNames, MountedVolumes, Sources, open_sources};
use super::super::names::NameFiles;
use super::super::networks::Endpoint;
use super::super::state::Run;
use super::super::timeline::{StartClock, Timeline};
use super::end::reason_of_death;
use super::log::RunLog;
use super::{ActiveRun, Dwelling};
use crate::agent_client::{AgentClient, CallError, within};
use crate::machine::{Disk, Machine, NewShare};

/// Starting a process in a booted machine; generous, because many starts at once load a host.
pub(in crate::engine) const LAUNCH_DEADLINE: Duration = Duration::from_secs(120);

pub(in crate::engine) struct Prepared {
    pub(in crate::engine) clock: StartClock,
    pub(in crate::engine) parts: HostParts,
}

/// What of the host's a run is made of.
pub(in crate::engine) struct HostParts {
    pub(in crate::engine) log: RunLog,
    pub(in crate::engine) disks: Vec<Disk>,
    pub(in crate::engine) shares: Vec<NewShare>,
    pub(in crate::engine) sockets: Vec<BoundSocket>,
    pub(in crate::engine) names: MachineNames,
}

pub(super) struct Booted {
    clock: StartClock,
    log: RunLog,
    names: MachineNames,
    machine: Machine,
    ready: Ready,
    sockets: Vec<BoundSocket>,
}

impl Prepared {
    pub(in crate::engine) async fn new(
        shared: &Arc<Shared>,
        container: &Arc<Container>,
        volumes: &Arc<MountedVolumes>,
        share_prefix: String,
    ) -> Result<Self, StartError> {
        let clock = StartClock::start();
        let (shared, container, volumes) = (Arc::clone(shared), Arc::clone(container), Arc::clone(volumes));
        let prepare =
            tokio::task::spawn_blocking(move || prepare_files(&shared, &container, &volumes, share_prefix));
        let parts = prepare.await.map_err(|error| failed("prepare its disks", &error))??;
        Ok(Self { clock, parts })
    }

    pub(super) async fn boot(
        mut self,
        shared: &Arc<Shared>,
        container: &Container,
        endpoints: &[Endpoint],
    ) -> Result<Booted, StartError> {
        self.clock.image_ready();
        let HostParts { log, disks, shares, sockets, names } = self.parts;
        let is_wanted = !shares.is_empty() || expects_shares(shared, container);
        let shares = is_wanted.then_some(shares);
        let (machine, ready) = boot_machine(shared, container, disks, endpoints, shares)
            .await
            .map_err(|error| failed("start its machine", &error))?;
        self.clock.agent_ready();
        Ok(Booted { clock: self.clock, log, names, machine, ready, sockets })
    }
}

impl Booted {
    pub(super) async fn launch(
        self,
        shared: &Shared,
        container: &Container,
        endpoints: &[Endpoint],
    ) -> Result<(ActiveRun, Timeline), StartError> {
        let user_namespace = shared.settings.user_namespace.as_ref();
        let request = NameFiles::of(shared, container, endpoints).and_then(|names| {
            launch_request(container, user_namespace, endpoints, &self.sockets, names, &self.names)
        });
        let request = match request {
            Ok(request) => request,
            Err(error) => {
                self.machine.end().await;
                return Err(StartError::Engine(error));
            }
        };
        let launch = async {
            let agent = AgentClient::connect(&self.machine.vsock_path()).await?;
            agent.configure().await?;
            let started = agent.start_container(request).await?;
            Ok((agent, started))
        };
        let launch_deadline = self.machine.pace().deadline(LAUNCH_DEADLINE);
        let outcome = tokio::select! {
            outcome = within(launch_deadline, "the container's program to start", launch) => outcome,
            () = self.machine.ended() => Err(CallError::Lost),
        };
        match outcome {
            Ok((agent, started)) => {
                let run = Run { pid: started.pid, started_at: Timestamp::now() };
                let timeline = self.clock.container_started(&self.ready);
                let dwelling = Dwelling::Own(Box::new(self.machine));
                let active = ActiveRun::new(dwelling, agent, &container.id, run, self.log);
                Ok((active.with_sockets(self.sockets), timeline))
            }
            Err(error @ CallError::Agent { .. }) => {
                self.machine.end().await;
                Err(start_error(&error))
            }
            Err(error) => {
                let reason = reason_of_death(self.machine, &error).await;
                Err(StartError::Engine(EngineError::new(ErrorKind::Internal, reason)))
            }
        }
    }
}

/// What the container has on the host. Blocks.
fn prepare_files(
    shared: &Shared,
    container: &Container,
    volumes: &MountedVolumes,
    share_prefix: String,
) -> Result<HostParts, StartError> {
    let sources = open_sources(&container.mounts, volumes, &share_prefix).map_err(StartError::Engine)?;
    let Sources { shares, sockets } = sources;
    let (disks, images) = prepare_all_disks(shared, container).map_err(|error| {
        StartError::Engine(EngineError {
            message: format!("cannot start container: {}", error.message),
            ..error
        })
    })?;
    let log = RunLog::open(container.log.clone(), None, container.log_attributes())
        .map_err(|error| failed("open its log", &error))?;
    Ok(HostParts { log, disks, shares, sockets, names: MachineNames { share_prefix, images } })
}

pub(in crate::engine) fn failed(step: &str, error: &dyn std::error::Error) -> StartError {
    StartError::Engine(EngineError::internal(&format!("cannot start container: cannot {step}"), error))
}
