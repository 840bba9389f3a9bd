//! Ending a container's run: by signals, and by ending its machine when signals do not help.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::container::{Command, Container, Live, Outcome, Started};
use super::error::{EngineError, chain};
use super::signal::Signal;
use super::state::ContainerState;
use super::{Engine, ErrorKind};
use crate::agent_client::{CallError, within};
use berth_protocol::agent::ErrorCode;

/// Docker's.
const DEFAULT_STOP_TIMEOUT_S: i64 = 10;
/// After SIGKILL nothing is left that the guest's kernel could wait for, except a host that is overloaded.
const KILL_DEADLINE: Duration = Duration::from_secs(30);
/// The agent passes a signal on at once, or its machine hangs.
const SIGNAL_DEADLINE: Duration = Duration::from_secs(20);

/// `None` is what the container says, and then Docker's default. A negative timeout waits for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StopOptions {
    pub signal: Option<Signal>,
    pub timeout_s: Option<i64>,
}

impl Engine {
    /// Asks the container to end, and kills it when its time is up. Returns when it has ended.
    ///
    /// # Errors
    /// No such container, or one that cannot be ended at all.
    pub async fn stop(&self, name: &str, how: StopOptions) -> Result<Outcome, EngineError> {
        let container = self.find(name)?;
        in_own_task(async move { stop(&container, how).await }).await
    }

    /// Stops the container if it runs, and starts it.
    ///
    /// # Errors
    /// As [`Engine::stop`] and [`Engine::start`].
    pub async fn restart(&self, name: &str, how: StopOptions) -> Result<(), EngineError> {
        let container = self.find(name)?;
        in_own_task(async move {
            stop(&container, how).await?;
            start(&container).await?;
            container.publish("restart", []);
            Ok(())
        })
        .await
    }

    /// Starts the container's program in a new machine.
    ///
    /// # Errors
    /// No such container, no such program, or a machine that did not start; the message says why.
    pub async fn start(&self, name: &str) -> Result<Started, EngineError> {
        let container = self.find(name)?;
        in_own_task(async move { start(&container).await }).await
    }

    /// Sends a signal to the container's first process.
    ///
    /// # Errors
    /// No such container, or one that does not run.
    pub async fn kill(&self, name: &str, signal: Signal) -> Result<(), EngineError> {
        let container = self.find(name)?;
        in_own_task(async move { kill(&container, signal).await }).await
    }
}

/// A client that goes away does not undo what it asked for.
async fn in_own_task<T: Send + 'static>(
    work: impl Future<Output = Result<T, EngineError>> + Send + 'static,
) -> Result<T, EngineError> {
    tokio::spawn(work).await.map_err(|error| EngineError::internal("the request failed", &error))?
}

async fn start(container: &Container) -> Result<Started, EngineError> {
    Ok(container.command(|reply| Command::Start { reply }).await??)
}

async fn kill(container: &Container, signal: Signal) -> Result<(), EngineError> {
    let restarting = matches!(container.settled().await.state, ContainerState::Restarting(_));
    if restarting || signal == Signal::KILL || signal == stop_signal(container) {
        // What is killed on purpose is not to come back by itself.
        let was_waiting = container.command(|reply| Command::StayStopped { reply }).await?;
        if was_waiting == Outcome::Changed {
            return Ok(());
        }
    }
    let status = container.settled().await;
    let live = container.live_in(&status)?;
    if signal == Signal::KILL {
        // Docker answers when it is dead.
        return end_by_force(container, &live, status.runs_ended).await;
    }
    match pass_on_signal(container, &live, signal).await {
        Err(error @ CallError::Deadline { .. }) => {
            Err(EngineError::internal("its machine hangs, and only SIGKILL ends it", &error))
        }
        outcome => outcome.map_err(|error| not_reached(container, signal, &error)),
    }
}

async fn stop(container: &Arc<Container>, how: StopOptions) -> Result<Outcome, EngineError> {
    if !container.settled().await.state.is_up() {
        return Ok(Outcome::AlreadySo);
    }
    let was_waiting = container.command(|reply| Command::StayStopped { reply }).await?;
    let status = container.current();
    match status.live {
        Some(live) => end_in_order(container, &live, status.runs_ended, how).await?,
        // It ended by itself meanwhile, unless it was between two runs.
        None if was_waiting == Outcome::AlreadySo => return Ok(Outcome::AlreadySo),
        None => {}
    }
    container.publish("stop", []);
    Ok(Outcome::Changed)
}

fn stop_signal(container: &Container) -> Signal {
    container.spec().stop_signal.unwrap_or(Signal::TERM)
}

