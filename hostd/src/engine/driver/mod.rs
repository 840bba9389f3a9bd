//! The task that owns one container: commands and the end of its run in, states out. Nobody else changes the state.

mod again;
mod change;
mod files;
mod gateway;
mod health;
mod hold;
mod lodge;
mod networks;
mod still;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::Shared;
use super::container::{Command, Container, StartError, Started, Status};
use super::error::{EngineError, ErrorKind};
use super::events::{Actor, EventKind};
use super::files::{FilesOfMachine, Unwritten};
use super::health::{Checked, Monitor};
use super::log::log_files;
use super::record::ContainerRecord;
use super::restart::Backoff;
use super::run::{ActiveRun, RunEnd};
use super::spec::AutoRemove;
use super::state::{ContainerState, Exit, StartFailure, Step};
use super::wait::WaitResult;
use crate::machine::GatewayWatch;

/// Commands that may wait for a driver that is busy; more callers wait for their turn to ask.
const COMMAND_QUEUE: usize = 16;

/// Longer than a machine that hangs takes to be ended; what goes on after that are those who read its files.
const TEARDOWN_DEADLINE: Duration = Duration::from_secs(150);

pub(super) struct Driver {
    shared: Arc<Shared>,
    container: Arc<Container>,
    record: ContainerRecord,
    status: watch::Sender<Status>,
    commands: mpsc::Receiver<Command>,
    active: Option<ActiveRun>,
    backoff: Backoff,
    /// Of a container that runs, if it has a health check.
    monitor: Option<Monitor>,
    /// Of one whose network is a process.
    gateway: Option<GatewayWatch>,
    /// For whom it stands still.
    still_readers: usize,
    /// When a container that is restarting is to start.
    restart_at: Option<Instant>,
    /// The end of the last run's machine, which nobody had to wait for.
    teardown: Option<JoinHandle<()>>,
    /// The files in the machine that ends there, if it was booted for them.
    idle: Option<FilesOfMachine>,
}

impl Driver {
    /// Brings a container to life: its public face, and the task behind it. `active` is a run that an earlier daemon
    /// started.
    pub(super) fn spawn(
        shared: Arc<Shared>,
        record: ContainerRecord,
        adopt: Option<ActiveRun>,
    ) -> Arc<Container> {
        let (sender, commands) = mpsc::channel(COMMAND_QUEUE);
        let (status, seen) = watch::channel(Status {
            name: record.name.as_str().into(),
            next_name: None,
            spec: Arc::clone(&record.spec),
            restart_count: record.restart_count,
            health: record.health.clone(),
            last_end: WaitResult::of(&record.state),
            state: record.state.clone(),
            live: adopt.as_ref().map(ActiveRun::live),
            timeline: record.timeline,
            endpoints: record.endpoints.clone().into(),
            runs_ended: 0,
            removed: false,
        });
        let log = match &adopt {
            Some(active) => active.log_files(),
            None => log_files(&record.id, &record.spec, &shared.container_directory(&record.id)),
        };
        let container = Arc::new(shared.container(&record, log, seen, sender));
        let driver = Self {
            shared,
            container: Arc::clone(&container),
            record,
            status,
            commands,
            active: None,
            backoff: Backoff::default(),
            monitor: None,
            gateway: None,
            still_readers: 0,
            restart_at: None,
            teardown: None,
            idle: None,
        };
        tokio::spawn(driver.drive(adopt));
        container
    }

