//! One run of a container, from nothing to a running process and to its end.
//!
//! ```text
//!  Prepared --boot--> Booted --launch--> ActiveRun --ended, finish--> Exit
//! ```
//! Each phase consumes the one before. A phase that fails releases what it holds: the machine is ended and its
//! directory removed, by the same code as after a run.

mod end;
mod log;
mod start;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_protocol::agent::ExitStatus;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::Shared;
use super::container::{Container, Live, StartError};
use super::files::IdleMachine;
use super::identity::ContainerId;
use super::limits::Limits;
use super::lodging::{Home, Launched, Leaving, Lodging, Remains};
use super::mounts::{BoundSocket, MountedVolumes};
use super::names::{self, NameServer};
use super::networks::{Endpoint, Joined};
use super::readers::Readers;
use super::share_watches;
use super::signal::Signal;
use super::sockets::{self, SocketServer};
use super::state::{Exit, Run};
use super::stdio::{EndOfInput, Plumbing, Pumps, SharedLog};
use super::timeline::Timeline;
use super::user_namespace::UserNamespace;
use crate::agent_client::{AgentClient, CallError, within};
use crate::logs::{LogFiles, LogWriter, RunInLog};
use crate::machine::{Machine, Pace};

pub(super) use end::exit_of_dead_machine;
use end::{exit_of, reason_of_death};
pub(super) use log::RunLog;
pub(super) use start::{HostParts, LAUNCH_DEADLINE, Prepared, failed};

/// An ended process's output is at most what the agent keeps of it; this bounds a machine that hangs while it sends.
const DRAIN_DEADLINE: Duration = Duration::from_secs(30);
/// A machine whose agent is gone is gone itself within moments, or it hangs.
const DEATH_DEADLINE: Duration = Duration::from_secs(5);
/// For an agent's first word to a new daemon; generous, because that one asks all of them at once.
const ADOPT_DEADLINE: Duration = Duration::from_secs(120);

/// How the first process ended; an error if nobody can tell any more.
pub(super) type RunEnd = Result<ExitStatus, CallError>;

/// A container that runs, with everything that has to be released when it ends.
pub(super) struct ActiveRun {
    container: ContainerId,
    pub(super) dwelling: Dwelling,
    pub(super) live: Arc<Live>,
    run: Run,
    log: Option<SharedLog>,
    log_files: Option<Arc<LogFiles>>,
    run_in_log: RunInLog,
    pumps: Option<Pumps>,
    waiting: JoinHandle<RunEnd>,
    _share_watches: Option<AbortOnDropHandle<()>>,
    /// Its places on networks.
    pub(super) joined: Option<Joined>,
    /// Answers what it asks for names.
    name_server: Option<NameServer>,
    /// Of the host's, that it has.
    sockets: Vec<BoundSocket>,
    /// Connects it to them.
    socket_server: Option<SocketServer>,
    /// In use for as long as its machine is there.
    volumes: Arc<MountedVolumes>,
}

/// Where it runs.
pub(super) enum Dwelling {
    Own(Box<Machine>),
    /// In another container's machine.
    Lodging(Lodging),
}

impl ActiveRun {
    /// Starts the container's program in a machine of its own.
    pub(super) async fn start(
        shared: &Arc<Shared>,
        container: &Arc<Container>,
    ) -> Result<(Self, Timeline), StartError> {
        // A host boots a few machines at a time faster than all at once; the others wait here, without a deadline.
        let _turn =
            shared.boots.acquire().await.map_err(|error| failed("wait for a turn to start", &error))?;
        let joined = shared.networks.join(container).await.map_err(StartError::Engine)?;
        match Self::start_joined(shared, container, joined.endpoints()).await {
            Ok((active, timeline)) => Ok((Self { joined: Some(joined), ..active }, timeline)),
            Err(error) => {
                // Before anybody starts it again and asks for the same.
                joined.leave().await;
                Err(error)
            }
        }
    }

    async fn start_joined(
        shared: &Arc<Shared>,
        container: &Arc<Container>,
        endpoints: &[Endpoint],
    ) -> Result<(Self, Timeline), StartError> {
        let volumes = shared.mount_volumes(&container.mounts).await.map_err(StartError::Engine)?;
        let volumes = Arc::new(volumes);
        let prepared = Prepared::new(shared, container, &volumes, String::new()).await?;
        let booted = prepared.boot(shared, container, endpoints).await?;
        let (active, timeline) = booted.launch(shared, container, endpoints).await?;
        Ok((Self { volumes, ..active }, timeline))
    }

