//! Machines made, heard and destroyed per second, on all processors: goal 10.
//!
//! As many starters as there are processors; each kills its machine as soon as it has written, and leaves waiting for
//! the end of its teardown to a thread of its own, as a daemon does. The clock stops when all are gone.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::monitor::{Guest, Host, Side};
use crate::progress;

const MACHINES_PER_STARTER: u32 = 40;
/// Each side in two blocks, A B B A.
const BLOCKS: [Side; 4] = [Side::Ours, Side::Peer, Side::Peer, Side::Ours];

pub(super) struct Measured {
    pub(super) starters: u32,
    /// Machines per second.
    pub(super) ours: f64,
    pub(super) peer: Option<f64>,
}

pub(super) fn measure(host: &Host) -> anyhow::Result<Measured> {
    let starters = thread::available_parallelism().map_or(1, usize::from);
    let starters = u32::try_from(starters).context("more processors than can be counted")?;
    progress::heading(format_args!("machines per second, {starters} at a time"));
    let (mut ours, mut peer) = (Duration::ZERO, Duration::ZERO);
    for side in BLOCKS {
        match side {
            Side::Ours => ours += block(host, side, starters)?,
            Side::Peer if Host::has_peer() => peer += block(host, side, starters)?,
            Side::Peer => {}
        }
    }
    let machines = f64::from(2 * starters * MACHINES_PER_STARTER);
    let per_second = |took: Duration| machines / took.as_secs_f64();
    Ok(Measured { starters, ours: per_second(ours), peer: (!peer.is_zero()).then(|| per_second(peer)) })
}

fn block(host: &Host, side: Side, starters: u32) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    thread::scope(|scope| {
        let starter = || -> anyhow::Result<()> {
            for _ in 0..MACHINES_PER_STARTER {
                let machine = host.start(side, Guest::Stub)?;
                scope.spawn(move || drop(machine));
            }
            Ok(())
        };
        let running: Vec<_> = (0..starters).map(|_| scope.spawn(starter)).collect();
        running.into_iter().try_for_each(|thread| thread.join().expect("a starter does not panic"))
    })?;
    Ok(begun.elapsed())
}