    async fn drive(mut self, adopt: Option<ActiveRun>) {
        if let Some(mut active) = adopt {
            active.connect_streams(&self.container);
            active.serve(&self.shared, &self.container);
            self.go_on_monitoring(&active);
            self.watch_gateway();
            self.active = Some(active);
            self.end_unfinished_places().await;
            // The daemon before this one ended while it was read.
            self.go_on().await;
        }
        if self.record.state.is_restarting() {
            // The daemon before this one ended while it waited, or this one found it to be restarted.
            self.restart_at = Some(Instant::now() + self.backoff.after_run(Duration::ZERO));
        }
        while !self.status.borrow().removed {
            self.remove_if_asked_for().await;
            tokio::select! {
                end = run_end(&mut self.active) => self.run_ended(end).await,
                () = sleep_until(self.restart_at) => self.restart().await,
                checked = next_check(&mut self.monitor) => self.health_checked(checked).await,
                () = gateway::lost(&self.gateway) => self.network_lost().await,
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command).await,
                    // The engine is being dropped; the machine goes on.
                    None => return,
                },
            }
            self.remove_if_asked_for().await;
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Start { reply } => {
                let _nobody_listens = reply.send(self.start().await);
            }
            Command::StayStopped { reply } => {
                let _nobody_listens = reply.send(self.stay_stopped().await);
            }
            Command::Rename { name, reply } => {
                let _nobody_listens = reply.send(self.rename(name).await);
            }
            Command::SetRestartPolicy { policy, reply } => {
                let _nobody_listens = reply.send(self.set_restart_policy(policy).await);
            }
            Command::SetPaused { paused, reply } => {
                let _nobody_listens = reply.send(self.pause_or_go_on(paused).await);
            }
            Command::StandStill { reply } => {
                let standing = self.stand_still().await;
                // Who no longer listens does not say either that it may go on.
                if let Err(Ok(())) = reply.send(standing) {
                    self.go_on().await;
                }
            }
            Command::GoOn { reply } => {
                self.go_on().await;
                let _nobody_listens = reply.send(());
            }
            Command::Update { limits, reply } => {
                let _nobody_listens = reply.send(self.update(limits).await);
            }
            Command::Connect { network, endpoint, reply } => {
                let _nobody_listens = reply.send(self.connect(network, endpoint).await);
            }
            Command::Disconnect { network, force, reply } => {
                let _nobody_listens = reply.send(self.disconnect(&network, force).await);
            }
            Command::OpenFiles { reply } => {
                let _nobody_reads = reply.send(self.open_files().await);
            }
            Command::Remove { volumes, reply } => {
                let _nobody_listens = reply.send(self.remove(volumes).await);
            }
        }
    }

    async fn start(&mut self) -> Result<Started, StartError> {
        if self.record.state.is_paused() {
            let message = "cannot start a paused container, try unpause instead";
            return Err(StartError::Engine(EngineError::conflict(message)));
        }
        if self.record.state.is_up() {
            return Ok(Started::Already);
        }
        self.record.manually_stopped = false;
        self.record.restart_count = 0;
        self.backoff = Backoff::default();
        let started = self.begin_run().await;
        if started.is_err() {
            self.remove_after_failed_start().await;
        }
        started
    }

    async fn begin_run(&mut self) -> Result<Started, StartError> {
        let step = |state: &ContainerState, step| {
            state
                .after(step)
                .map_err(|illegal| StartError::Engine(EngineError::conflict(illegal.to_string())))
        };
        let starting = step(&self.record.state, Step::Start)?;
        self.finish_teardown().await.map_err(StartError::Engine)?;
        self.publish(starting.clone());
        match self.start_run().await {
            Ok((mut active, timeline)) => {
                let running = step(&starting, Step::Started(active.run()))?;
                self.record.begin_run_in_log(active.run_in_log());
                self.record.timeline = Some(timeline);
                self.record.endpoints = active.endpoints().to_vec();
                self.record.sockets = active.sockets().to_vec();
                self.begin_monitoring(&active);
                self.watch_gateway();
                self.commit(running).await;
                active.connect_streams(&self.container);
                active.serve(&self.shared, &self.container);
                self.publish_live(Some(&active));
                self.shared.publish_places("connect", &self.container, &self.record.endpoints);
                self.active = Some(active);
                self.container.publish_mounted();
                self.container.publish("start", [("berth.timeline", timeline.to_string())]);
                Ok(Started::Now(timeline))
            }
            Err(failure) => {
                let failed = Step::StartFailed { failure: recorded(&failure), at: Timestamp::now() };
                let state = step(&starting, failed)?;
                self.commit(state.clone()).await;
                self.container.hub.finish();
                self.publish(state);
                self.publish_failed_start(&failure);
                Err(failure)
            }
        }
    }

    async fn run_ended(&mut self, end: RunEnd) {
        let Some(active) = self.active.take() else { return };
        self.end_monitoring();
        self.gateway = None;
        self.container.hub.process_ended();
        let (exit, machine) = active.finish(end).await;
        let discard = self.record.spec.auto_remove == AutoRemove::Remove;
        let unwritten = if discard { Unwritten::Discard } else { Unwritten::Keep };
        self.teardown = machine.map(|machine| self.shared.endings.spawn(machine.end(unwritten)));
        let places = self.record.endpoints.clone();
        match self.record.state.after(Step::Exited(exit.clone())) {
            Ok(exited) => {
                self.record.state = exited;
                self.record.endpoints.clear();
                self.record.sockets.clear();
                let run = exit.finished_at.duration_since(exit.started_at).try_into().unwrap_or_default();
                self.follow(&exit, run);
                self.commit(self.record.state.clone()).await;
            }
            Err(illegal) => {
                tracing::error!(container = %self.container.id, %illegal, "lost a container's exit");
            }
        }
        self.container.hub.finish();
        let end = EndEvents::new(&self.container, &exit);
        self.show(|status| {
            status.enter(self.record.state.clone());
            status.live = None;
            status.endpoints = Arc::default();
            status.runs_ended += 1;
            // Neither is seen before the other: who hears of an end looks at once, and takes a container that still runs
            // for one that is restarted.
            end.publish(&self.container);
        });
        self.shared.publish_places("disconnect", &self.container, &places);
        self.container.publish_unmounted();
    }

    /// Makes a state durable. A database that cannot be written does not stop a container that runs or ended: the state
    /// holds for this daemon, and the next one finds it out again.
    async fn commit(&mut self, state: ContainerState) {
        self.record.state = state;
        if let Err(error) = self.shared.records.put(&self.record).await {
            tracing::error!(container = %self.container.id, %error, "a container's state is not durable");
        }
    }

    fn publish(&self, state: ContainerState) {
        self.show(|status| status.enter(state));
    }

    /// Everything that may have changed becomes visible at once.
    fn show(&self, change: impl FnOnce(&mut Status)) {
        self.status.send_modify(|status| {
            status.restart_count = self.record.restart_count;
            status.health.clone_from(&self.record.health);
            change(status);
        });
    }

    fn publish_live(&self, active: Option<&ActiveRun>) {
        self.show(|status| {
            status.enter(self.record.state.clone());
            status.timeline = self.record.timeline;
            status.live = active.map(ActiveRun::live);
            status.endpoints = active.map(ActiveRun::endpoints).unwrap_or_default();
        });
    }

    /// Nobody else is to read files in it.
    fn hurry_teardown(&mut self) {
        if let Some(idle) = self.idle.take() {
            idle.hurry();
        }
    }

    /// Waits for the end of the last machine.
    async fn finish_teardown(&mut self) -> Result<(), EngineError> {
        self.hurry_teardown();
        let Some(teardown) = &mut self.teardown else { return Ok(()) };
        if timeout(TEARDOWN_DEADLINE, teardown).await.is_err() {
            return Err(EngineError::conflict(format!(
                "container {}: its last machine has not ended within {} s: somebody still reads its files",
                self.container.id,
                TEARDOWN_DEADLINE.as_secs()
            )));
        }
        // If it panicked, clearing the machine's directory does the rest.
        self.teardown = None;
        Ok(())
    }

    /// `--rm`, when its time has come.
    async fn remove_if_asked_for(&mut self) {
        let exited = matches!(self.record.state, ContainerState::Exited(_));
        if exited && self.record.spec.auto_remove == AutoRemove::Remove {
            self.remove_automatically().await;
        }
    }

    async fn remove_after_failed_start(&mut self) {
        if self.record.spec.auto_remove == AutoRemove::Remove {
            self.remove_automatically().await;
        }
    }

    async fn remove_automatically(&mut self) {
        if let Err(error) = self.remove(true).await {
            tracing::error!(container = %self.container.id, %error, "cannot remove a container that asked for it");
            // Not again and again: an explicit removal may find the cause gone.
            let mut spec = (*self.record.spec).clone();
            spec.auto_remove = AutoRemove::Keep;
            self.record.spec = Arc::new(spec);
        }
    }

    async fn remove(&mut self, volumes: bool) -> Result<(), EngineError> {
        let id = self.container.id.clone();
        if self.record.state != ContainerState::Removing {
            let removing = self.record.state.after(Step::Remove);
            // Not made durable: a daemon that dies before the record is gone has removed nothing, and told nobody so.
            self.record.state = removing.map_err(|illegal| EngineError::conflict(illegal.to_string()))?;
        }
        self.publish(ContainerState::Removing);
        self.shared.records.delete(id.as_str()).await?;
        self.shared.forget(&id);
        self.shared.give_back_volumes(&id, &self.container.mounts);
        self.container.hub.finish();
        self.hurry_teardown();
        if volumes {
            self.shared.remove_anonymous(&self.container.mounts).await;
        }
        self.shared.delete_remains_later(id, self.teardown.take());
        self.status.send_modify(|status| status.removed = true);
        self.container.publish("destroy", []);
        Ok(())
    }

    /// Docker tells of a container whose program could not be started as of one that ended.
    fn publish_failed_start(&self, failure: &StartError) {
        let code = recorded(failure).code;
        self.container.publish("die", [("exitCode", code.to_string()), ("execDuration", "0".to_owned())]);
    }
}

