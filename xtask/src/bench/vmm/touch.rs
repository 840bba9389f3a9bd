//! What restored memory costs a guest that touches it: goal 8.
//!
//! The guest is a stub whose instructions are interpreted, so a fault takes far less than one of a guest's program.

use anyhow::bail;

use super::drivers::Drivers;
use crate::progress;

/// Memory, and how far apart the touched places are, in bytes; they are 64 MiB of pages each time.
const CASES: [(&str, u32, u32); 2] =
    [("one after the other, of 128 MiB", 128, 4096), ("scattered over 1024 MiB", 1024, 61440)];
const PLACES: u32 = 16384;

/// In milliseconds, the loading of the snapshot included.
pub(super) struct Touched {
    pub(super) places: &'static str,
    pub(super) page_by_page_ms: f64,
    pub(super) working_set_ms: f64,
}

pub(super) fn measure(drivers: &Drivers) -> anyhow::Result<Vec<Touched>> {
    progress::heading("64 MiB touched after a restore");
    CASES.into_iter().map(|case| one(drivers, case)).collect()
}

fn one(
    drivers: &Drivers,
    (places, memory_mib, distance): (&'static str, u32, u32),
) -> anyhow::Result<Touched> {
    let variables = [
        ("BERTH_BENCH_MEMORY_MIB", memory_mib.to_string()),
        ("BERTH_BENCH_PLACES", PLACES.to_string()),
        ("BERTH_BENCH_DISTANCE", distance.to_string()),
    ];
    let [page_by_page_us, working_set_us] = drivers.run_all("restored_memory", &variables)?[..] else {
        bail!("the driver of restored memory did not measure both ways");
    };
    Ok(Touched { places, page_by_page_ms: page_by_page_us / 1000.0, working_set_ms: working_set_us / 1000.0 })
}
