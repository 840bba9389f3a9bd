//! Further processes in a running container. They live in memory only, as with Docker: a daemon that restarts forgets
//! them, and the processes end with their container.

use std::sync::Arc;
use std::time::Duration;

use berth_protocol::agent::{ErrorCode, StartExec};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::timeout;

use super::Engine;
use super::attach::{DetachNotice, resize_terminal};
use super::container::{Container, Live};
use super::error::{EngineError, ErrorKind};
use super::hub::{Attachment, Hub, Wanted};
use super::identity::ContainerId;
use super::launch::{exec_failure, exec_process};
use super::names::linked;
use super::spec::TerminalSize;
use super::stdio::{EndOfInput, Plumbing};
use crate::agent_client::{CallError, within};

/// A process that ended may have left its output to a child that lives on; who waits is told after this.
const DRAIN_DEADLINE: Duration = Duration::from_secs(3);
/// Starting a process in a running machine, on a host that many others load.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// As a shell's of what is there and cannot be executed.
const NOT_STARTED_CODE: i64 = 126;
/// How long an exec that has ended can still be asked for its exit code.
const KEEP_ENDED: jiff::SignedDuration = jiff::SignedDuration::from_mins(5);

/// What is to be run. `None` is "as the container".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecSpec {
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub working_directory: Option<String>,
    pub user: Option<String>,
    /// With every capability there is, whatever the container has.
    pub privileged: bool,
    pub terminal: bool,
    pub terminal_size: Option<TerminalSize>,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    /// What a client wants to type to detach; kept for it. Nothing is the usual.
    pub detach_keys: Vec<u8>,
}

/// How an exec is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExecStart {
    pub detach: bool,
    pub terminal_size: Option<TerminalSize>,
}

/// An exec at one moment.
#[derive(Clone, Debug)]
pub struct ExecView {
    pub id: String,
    pub container_id: ContainerId,
    pub spec: ExecSpec,
    pub pid: Option<u32>,
    pub running: bool,
    pub exit_code: Option<i64>,
}

#[derive(Debug)]
pub(super) struct Exec {
    pub(super) id: String,
    pub(super) container: Arc<Container>,
    pub(super) spec: ExecSpec,
    /// Variables of those that the container is linked to.
    linked: Vec<String>,
    hub: Arc<Hub>,
    state: watch::Sender<ExecState>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExecState {
    Created,
    Starting,
    Running { pid: u32 },
    Ended { code: i64, at: Timestamp },
}

impl Engine {
    /// Describes a further process for a container that runs; [`Engine::exec_start`] starts it.
    ///
    /// # Errors
    /// No such container, one that does not run, or nothing to run.
    pub async fn exec_create(&self, name: &str, spec: ExecSpec) -> Result<String, EngineError> {
        let container = self.find(name)?;
        container.live().await?;
        check_not_paused(&container, name)?;
        if spec.args.is_empty() {
            return Err(EngineError::invalid("No exec command specified"));
        }
        // Who is gone by now is no reason not to look into the container.
        let linked = linked::variables(&self.shared, &container).unwrap_or_default();
        let exec = Arc::new(Exec::new(container, spec, linked));
        let id = exec.id.clone();
        exec.publish("exec_create", None);
        let mut execs = self.shared.execs();
        execs.retain(|_id, exec| !exec.is_forgotten());
        execs.insert(id.clone(), exec);
        Ok(id)
    }

    /// Starts it, and connects to it unless detached.
    ///
    /// # Errors
    /// No such exec, one that was started before, a container that does not run, a program that cannot be executed.
    pub async fn exec_start(&self, exec_id: &str, how: ExecStart) -> Result<Option<Attachment>, EngineError> {
        self.find_exec(exec_id)?.start(how).await
    }

    /// # Errors
    /// No such exec.
    pub fn exec(&self, exec_id: &str) -> Result<ExecView, EngineError> {
        let exec = self.find_exec(exec_id)?;
        let (pid, running, exit_code) = match exec.state() {
            ExecState::Created | ExecState::Starting => (None, false, None),
            ExecState::Running { pid } => (Some(pid), true, None),
            ExecState::Ended { code, .. } => (None, false, Some(code)),
        };
        let container_id = exec.container.id.clone();
        Ok(ExecView { id: exec.id.clone(), container_id, spec: exec.spec.clone(), pid, running, exit_code })
    }

    /// Tells the exec's terminal how large its window is.
    ///
    /// # Errors
    /// No such exec, or one that is not started.
    pub async fn exec_resize(&self, exec_id: &str, size: TerminalSize) -> Result<(), EngineError> {
        self.find_exec(exec_id)?.resize(size).await
    }
}

/// A process that is started among others that stand still would stand still too.
///
/// # Errors
/// That, about the container as the client calls it.
fn check_not_paused(container: &Container, name: &str) -> Result<(), EngineError> {
    if container.current().state.is_paused() {
        let message = format!("Container {name} is paused, unpause the container before exec");
        return Err(EngineError::conflict(message));
    }
    Ok(())
}

impl Exec {
    pub(super) fn new(container: Arc<Container>, spec: ExecSpec, linked: Vec<String>) -> Self {
        let hub = Arc::new(Hub::new(spec.terminal));
        let id = hex::encode(rand::random::<[u8; 32]>());
        Self { id, container, spec, linked, hub, state: watch::Sender::new(ExecState::Created) }
    }

    pub(super) fn state(&self) -> ExecState {
        *self.state.borrow()
    }

