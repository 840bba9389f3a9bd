//! What the daemons take of the host's memory, with and without containers.

use std::thread;
use std::time::Duration;

use super::pair::Pair;
use super::processes::{self, Part};
use super::side::{Side, Who};
use crate::progress;

/// So many containers' memory is divided by their number.
const CONTAINERS: u32 = 3;
/// What was just asked for has come to rest.
const REST: Duration = Duration::from_secs(3);

/// In MiB, proportional shares.
#[derive(Default)]
pub(super) struct Measured {
    pub(super) idle: Pair,
    /// The daemon's growth and what there is for each container, its program and its guest's memory left out.
    pub(super) per_container: Pair,
    /// Of that, what emulates the guest's processor.
    pub(super) per_emulator: Pair,
}

pub(super) fn measure(sides: &[Side]) -> anyhow::Result<Measured> {
    progress::heading("memory");
    thread::sleep(REST);
    let mut measured = Measured::default();
    for side in sides {
        let idle_kib = proportional_kib(side, &[], Part::Daemon);
        measured.idle.add_number(side, mebibytes(idle_kib, 1));
        let started: anyhow::Result<Vec<String>> = (0..CONTAINERS).map(|_| side.start_idle()).collect();
        let ids = started?;
        thread::sleep(REST);
        let growth_kib = proportional_kib(side, &ids, Part::Daemon).saturating_sub(idle_kib);
        let keepers_kib = proportional_kib(side, &ids, Part::Keeper);
        let emulators_kib = proportional_kib(side, &ids, Part::Emulator);
        let all_kib = growth_kib + keepers_kib + emulators_kib;
        measured.per_container.add_number(side, mebibytes(all_kib, CONTAINERS));
        if side.who == Who::Berth {
            measured.per_emulator.add_number(side, mebibytes(emulators_kib, CONTAINERS));
        }
        for id in &ids {
            side.remove(id)?;
        }
    }
    Ok(measured)
}

/// Of all its processes of that part.
fn proportional_kib(side: &Side, containers: &[String], part: Part) -> u64 {
    let processes = processes::of(side, containers);
    let of_part = processes.iter().filter(|process| process.part == part);
    of_part.map(|process| process.proportional_kib(side.guest_bytes)).sum()
}

fn mebibytes(kib: u64, divided_by: u32) -> f64 {
    super::super::report::as_mib_from_kib(kib) / f64::from(divided_by)
}