/// Asks the run that `runs_ended` counts to to end, and kills it when its time is up.
async fn end_in_order(
    container: &Container,
    live: &Live,
    runs_ended: u64,
    how: StopOptions,
) -> Result<(), EngineError> {
    let signal = how.signal.unwrap_or_else(|| stop_signal(container));
    let timeout_s = how.timeout_s.or(container.spec().stop_timeout_s).unwrap_or(DEFAULT_STOP_TIMEOUT_S);
    end_by_signal(container, live, signal).await?;
    let patience = u64::try_from(timeout_s).ok().map(Duration::from_secs);
    if ended_within(container, runs_ended, patience).await {
        return Ok(());
    }
    end_by_force(container, live, runs_ended).await
}

/// Ends a run as `stop` does, but lets another one follow.
pub(super) async fn end_unhealthy(container: &Container) -> Result<(), EngineError> {
    let status = container.settled().await;
    match status.live {
        Some(live) => end_in_order(container, &live, status.runs_ended, StopOptions::default()).await,
        None => Ok(()),
    }
}

/// Kills a container that is up, whatever it takes, and lets no restart follow.
pub(super) async fn end_for_good(container: &Container) -> Result<(), EngineError> {
    if container.command(|reply| Command::StayStopped { reply }).await.is_err() {
        // With `--rm` its end was its removal.
        return Ok(());
    }
    let status = container.current();
    match status.live {
        Some(live) => end_by_force(container, &live, status.runs_ended).await,
        None => Ok(()),
    }
}

/// Kills the run that `runs_ended` counts to, whatever it takes.
async fn end_by_force(container: &Container, live: &Live, runs_ended: u64) -> Result<(), EngineError> {
    end_by_signal(container, live, Signal::KILL).await?;
    if ended_within(container, runs_ended, Some(KILL_DEADLINE)).await {
        return Ok(());
    }
    tracing::warn!(container = %container.id, "a killed process does not end; ending its machine");
    live.killer.kill();
    if ended_within(container, runs_ended, Some(KILL_DEADLINE)).await {
        return Ok(());
    }
    let seconds = 2 * KILL_DEADLINE.as_secs();
    let message = format!(
        "container {} did not end within {seconds} s of being killed, nor with its machine",
        container.id
    );
    Err(EngineError::new(ErrorKind::Internal, message))
}

/// Sends a signal that is to end the run; a machine that does not take it ends itself.
async fn end_by_signal(container: &Container, live: &Live, signal: Signal) -> Result<(), EngineError> {
    match pass_on_signal(container, live, signal).await {
        Err(error @ CallError::Deadline { .. }) => {
            let reason = chain(&error);
            tracing::warn!(container = %container.id, reason, "a signal does not arrive; ending the machine");
            live.killer.kill();
            Ok(())
        }
        outcome => outcome.map_err(|error| not_reached(container, signal, &error)),
    }
}

/// Sends a signal to the first process; one that has no process left to go to has done its work.
async fn pass_on_signal(container: &Container, live: &Live, signal: Signal) -> Result<(), CallError> {
    let sending = live.agent.signal(container.id.as_str(), signal.number());
    let deadline = live.pace.deadline(SIGNAL_DEADLINE);
    let sent = within(deadline, "a signal to be passed on", sending).await;
    if sent.is_ok() {
        container.publish("kill", [("signal", signal.number().to_string())]);
    }
    if !matches!(sent, Err(CallError::Deadline { .. })) {
        unpause_for(container, signal).await;
    }
    match sent {
        Err(CallError::Lost | CallError::Agent { code: ErrorCode::NoSuchProcess, .. }) => Ok(()),
        outcome => outcome,
    }
}

/// A signal that is to end a container would wait in vain for processes that stand still.
async fn unpause_for(container: &Container, signal: Signal) {
    let ends_it = signal == Signal::KILL || signal == container.spec().stop_signal.unwrap_or(Signal::TERM);
    if ends_it && container.current().state.is_paused() {
        // It may have ended meanwhile, which is what was asked for.
        let _ended = container.set_paused(false).await;
    }
}

fn not_reached(container: &Container, signal: Signal, error: &CallError) -> EngineError {
    let (number, id) = (signal.number(), &container.id);
    EngineError::conflict(format!("signal {number} does not reach container {id}: {}", chain(error)))
}

/// Waits for the end of the run after `runs_ended` others; without patience, for ever.
async fn ended_within(container: &Container, runs_ended: u64, patience: Option<Duration>) -> bool {
    let mut status = container.status.clone();
    // The driver is gone only if the container is, and then its run has ended too.
    let ended = status.wait_for(|status| status.runs_ended > runs_ended || status.removed);
    match patience {
        Some(patience) => timeout(patience, ended).await.is_ok(),
        None => ended.await.is_ok(),
    }
}