    /// Starts the container's program in another's machine.
    pub(super) async fn start_in(
        lodging: Lodging,
        shared: &Arc<Shared>,
        container: &Arc<Container>,
    ) -> Result<(Self, Timeline), StartError> {
        let volumes = match shared.mount_volumes(&container.mounts).await {
            Ok(volumes) => Arc::new(volumes),
            Err(error) => {
                lodging.give_up();
                return Err(StartError::Engine(error));
            }
        };
        match lodging.launch(shared, container, &volumes).await {
            Ok((launched, timeline)) => {
                let (dwelling, Launched { agent, run, log, sockets }) =
                    (Dwelling::Lodging(lodging), launched);
                let active = Self::new(dwelling, agent, &container.id, run, log).with_sockets(sockets);
                Ok((Self { volumes, ..active }, timeline))
            }
            Err(error) => {
                lodging.leave(&container.id).await;
                Err(error)
            }
        }
    }

    /// The places on networks that an earlier daemon gave it.
    pub(super) fn rejoined(self, joined: Joined) -> Self {
        Self { joined: Some(joined), ..self }
    }

    /// The volumes that an earlier daemon gave it.
    pub(super) fn with_volumes(self, volumes: MountedVolumes) -> Self {
        Self { volumes: Arc::new(volumes), ..self }
    }

    /// The sockets of the host's that it has, each where it was when the run began.
    pub(super) fn with_sockets(self, sockets: Vec<BoundSocket>) -> Self {
        Self { sockets, ..self }
    }

    pub(super) fn sockets(&self) -> &[BoundSocket] {
        &self.sockets
    }

    /// What it has of networks.
    pub(super) fn endpoints(&self) -> Arc<[Endpoint]> {
        self.joined.iter().flat_map(|joined| joined.endpoints()).cloned().collect()
    }

    /// Takes over a run that an earlier daemon started.
    pub(super) async fn adopt(
        machine: Machine,
        container: &ContainerId,
        run: Run,
        log: RunLog,
    ) -> Result<Self, (Machine, CallError)> {
        match reconnect(&machine.vsock_path(), machine.pace()).await {
            Ok(agent) => Ok(Self::new(Dwelling::Own(Box::new(machine)), agent, container, run, log)),
            Err(error) => Err((machine, error)),
        }
    }

    /// The same of one in another's machine.
    pub(super) async fn adopt_in(
        lodging: Lodging,
        container: &ContainerId,
        run: Run,
        log: RunLog,
    ) -> Result<Self, (Lodging, CallError)> {
        match reconnect(lodging.vsock_path(), lodging.pace()).await {
            Ok(agent) => Ok(Self::new(Dwelling::Lodging(lodging), agent, container, run, log)),
            Err(error) => Err((lodging, error)),
        }
    }

    fn new(dwelling: Dwelling, agent: AgentClient, container: &ContainerId, run: Run, log: RunLog) -> Self {
        let agent = Arc::new(agent);
        let (waiting_agent, process_id) = (Arc::clone(&agent), container.to_string());
        let waiting = tokio::spawn(async move { waiting_agent.wait(&process_id).await });
        let readers = Readers::new();
        let (killer, pace, home, share_watches) = match &dwelling {
            Dwelling::Own(machine) => {
                let home = Home::new(container.clone(), run.started_at, machine, Arc::clone(&readers));
                (machine.killer(), machine.pace(), home, share_watches::begin(machine, &agent))
            }
            // Its machine tells its owner's run what is watched.
            Dwelling::Lodging(lodging) => {
                (lodging.killer(), lodging.pace(), Arc::clone(lodging.home()), None)
            }
        };
        let live = Arc::new(Live { agent, killer, pace, log_grown: log.grown, readers, home });
        let run_in_log = log.writer.as_ref().map(LogWriter::run).unwrap_or_default();
        let shared_log = log.writer.map(|writer| Arc::new(Mutex::new(writer)));
        Self {
            container: container.clone(),
            dwelling,
            live,
            run,
            log: shared_log,
            log_files: log.files,
            run_in_log,
            pumps: None,
            waiting,
            _share_watches: share_watches,
            joined: None,
            name_server: None,
            sockets: Vec::new(),
            socket_server: None,
            volumes: Arc::default(),
        }
    }

    /// Gives its machine the share of the host that the limits say. Another's stays as it is.
    pub(super) fn share_host(&self, limits: &Limits) -> std::io::Result<()> {
        match &self.dwelling {
            Dwelling::Own(machine) => machine.set_share(&limits.host_share(None)),
            Dwelling::Lodging(_) => Ok(()),
        }
    }

