//! Starts a container with this process's streams on it and stays until it ends: the core of `run` and `start -a`.

use crate::client::{AttachStreams, Client, ClientError, PendingExit, StartPhase, WaitFor};
use crate::detach_keys::DetachKeys;
use crate::outcome::{DAEMON_FAILED, Failure, exit_status};
use crate::output::note;
use crate::session::{Ended, OnSignal, Process, Session, SessionError, Stdin};
use crate::signals::{Signals, forward_to};

/// A container about to be started, and how its user takes part.
pub(super) struct Attached<'a> {
    pub(super) client: &'a Client,
    pub(super) id: &'a str,
    pub(super) tty: bool,
    pub(super) streams: AttachStreams,
    pub(super) auto_remove: bool,
    /// Caught before the container exists for the world, so that none is lost.
    pub(super) signals: Option<Signals>,
    pub(super) detach_keys: Option<&'a str>,
}

impl Attached<'_> {
    /// Attaches, waits for the exit from before the start on, starts, and serves the user. `on_started` learns
    /// where the time of the start went. Returns the container's exit status; zero if the user left it.
    ///
    /// # Errors
    /// [`Failure::Client`] if the container did not start.
    pub(super) async fn run(self, on_started: impl FnOnce(Vec<StartPhase>)) -> Result<u8, Failure> {
        let keys = DetachKeys::parse(self.detach_keys.unwrap_or_default())?;
        let stream = self.client.attach(self.id, self.streams, self.detach_keys).await?;
        // Registered before the start: an exit cannot slip through between the two.
        let until = if self.auto_remove { WaitFor::Removed } else { WaitFor::NextExit };
        let exit = self.client.wait(self.id, until).await?;
        match self.client.start(self.id, self.detach_keys).await {
            Ok(phases) => on_started(phases),
            Err(error) => return Err(self.not_started(error, exit).await),
        }
        let on_signal = if self.signals.is_some() { OnSignal::Forwarded } else { OnSignal::End };
        let session = Session {
            client: self.client,
            process: Process::Container(self.id),
            stream,
            tty: self.tty,
            stdin: if self.streams.stdin { Stdin::Attached } else { Stdin::Closed },
            detach_keys: keys,
            on_signal,
        };
        let served = async {
            match session.run().await? {
                Ended::Detached => Ok(0),
                Ended::Output => Ok(status_of(exit).await),
            }
        };
        forwarding(self.client, self.id, self.signals, served).await
    }

    /// A container with `--rm` that did not start is gone before its name can be used again.
    async fn not_started(&self, error: ClientError, exit: PendingExit) -> Failure {
        if self.auto_remove {
            drop(exit.status().await);
        }
        error.into()
    }
}

/// `served`, while signals go to the container; given up when the user insists.
pub(super) async fn forwarding(
    client: &Client,
    id: &str,
    signals: Option<Signals>,
    served: impl Future<Output = Result<u8, Failure>>,
) -> Result<u8, Failure> {
    let Some(signals) = signals else { return served.await };
    tokio::select! {
        result = served => result,
        signal = forward_to(client, id, signals) => Err(SessionError::Interrupted(signal).into()),
    }
}

/// The container's exit status, or Docker's for a daemon that cannot tell.
pub(super) async fn status_of(exit: PendingExit) -> u8 {
    match exit.status().await {
        Ok(status) => exit_status(status),
        Err(error) => {
            note(&format!("error waiting for container: {error}"));
            DAEMON_FAILED
        }
    }
}
