//! Whole lives of containers: from start to the first byte, to the end, and what ends and removes them.

use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use serde_json::json;

use super::pair::{Pair, interleaved};
use super::side::{IMAGE, Side};
use crate::progress;

#[derive(Default)]
pub(super) struct Measured {
    /// `docker run --rm busybox true`, from typing to its exit.
    pub(super) command_line: Pair,
    pub(super) start: Pair,
    pub(super) first_byte: Pair,
    /// From the request to start until the wait for the end is answered.
    pub(super) whole: Pair,
    pub(super) remove_ended: Pair,
    pub(super) stop: Pair,
    pub(super) remove_running: Pair,
}

pub(super) fn measure(rounds: u32, sides: &[Side]) -> anyhow::Result<Measured> {
    progress::heading("containers that run");
    let mut measured = Measured::default();
    interleaved(rounds, sides, |side| {
        measured.command_line.add(side, side.docker(&["run", "--rm", "--network=none", IMAGE, "true"])?);
        measured.short(side)?;
        measured.long(side)
    })?;
    Ok(measured)
}

impl Measured {
    fn short(&mut self, side: &Side) -> anyhow::Result<()> {
        let (id, _took) = side.create(&["echo", "here"], &json!({}))?;
        let mut output = side.attach(&id, "stdout=1&stderr=1")?;
        let (started, first, ended) = thread::scope(|scope| {
            let reading = scope.spawn(move || output.read_exact(&mut [0]).map(|()| Instant::now()));
            let started = Instant::now();
            self.start.add(side, side.start(&id)?);
            side.wait(&id)?;
            let ended = started.elapsed();
            let first = reading.join().map_err(|_panic| anyhow!("the reader panicked"))?;
            Ok::<(Instant, Instant, Duration), anyhow::Error>((started, first.context("no output")?, ended))
        })?;
        self.first_byte.add(side, first - started);
        self.whole.add(side, ended);
        self.remove_ended.add(side, side.remove(&id)?);
        Ok(())
    }

    fn long(&mut self, side: &Side) -> anyhow::Result<()> {
        let id = side.start_idle()?;
        self.stop.add(side, side.stop(&id)?);
        side.remove(&id)?;
        let id = side.start_idle()?;
        self.remove_running.add(side, side.remove(&id)?);
        Ok(())
    }
}