    pub(super) fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live)
    }

    pub(super) fn run(&self) -> Run {
        self.run.clone()
    }

    pub(super) fn run_in_log(&self) -> RunInLog {
        self.run_in_log
    }

    pub(super) fn log_files(&self) -> Option<Arc<LogFiles>> {
        self.log_files.clone()
    }

    /// Lets the process's streams flow.
    pub(super) fn connect_streams(&mut self, container: &Container) {
        let stdio = container.spec().stdio;
        let end = if stdio.stdin_once { EndOfInput::Closes } else { EndOfInput::KeepsOpen };
        let plumbing = Plumbing {
            agent: Arc::clone(&self.live.agent),
            process_id: container.id.to_string(),
            terminal: stdio.terminal,
            stdin: stdio.open_stdin.then_some(end),
            hub: Arc::clone(&container.hub),
            log: self.log.clone(),
        };
        self.pumps = Some(plumbing.connect());
    }

    /// Lets it ask for names, and connect to its sockets.
    pub(super) fn serve(&mut self, shared: &Arc<Shared>, container: &Arc<Container>) {
        self.name_server = Some(names::serve(shared, container, Arc::clone(&self.live.agent)));
        let users = UserNamespace::of(shared.settings.user_namespace.as_ref(), &container.spec());
        // Who cannot have the daemon's was not started.
        let users = users.ok().flatten().cloned();
        self.socket_server =
            sockets::serve(&container.id, &self.sockets, users, Arc::clone(&self.live.agent));
    }

    /// Waits for the end of the first process, or of what it lives in. Cancel-safe.
    pub(super) async fn ended(&mut self) -> RunEnd {
        let home_ended = async {
            match &self.dwelling {
                Dwelling::Own(_) => std::future::pending().await,
                Dwelling::Lodging(lodging) => lodging.home_ended().await,
            }
        };
        tokio::select! {
            biased;
            ended = &mut self.waiting => ended.unwrap_or(Err(CallError::Lost)),
            () = home_ended => Err(CallError::Lost),
        }
    }

    /// Collects what the process left: its last output and how it ended. What is left of the run, if anything, is given
    /// back to be ended without haste.
    pub(super) async fn finish(mut self, end: RunEnd) -> (Exit, Option<Remains>) {
        if let Dwelling::Own(_) = self.dwelling {
            self.live.home.end();
        } else if end.is_err() {
            self.kill_in_home().await;
        }
        if end.is_ok() || matches!(self.dwelling, Dwelling::Lodging(_)) {
            self.drain().await;
        }
        let started_at = self.run.started_at;
        let (exit, remains) = match (self.dwelling, end) {
            (Dwelling::Own(machine), Ok(status)) => {
                let idle = IdleMachine::after_run(*machine, &self.live, self.joined, self.volumes);
                (exit_of(&status, started_at), Some(Remains::Machine(Box::new(idle))))
            }
            (Dwelling::Own(machine), Err(error)) => {
                let reason = reason_of_death(*machine, &error).await;
                if let Some(joined) = self.joined {
                    joined.leave().await;
                }
                (exit_of_dead_machine(reason, started_at), None)
            }
            (Dwelling::Lodging(lodging), end) => {
                let exit = match end {
                    Ok(status) => exit_of(&status, started_at),
                    Err(error) => exit_of_dead_machine(lodging.reason_of_end(&error), started_at),
                };
                lodging.prepare_to_leave();
                let (container, readers) = (self.container, Arc::clone(&self.live.readers));
                let leaving = Leaving { lodging, container, readers, volumes: self.volumes };
                (exit, Some(Remains::Lodging(leaving)))
            }
        };
        if let Some(pumps) = self.pumps {
            pumps.stop();
        }
        (exit, remains)
    }

    /// Its home ends, or cannot be asked any more: what it says last is still to be heard.
    async fn kill_in_home(&self) {
        let killing = self.live.agent.signal(self.container.as_str(), Signal::KILL.number());
        // It may be gone, with its machine or by itself.
        let _gone = within(self.live.pace.deadline(DEATH_DEADLINE), "its end", killing).await;
    }

    async fn drain(&mut self) {
        let Some(pumps) = &mut self.pumps else { return };
        if timeout(DRAIN_DEADLINE, pumps.drained()).await.is_err() {
            tracing::warn!(
                "the output of an ended process did not end within {} s",
                DRAIN_DEADLINE.as_secs()
            );
        }
    }
}

/// The agent of a run that an earlier daemon started.
async fn reconnect(vsock_path: &Path, pace: Pace) -> Result<AgentClient, CallError> {
    let connect = async {
        let agent = AgentClient::connect(vsock_path).await?;
        agent.ping().await.map(|_ready| agent)
    };
    within(pace.deadline(ADOPT_DEADLINE), "its word that it lives", connect).await
}