    /// Nobody will ask for it any more.
    pub(super) fn is_forgotten(&self) -> bool {
        let gone = self.container.status.borrow().removed;
        gone || matches!(self.state(), ExecState::Ended { at, .. } if Timestamp::now().duration_since(at) > KEEP_ENDED)
    }

    /// Starts the process and, unless detached, connects the caller to it.
    pub(super) async fn start(self: &Arc<Self>, how: ExecStart) -> Result<Option<Attachment>, EngineError> {
        let live = self.container.live().await?;
        check_not_paused(&self.container, self.container.id.as_str())?;
        self.claim()?;
        let wanted = Wanted {
            stdin: self.spec.attach_stdin,
            stdout: self.spec.attach_stdout,
            stderr: self.spec.attach_stderr,
        };
        let notice = DetachNotice { container: Arc::clone(&self.container), exec_id: Some(self.id.clone()) };
        let attachment =
            (!how.detach).then(|| Attachment { notice: Some(notice), ..self.hub.attach(wanted) });
        // A task of its own: a client that goes away must not leave a process half started.
        let (exec, size) = (Arc::clone(self), how.terminal_size);
        let launched = tokio::spawn(async move { exec.launch(&live, size).await }).await;
        launched.map_err(|error| EngineError::internal("cannot start a process", &error))??;
        Ok(attachment)
    }

    /// Only one caller may start it.
    fn claim(&self) -> Result<(), EngineError> {
        let claimed = self.state.send_if_modified(|state| {
            let fresh = *state == ExecState::Created;
            if fresh {
                *state = ExecState::Starting;
            }
            fresh
        });
        if claimed {
            Ok(())
        } else {
            Err(EngineError::conflict(format!("Error: Exec command {} is already running", self.id)))
        }
    }

    async fn launch(
        self: Arc<Self>,
        live: &Arc<Live>,
        size: Option<TerminalSize>,
    ) -> Result<(), EngineError> {
        let mut spec = self.spec.clone();
        spec.terminal_size = size.or(spec.terminal_size);
        let process = exec_process(&self.container, &self.id, &spec, &self.linked)?;
        let request = StartExec { container_id: self.container.id.to_string(), process: Some(process) };
        let starting = live.agent.start_exec(request);
        match within(live.pace.deadline(START_DEADLINE), "the start of a process", starting).await {
            Ok(started) => {
                self.state.send_replace(ExecState::Running { pid: started.pid });
                self.publish("exec_start", None);
                tokio::spawn(Arc::clone(&self).attend(Arc::clone(live)));
                Ok(())
            }
            Err(error) => {
                let (code, refusal) = match exec_failure(&error) {
                    Some(failure) => {
                        (failure.code, EngineError::new(ErrorKind::StartFailed, failure.message))
                    }
                    None => (NOT_STARTED_CODE, self.not_started(&error)),
                };
                self.state.send_replace(ExecState::Ended { code, at: Timestamp::now() });
                self.hub.finish();
                Err(refusal)
            }
        }
    }

    /// What came in between is not the request's fault: most often the container's end.
    fn not_started(&self, error: &CallError) -> EngineError {
        let id = &self.container.id;
        let has_ended = match error {
            CallError::Lost | CallError::Agent { code: ErrorCode::NoSuchContainer, .. } => true,
            _ => self.container.current().live.is_none(),
        };
        if has_ended {
            return EngineError::conflict(format!("container {id} is not running"));
        }
        EngineError::internal(&format!("cannot start a process in container {id}"), error)
    }

    /// Moves the process's streams until it ends.
    async fn attend(self: Arc<Self>, live: Arc<Live>) {
        let plumbing = Plumbing {
            agent: Arc::clone(&live.agent),
            process_id: self.id.clone(),
            terminal: self.spec.terminal,
            stdin: self.spec.attach_stdin.then_some(EndOfInput::Closes),
            hub: Arc::clone(&self.hub),
            log: None,
        };
        let mut pumps = plumbing.connect();
        // A machine that died takes its processes with it: as killed.
        let code = live.agent.wait(&self.id).await.map_or(137, |status| i64::from(status.code.min(255)));
        self.hub.process_ended();
        if timeout(live.pace.deadline(DRAIN_DEADLINE), pumps.drained()).await.is_err() {
            tracing::debug!(exec = self.id, "a process that ended left its output open");
        }
        pumps.stop();
        self.state.send_replace(ExecState::Ended { code, at: Timestamp::now() });
        self.publish("exec_die", Some(code));
        self.hub.finish();
    }

    /// An event of the container's: what happened, and for the first two to which command.
    pub(super) fn publish(&self, what: &str, exit_code: Option<i64>) {
        let action = match exit_code {
            None => format!("{what}: {}", self.spec.args.join(" ")),
            Some(_) => what.to_owned(),
        };
        let exit_code = exit_code.map(|code| ("exitCode", code.to_string()));
        self.container.publish(action, [("execID", self.id.clone())].into_iter().chain(exit_code));
    }

    pub(super) async fn resize(&self, size: TerminalSize) -> Result<(), EngineError> {
        let live = self.container.live().await?;
        let mut state = self.state.subscribe();
        // Clients resize at once after they asked for the start.
        let started = state.wait_for(|state| !matches!(state, ExecState::Created | ExecState::Starting));
        if timeout(live.pace.deadline(START_DEADLINE), started).await.is_err() {
            return Err(EngineError::conflict(format!("exec {} has not started", self.id)));
        }
        if !self.spec.terminal {
            return Ok(());
        }
        resize_terminal(&self.container.id, &live, &self.id, size).await
    }
}
