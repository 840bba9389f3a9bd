//! The same measured on both sides, and the order in which it is.

use std::time::Duration;

use super::super::figures::Figures;
use super::side::{Side, Who};

#[derive(Clone, Debug, Default)]
pub(super) struct Pair {
    pub(super) ours: Figures,
    pub(super) peer: Figures,
}

impl Pair {
    pub(super) fn add(&mut self, side: &Side, duration: Duration) {
        self.of(side).add(duration);
    }

    pub(super) fn add_number(&mut self, side: &Side, number: f64) {
        self.of(side).add_number(number);
    }

    fn of(&mut self, side: &Side) -> &mut Figures {
        match side.who {
            Who::Berth => &mut self.ours,
            Who::Peer => &mut self.peer,
        }
    }

    /// Ours divided by the peer's, of the medians.
    pub(super) fn ratio(&self) -> Option<f64> {
        let (ours, peer) = (self.ours.percentile(50)?, self.peer.percentile(50)?);
        (peer > 0.0).then(|| ours / peer)
    }
}

/// A B B A: neither side always comes first.
pub(super) fn interleaved(
    rounds: u32,
    sides: &[Side],
    mut work: impl FnMut(&Side) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for round in 0..rounds {
        let mut order: Vec<&Side> = sides.iter().collect();
        if round % 2 == 1 {
            order.reverse();
        }
        order.into_iter().try_for_each(&mut work)?;
    }
    Ok(())
}
