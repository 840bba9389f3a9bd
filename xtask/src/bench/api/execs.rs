//! Further processes in a container that runs: how long each takes, how many a second, and who spends the time.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use serde_json::json;

use super::http::{Connection, payload_bytes};
use super::pair::{Pair, interleaved};
use super::processes::{self, Part};
use super::side::Side;
use crate::progress;

/// In each round, so that the host's clock of processor time is fine enough.
const BATCH: u32 = 10;
pub(super) const CLIENTS: u32 = 4;

#[derive(Default)]
pub(super) struct Measured {
    /// From the request to make one until its output has ended.
    pub(super) round_trip: Pair,
    /// A second, one client after the other.
    pub(super) rate: Pair,
    /// A second, several at a time.
    pub(super) parallel_rate: Pair,
    /// Processor time of the daemon, per exec.
    pub(super) daemon: Pair,
    /// Of what there is for each container, per exec.
    pub(super) keeper: Pair,
    /// Of what emulates the guest, per exec.
    pub(super) emulator: Pair,
}

pub(super) fn measure(rounds: u32, sides: &[Side]) -> anyhow::Result<Measured> {
    progress::heading("processes in a container that runs");
    let mut measured = Measured::default();
    let ids: anyhow::Result<Vec<String>> = sides.iter().map(Side::start_idle).collect();
    let ids = ids?;
    let id_of = |side: &Side| &ids[usize::from(side.who != sides[0].who)];
    for side in sides {
        // The first one finds nothing in the guest's caches.
        exec(&mut *side.api()?, &side.socket, id_of(side))?;
    }
    interleaved(rounds, sides, |side| {
        measured.batch(side, id_of(side))?;
        measured.parallel(side, id_of(side))
    })?;
    for side in sides {
        side.remove(id_of(side))?;
    }
    Ok(measured)
}

impl Measured {
    fn batch(&mut self, side: &Side, id: &String) -> anyhow::Result<()> {
        let processes = processes::of(side, std::slice::from_ref(id));
        let spent = |part: Part| -> Duration {
            let of_part = processes.iter().filter(|process| process.part == part);
            of_part.map(processes::Process::processor_time).sum()
        };
        let parts = [Part::Daemon, Part::Keeper, Part::Emulator];
        let before = parts.map(spent);
        let mut total = Duration::ZERO;
        for _ in 0..BATCH {
            let took = exec(&mut *side.api()?, &side.socket, id)?;
            self.round_trip.add(side, took);
            total += took;
        }
        self.rate.add_number(side, f64::from(BATCH) / total.as_secs_f64());
        let after = parts.map(spent);
        let figures = [&mut self.daemon, &mut self.keeper, &mut self.emulator];
        for (figures, (before, after)) in figures.into_iter().zip(before.into_iter().zip(after)) {
            figures.add(side, after.saturating_sub(before) / BATCH);
        }
        Ok(())
    }

    fn parallel(&mut self, side: &Side, id: &str) -> anyhow::Result<()> {
        let socket = side.socket.as_path();
        let started = Instant::now();
        thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| several(socket, id))).collect();
            clients
                .into_iter()
                .try_for_each(|client| client.join().map_err(|_panic| anyhow!("a client panicked"))?)
        })?;
        self.parallel_rate.add_number(side, f64::from(BATCH * CLIENTS) / started.elapsed().as_secs_f64());
        Ok(())
    }
}

fn several(socket: &Path, id: &str) -> anyhow::Result<()> {
    let mut api = Connection::open(socket)?;
    (0..BATCH).try_for_each(|_| exec(&mut api, socket, id).map(drop))
}

/// As the docker CLI does it: made on one connection, attached to on another.
fn exec(api: &mut Connection, socket: &Path, id: &str) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let body = json!({ "Cmd": ["true"], "AttachStdout": true, "AttachStderr": true });
    let made = api.ask("POST", &format!("/containers/{id}/exec"), Some(&body))?;
    let exec_id = made["Id"].as_str().context("an exec has an id")?;
    let attached = Connection::open(socket)?;
    let mut output = attached.take_over(&format!("/exec/{exec_id}/start"), Some(&json!({})))?;
    payload_bytes(&mut output, u64::MAX)?;
    let took = started.elapsed();
    let ended = api.ask("GET", &format!("/exec/{exec_id}/json"), None)?;
    if ended["ExitCode"] != 0 {
        bail!("`true` in a container ended with {}", ended["ExitCode"]);
    }
    Ok(took)
}
