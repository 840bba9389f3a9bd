//! One of the two daemons: where it answers, what it runs as, and what the bench asks it for.

use std::cell::{RefCell, RefMut};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::super::peer;
use super::http::{Connection, Stream};
use crate::daemon::Daemon;

pub(super) const IMAGE: &str = "busybox";
/// Does nothing for as long as anybody measures.
const IDLE: [&str; 2] = ["sleep", "100000"];
/// Daemons close connections on which nobody asks anything.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Berth,
    Peer,
}

/// A daemon that answers.
pub(super) struct Side {
    pub(super) who: Who,
    pub(super) socket: PathBuf,
    /// The daemon's process.
    pub(super) pid: u32,
    pub(super) version: String,
    /// What executes our guests; nothing for a peer.
    pub(super) accelerator: Option<String>,
    /// Of one of our guests; 0 for a peer.
    pub(super) guest_bytes: u64,
    connection: RefCell<(Connection, Instant)>,
}

impl Side {
    pub(super) fn ours(daemon: &Daemon) -> anyhow::Result<Self> {
        Self::connect(Who::Berth, &daemon.address(), daemon.id())
    }

    /// `None`, said aloud, if none answers there.
    pub(super) fn peer(address: &str) -> anyhow::Result<Option<Self>> {
        let Some(pid) = peer::listener(address)? else { return Ok(None) };
        Self::connect(Who::Peer, address, pid).map(Some)
    }

    fn connect(who: Who, address: &str, pid: u32) -> anyhow::Result<Self> {
        let path = address.strip_prefix("unix://").context("a daemon's address is unix:///PATH")?;
        let socket = PathBuf::from(path);
        let mut connection = Connection::open(&socket)?;
        let info = connection.ask("GET", "/info", None)?;
        let version = info["ServerVersion"].as_str().unwrap_or("unknown").to_owned();
        let accelerator = info["Berth"]["Accelerator"].as_str().map(str::to_owned);
        let guest_bytes = info["Berth"]["MachineMemoryMiB"].as_u64().unwrap_or(0) << 20;
        let connection = RefCell::new((connection, Instant::now()));
        Ok(Self { who, socket, pid, version, accelerator, guest_bytes, connection })
    }

    /// The connection that stays open; another one where nobody asked for long, as clients' pools have it.
    ///
    /// # Errors
    /// The daemon does not answer any more.
    pub(super) fn api(&self) -> anyhow::Result<RefMut<'_, Connection>> {
        let mut held = self.connection.borrow_mut();
        if held.1.elapsed() > IDLE_LIMIT {
            held.0 = Connection::open(&self.socket)?;
        }
        held.1 = Instant::now();
        Ok(RefMut::map(held, |(connection, _used_at)| connection))
    }

    /// The docker CLI, asking this daemon.
    pub(super) fn docker(&self, arguments: &[&str]) -> anyhow::Result<Duration> {
        let mut command = Command::new("docker");
        command.arg("--host").arg(format!("unix://{}", self.socket.display())).args(arguments);
        command.env("DOCKER_CONFIG", std::env::temp_dir().join("berth-bench-no-such"));
        let started = Instant::now();
        let output = command.stdin(Stdio::null()).output();
        let took = started.elapsed();
        let output = output.context("cannot start docker, which the bench asks both by")?;
        if !output.status.success() {
            bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(took)
    }

    pub(super) fn load(&self, archive: &Path) -> anyhow::Result<()> {
        let archive = archive.to_str().context("the path of an image is text")?;
        self.docker(&["load", "--input", archive]).map(drop)
    }

    /// Makes a container of these arguments, with that configuration added; gives its id.
    pub(super) fn create(&self, command: &[&str], more: &Value) -> anyhow::Result<(String, Duration)> {
        let mut body = json!({ "Image": IMAGE, "Cmd": command, "HostConfig": { "NetworkMode": "none" } });
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        let (reply, took) = self.timed("POST", "/containers/create", Some(&body))?;
        let id = reply["Id"].as_str().context("a created container has an id")?.to_owned();
        Ok((id, took))
    }

    /// Makes and starts a container that does nothing, and ends as soon as it is asked to.
    pub(super) fn start_idle(&self) -> anyhow::Result<String> {
        let (id, _took) = self.create(&IDLE, &json!({ "StopSignal": "SIGKILL" }))?;
        self.start(&id)?;
        Ok(id)
    }

    pub(super) fn start(&self, id: &str) -> anyhow::Result<Duration> {
        self.timed("POST", &format!("/containers/{id}/start"), None).map(|(_none, took)| took)
    }

    pub(super) fn stop(&self, id: &str) -> anyhow::Result<Duration> {
        self.timed("POST", &format!("/containers/{id}/stop"), None).map(|(_none, took)| took)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It failed, which no container of the bench does.
    pub(super) fn wait(&self, id: &str) -> anyhow::Result<()> {
        let (end, _took) = self.timed("POST", &format!("/containers/{id}/wait"), None)?;
        if end["StatusCode"] != 0 {
            bail!("a container of the bench ended with {end}");
        }
        Ok(())
    }

    /// Whether it runs or not.
    pub(super) fn remove(&self, id: &str) -> anyhow::Result<Duration> {
        self.timed("DELETE", &format!("/containers/{id}?force=1"), None).map(|(_none, took)| took)
    }

    pub(super) fn attach(&self, id: &str, streams: &str) -> anyhow::Result<Stream> {
        let connection = Connection::open(&self.socket)?;
        connection.take_over(&format!("/containers/{id}/attach?stream=1&{streams}"), None)
    }

    pub(super) fn timed(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(Value, Duration)> {
        let mut api = self.api()?;
        let started = Instant::now();
        let reply = api.ask(method, path, body)?;
        Ok((reply, started.elapsed()))
    }
}