/// The events of a run's end. To publish them takes nothing of the container's status.
pub(super) struct EndEvents {
    out_of_memory: Option<Actor>,
    die: Actor,
}

impl EndEvents {
    pub(super) fn new(container: &Container, exit: &Exit) -> Self {
        let duration_s = exit.finished_at.duration_since(exit.started_at).as_secs().max(0);
        let more = [("exitCode", exit.code.to_string()), ("execDuration", duration_s.to_string())];
        Self { out_of_memory: exit.oom_killed.then(|| container.actor([])), die: container.actor(more) }
    }

    pub(super) fn publish(self, container: &Container) {
        if let Some(actor) = self.out_of_memory {
            container.events.publish(EventKind::Container, "oom", actor);
        }
        container.events.publish(EventKind::Container, "die", self.die);
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// What a probe came to, or never.
async fn next_check(monitor: &mut Option<Monitor>) -> Checked {
    match monitor {
        Some(monitor) => monitor.checked().await,
        None => std::future::pending().await,
    }
}

/// The end of the run, or never.
async fn run_end(active: &mut Option<ActiveRun>) -> RunEnd {
    match active {
        Some(active) => active.ended().await,
        None => std::future::pending().await,
    }
}

/// What a failed start leaves in the container's record.
fn recorded(error: &StartError) -> StartFailure {
    match error {
        StartError::Program(failure) => failure.clone(),
        StartError::Engine(error) => {
            // Docker's code for "the container could not be made", next to 126 and 127.
            StartFailure { code: 128, message: error.message.clone() }
        }
    }
}

impl From<StartError> for EngineError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Program(failure) => Self::new(ErrorKind::StartFailed, failure.message),
            StartError::Engine(error) => error,
        }
    }
}
