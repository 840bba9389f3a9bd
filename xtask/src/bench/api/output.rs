//! How fast a container's output goes into its log, to a client that is attached, and out of the log again.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::json;

use super::http::{Connection, Stream, payload_bytes};
use super::pair::{Pair, interleaved};
use super::side::Side;
use crate::progress;

/// Lines of a hundred bytes.
const LINE: &str =
    "0123456789 abcdefghijklmnopqrstuvwxyz 0123456789 ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789 abcdefghijk";
const LINES: u64 = 160 * 1024;
/// How often all lines are said: so that what a program's start and a container's end take weighs little.
const TIMES: usize = 1;
/// With their newlines.
const BYTES: u64 = TIMES as u64 * LINES * (LINE.len() as u64 + 1);

/// Reads of a log until it is whole.
const MAX_READS: usize = 50;

/// In MB a second.
#[derive(Default)]
pub(super) struct Measured {
    /// Nobody listens; until the container's end is told.
    pub(super) logged: Pair,
    /// Until a client that is attached has all of it.
    pub(super) attached: Pair,
    /// `logs` of a container that has ended.
    pub(super) read: Pair,
}

pub(super) fn measure(rounds: u32, sides: &[Side]) -> anyhow::Result<Measured> {
    progress::heading("output");
    let mut measured = Measured::default();
    interleaved(rounds, sides, |side| {
        measured.log(side)?;
        measured.attach(side)
    })?;
    Ok(measured)
}

/// How long it takes to read a log that is whole. A daemon may tell of a container's end before its last lines are kept.
fn read_whole_log(side: &Side, id: &str) -> anyhow::Result<Duration> {
    let mut bytes = 0;
    for _attempt in 0..MAX_READS {
        let started = Instant::now();
        bytes = side.api()?.count("GET", &format!("/containers/{id}/logs?stdout=1"))?;
        if bytes as u64 >= BYTES {
            return Ok(started.elapsed());
        }
    }
    bail!("{bytes} bytes of a log of {BYTES}")
}

impl Measured {
    fn log(&mut self, side: &Side) -> anyhow::Result<()> {
        let (id, mut input) = ready(side, "stdin=1")?;
        let started = Instant::now();
        input.get_mut().write_all(b"\n")?;
        side.wait(&id)?;
        self.logged.add_number(side, rate(started.elapsed()));
        self.read.add_number(side, rate(read_whole_log(side, &id)?));
        side.remove(&id)?;
        Ok(())
    }

    fn attach(&mut self, side: &Side) -> anyhow::Result<()> {
        let (id, mut stream) = ready(side, "stdin=1&stdout=1")?;
        // "ready" and its newline.
        payload_bytes(&mut stream, 6)?;
        let started = Instant::now();
        stream.get_mut().write_all(b"\n")?;
        let bytes = payload_bytes(&mut stream, u64::MAX)?;
        self.attached.add_number(side, rate(started.elapsed()));
        if bytes != BYTES {
            bail!("{bytes} bytes of {BYTES} came");
        }
        side.remove(&id)?;
        Ok(())
    }
}

/// A container that has everything in its memory, and says it all once it is sent a line.
fn ready(side: &Side, streams: &str) -> anyhow::Result<(String, Stream)> {
    let script =
        format!("yes '{LINE}' | head -n {LINES} > /dev/shm/lines; echo ready; read go; cat /dev/shm/lines");
    let (id, _took) =
        side.create(&["sh", "-c", &script], &json!({ "OpenStdin": true, "StdinOnce": true }))?;
    let stream = side.attach(&id, streams)?;
    side.start(&id)?;
    // Its log tells that it is.
    let log = Connection::open(&side.socket)?;
    log.until(&format!("/containers/{id}/logs?stdout=1&follow=1"), b"ready")?;
    Ok((id, stream))
}

fn rate(took: Duration) -> f64 {
    // Far below 2^52: exact.
    f64::from(u32::try_from(BYTES).unwrap_or(u32::MAX)) / 1e6 / took.as_secs_f64()
}
