//! Asks a container that runs for its health, again and again, and tells the driver what came of it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::{Health, HealthStatus, Healthcheck, Probe};
use crate::engine::container::{Container, Live};
use crate::engine::exec::{Exec, ExecSpec, ExecStart, ExecState};
use crate::engine::state::Run;

/// What is kept of a probe's output.
const MAX_OUTPUT_BYTES: usize = 4096;
/// What a killed probe may take to end.
const KILL_DEADLINE: Duration = Duration::from_secs(20);

/// Lives as long as the run; dropping it ends the asking.
pub(in crate::engine) struct Monitor {
    checked: mpsc::Receiver<Checked>,
    _task: AbortOnDropHandle<()>,
}

/// What a probe came to.
#[derive(Debug)]
pub(in crate::engine) struct Checked {
    pub(in crate::engine) health: Health,
    /// Whether the status is another one than before.
    pub(in crate::engine) changed: bool,
}

impl Monitor {
    /// Begins to ask, if there is something to ask.
    pub(in crate::engine) fn start(
        container: &Arc<Container>,
        live: &Arc<Live>,
        run: Run,
        health: Health,
        linked: Vec<String>,
    ) -> Option<Self> {
        let check = container.spec().healthcheck.clone()?;
        let command = check.command()?;
        let (sender, checked) = mpsc::channel(1);
        let asker =
            Asker { container: Arc::clone(container), live: Arc::clone(live), check, command, run, linked };
        let task = AbortOnDropHandle::new(tokio::spawn(asker.ask(health, sender)));
        Some(Self { checked, _task: task })
    }

    /// The next probe's outcome. Cancel-safe.
    pub(in crate::engine) async fn checked(&mut self) -> Checked {
        match self.checked.recv().await {
            Some(checked) => checked,
            // Whoever asked has panicked, and said so: nothing more is known.
            None => std::future::pending().await,
        }
    }
}

struct Asker {
    container: Arc<Container>,
    live: Arc<Live>,
    check: Healthcheck,
    command: Vec<String>,
    run: Run,
    /// Variables of those that the container is linked to.
    linked: Vec<String>,
}

impl Asker {
    async fn ask(self, mut health: Health, sender: mpsc::Sender<Checked>) {
        loop {
            let since_start = Timestamp::now().duration_since(self.run.started_at);
            let is_starting = health.status == HealthStatus::Starting;
            tokio::time::sleep(self.check.pause(is_starting, since_start.try_into().unwrap_or_default()))
                .await;
            // A container that is paused answers nothing; that is no illness.
            let mut status = self.container.status.clone();
            if status.wait_for(|status| status.state.is_running() && !status.state.is_paused()).await.is_err()
            {
                return;
            }
            let before = health.status;
            health.take(self.probe().await, &self.check, self.run.started_at);
            let checked = Checked { health: health.clone(), changed: before != health.status };
            if sender.send(checked).await.is_err() {
                return;
            }
        }
    }

    async fn probe(&self) -> Probe {
        let started_at = Timestamp::now();
        let spec = ExecSpec {
            args: self.command.clone(),
            attach_stdout: true,
            attach_stderr: true,
            ..ExecSpec::default()
        };
        let exec = Arc::new(Exec::new(Arc::clone(&self.container), spec, self.linked.clone()));
        exec.publish("exec_create", None);
        let mut output = Head::default();
        let (exit_code, output) = match timeout(self.check.timeout(), run(&exec, &mut output)).await {
            Ok(Ok(code)) => (code, output.text()),
            Ok(Err(refusal)) => (-1, refusal),
            Err(_elapsed) => {
                self.kill(&exec).await;
                (-1, out_of_time(self.check.timeout(), &output.text()))
            }
        };
        Probe { started_at, ended_at: Timestamp::now(), exit_code, output }
    }

    /// A probe whose time is up would still be there at the next one.
    async fn kill(&self, exec: &Exec) {
        let killing = self.live.agent.signal(&exec.id, crate::engine::Signal::KILL.number());
        // One that has ended meanwhile needs no signal; a machine that hangs is found out by others.
        let _ended = timeout(self.live.pace.deadline(KILL_DEADLINE), killing).await;
    }
}

/// The exit code of a probe that runs to its end.
async fn run(exec: &Arc<Exec>, output: &mut Head) -> Result<i64, String> {
    let started = exec.start(ExecStart::default()).await.map_err(|error| error.message)?;
    let mut attachment = started.expect("what is not detached is attached");
    while let Some(piece) = attachment.output.recv().await {
        output.push(&piece.bytes);
    }
    match exec.state() {
        ExecState::Ended { code, .. } => Ok(code),
        _ => Err("the health check's process was lost".to_owned()),
    }
}

fn out_of_time(limit: Duration, output: &str) -> String {
    let seconds = limit.as_secs_f64();
    let separator = if output.is_empty() { "" } else { ": " };
    format!("Health check exceeded timeout ({seconds}s){separator}{output}")
}

/// The beginning of what a probe prints.
#[derive(Default)]
struct Head {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Head {
    fn push(&mut self, bytes: &[u8]) {
        let room = MAX_OUTPUT_BYTES - self.bytes.len();
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.is_cut |= bytes.len() > room;
    }

    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        format!("{text}{}", if self.is_cut { "..." } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_kilobytes_of_output_are_kept() {
        let mut head = Head::default();
        head.push(&[b'x'; MAX_OUTPUT_BYTES - 1]);
        head.push(b"y");
        assert!(head.text().ends_with("xy") && head.text().len() == MAX_OUTPUT_BYTES);
        head.push(b"z");
        assert!(head.text().ends_with("xy..."));
    }

    #[test]
    fn a_probe_out_of_time_says_how_long_it_had() {
        assert_eq!(out_of_time(Duration::from_millis(1500), ""), "Health check exceeded timeout (1.5s)");
        assert_eq!(out_of_time(Duration::from_secs(2), "hm"), "Health check exceeded timeout (2s): hm");
    }
}
