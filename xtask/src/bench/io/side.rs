//! One of the two daemons: how it is asked, what it and its machines cost, and what the bench leaves on neither.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde_json::Value;

use super::super::account::Account;
use super::super::peer;
use super::table::Place;
use crate::daemon::Daemon;
use crate::program;

/// A daemon that answers.
pub(super) struct Side {
    pub(super) place: Place,
    address: String,
    /// The daemon's process.
    pid: u32,
    /// The network namespace that it lives in, if not ours.
    namespace: Option<String>,
    pub(super) version: String,
    /// What executes our guests; nothing for a peer.
    pub(super) accelerator: Option<String>,
}

/// A container that runs until the value goes.
pub(super) struct Container<'a> {
    side: &'a Side,
    pub(super) id: String,
}

/// A network with nobody on it; it goes with the value.
pub(super) struct Network<'a> {
    side: &'a Side,
    pub(super) id: String,
}

impl Side {
    pub(super) fn ours(daemon: &Daemon, namespace: Option<&str>) -> anyhow::Result<Self> {
        // The docker CLI would leave out what Docker has not.
        let text = program::output(daemon.client().args(["info", "--format", "json"]))?;
        let info: Value = serde_json::from_str(&text).context("`info` is no JSON")?;
        Ok(Self {
            place: Place::Berth,
            address: daemon.address(),
            pid: daemon.id(),
            namespace: namespace.map(str::to_owned),
            version: info["ServerVersion"].as_str().unwrap_or("unknown").to_owned(),
            accelerator: info["Berth"]["Accelerator"].as_str().map(str::to_owned),
        })
    }

    /// `None`, said aloud, if none answers there.
    pub(super) fn peer(address: &str, namespace: Option<&str>) -> anyhow::Result<Option<Self>> {
        let Some(pid) = peer::listener(address)? else { return Ok(None) };
        let mut side = Self {
            place: Place::Peer,
            address: address.to_owned(),
            pid,
            namespace: namespace.map(str::to_owned),
            version: String::new(),
            accelerator: None,
        };
        side.version = side.docker(&["version", "--format", "{{.Server.Version}}"])?;
        Ok(Some(side))
    }

    /// What the docker CLI prints when it asks this daemon.
    pub(super) fn docker(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new("docker");
        command.args(["--host", &self.address]).args(arguments).stdin(Stdio::null());
        command.env("DOCKER_CONFIG", std::env::temp_dir().join("berth-bench-no-such"));
        program::output(&mut command).map(|text| text.trim().to_owned())
    }

    pub(super) fn load(&self, archive: &Path) -> anyhow::Result<()> {
        let archive = archive.to_str().context("the path of an image is text")?;
        self.docker(&["load", "--quiet", "--input", archive]).map(drop)
    }

    pub(super) fn network(&self) -> anyhow::Result<Network<'_>> {
        let name = format!("berth-bench-{}", std::process::id());
        self.docker(&["network", "create", &name]).map(|id| Network { side: self, id })
    }

    /// `docker run --detach` with these arguments.
    pub(super) fn run(&self, arguments: &[&str]) -> anyhow::Result<Container<'_>> {
        let stop_at_once = ["run", "--detach", "--stop-signal", "SIGKILL"];
        self.docker(&[&stop_at_once, arguments].concat()).map(|id| Container { side: self, id })
    }

    /// A program of the host's where it reaches this daemon's networks.
    pub(super) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        program::command_in(self.namespace.as_deref(), program)
    }

    /// What the daemon, these containers and all that serves them took of the host's processors while `work` was done.
    pub(super) fn processor_time<T>(
        &self,
        containers: &[&Container<'_>],
        work: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<(T, Account)> {
        // Machines and shims have the container's id in their command line, and what is below them is theirs.
        let serves = |command: &str| containers.iter().any(|container| command.contains(&container.id));
        let before = Account::of_families(self.pid, serves)?;
        let done = work()?;
        Ok((done, Account::of_families(self.pid, serves)? - before))
    }
}

impl Container<'_> {
    pub(super) fn exec(&self, command: &[&str]) -> anyhow::Result<String> {
        self.side.docker(&[&["exec", &self.id], command].concat())
    }

    /// Its address on that network.
    pub(super) fn address_on(&self, network: &Network<'_>) -> anyhow::Result<String> {
        let inspected = inspect(self.side, "container", &self.id)?;
        let endpoints = inspected["NetworkSettings"]["Networks"].as_object();
        let endpoint = endpoints
            .into_iter()
            .flat_map(serde_json::Map::values)
            .find(|endpoint| endpoint["NetworkID"] == network.id.as_str());
        let address = endpoint.and_then(|endpoint| endpoint["IPAddress"].as_str());
        Ok(address.context("a container is on its network")?.to_owned())
    }

    /// What the host's port is that leads to this one of the container.
    pub(super) fn published(&self, port: u16) -> anyhow::Result<u16> {
        let said = self.side.docker(&["port", &self.id, &format!("{port}/tcp")])?;
        let first = said.lines().next().and_then(|line| line.rsplit_once(':')?.1.parse().ok());
        match first {
            Some(port) => Ok(port),
            None => bail!("`docker port` said {said:?}"),
        }
    }
}

impl Network<'_> {
    /// The host's own address on it.
    pub(super) fn gateway(&self) -> anyhow::Result<String> {
        let inspected = inspect(self.side, "network", &self.id)?;
        let gateway = inspected["IPAM"]["Config"][0]["Gateway"].as_str();
        // Old ones tell it with the length of the prefix.
        let gateway = gateway.and_then(|address| address.split('/').next());
        Ok(gateway.context("a bridge has a gateway")?.to_owned())
    }
}

fn inspect(side: &Side, kind: &str, id: &str) -> anyhow::Result<Value> {
    let text = side.docker(&["inspect", "--type", kind, id])?;
    let found: Value = serde_json::from_str(&text).context("`docker inspect` is no JSON")?;
    Ok(found[0].clone())
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // The bench has its figures, or an error that says more.
        drop(self.side.docker(&["rm", "--force", "--volumes", &self.id]));
    }
}

impl Drop for Network<'_> {
    fn drop(&mut self) {
        drop(self.side.docker(&["network", "rm", &self.id]));
    }
}
