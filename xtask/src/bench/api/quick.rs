//! What no container has to run for: pings, lists, and containers that are made and removed again.

use std::time::Instant;

use serde_json::json;

use super::pair::{Pair, interleaved};
use super::side::Side;
use crate::progress;

/// Containers that are there when the list is asked for.
pub(super) const LISTED: [usize; 4] = [0, 1, 50, 100];
/// What takes microseconds is asked for this often in each round.
const REPEATS: usize = 10;

#[derive(Default)]
pub(super) struct Measured {
    pub(super) ping: Pair,
    /// In the order of [`LISTED`].
    pub(super) lists: [Pair; LISTED.len()],
    pub(super) create: Pair,
    pub(super) remove: Pair,
}

pub(super) fn measure(rounds: u32, sides: &[Side]) -> anyhow::Result<Measured> {
    progress::heading("pings, lists, containers that never run");
    let mut measured = Measured::default();
    interleaved(rounds, sides, |side| {
        for _ in 0..REPEATS {
            measured.create_and_remove(side)?;
        }
        repeated(&mut measured.ping, side, "/_ping")
    })?;
    let mut kept = vec![Vec::new(); sides.len()];
    for (count, pair) in LISTED.into_iter().zip(&mut measured.lists) {
        for (side, ids) in sides.iter().zip(&mut kept) {
            while ids.len() < count {
                ids.push(side.create(&["true"], &json!({}))?.0);
            }
        }
        interleaved(rounds, sides, |side| repeated(pair, side, "/containers/json?all=1"))?;
    }
    for (side, ids) in sides.iter().zip(&kept) {
        for id in ids {
            side.remove(id)?;
        }
    }
    Ok(measured)
}

fn repeated(pair: &mut Pair, side: &Side, path: &str) -> anyhow::Result<()> {
    for _ in 0..REPEATS {
        let mut api = side.api()?;
        let started = Instant::now();
        api.count("GET", path)?;
        pair.add(side, started.elapsed());
    }
    Ok(())
}

impl Measured {
    fn create_and_remove(&mut self, side: &Side) -> anyhow::Result<()> {
        let (id, took) = side.create(&["true"], &json!({}))?;
        self.create.add(side, took);
        self.remove.add(side, side.remove(&id)?);
        Ok(())
    }
}
