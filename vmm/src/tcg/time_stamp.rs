//! How fast the processor's time stamp counter runs: software emulation gives the guest the host's counter, and a
//! guest that must measure it itself has nothing good to measure it with.
#![expect(unsafe_code, reason = "the instruction that reads the counter is an unsafe intrinsic")]

use std::ops::RangeInclusive;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A reading is taken this often, and the least disturbed one used.
const READINGS: usize = 8;
/// Slower and faster than any processor: a measurement outside was disturbed beyond use.
const PLAUSIBLE_KHZ: RangeInclusive<u128> = 100_000..=10_000_000;

/// The counter at a time of the clock that nobody adjusts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    counter: u64,
    time: Duration,
    /// How long it took, in ticks of the counter: the less, the truer.
    ticks: u64,
}

impl Reading {
    /// Reads both, a few times over.
    pub(super) fn now() -> Self {
        let readings = std::iter::repeat_with(Self::once).take(READINGS);
        readings.min_by_key(|reading| reading.ticks).expect("at least one reading")
    }

    fn once() -> Self {
        let before = counter();
        let time = clock_gettime(ClockId::MonotonicRaw);
        let ticks = counter().wrapping_sub(before);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
        Self { counter: before.wrapping_add(ticks / 2), time: Duration::new(seconds, nanoseconds), ticks }
    }

    /// The counter's frequency in kHz, from an earlier reading to this one; the further apart, the truer.
    pub(super) fn khz_since(&self, earlier: &Self) -> Option<u64> {
        let ticks = u128::from(self.counter.checked_sub(earlier.counter)?);
        let elapsed = self.time.checked_sub(earlier.time)?.as_nanos();
        let khz = (ticks * 1_000_000 + elapsed / 2).checked_div(elapsed)?;
        PLAUSIBLE_KHZ.contains(&khz).then(|| u64::try_from(khz).ok())?
    }
}

fn counter() -> u64 {
    // SAFETY: RDTSC is in every x86-64 processor; it touches no memory.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(counter: u64, milliseconds: u64) -> Reading {
        Reading { counter, time: Duration::from_millis(milliseconds), ticks: 0 }
    }

    #[test]
    fn the_frequency_is_ticks_by_time() {
        assert_eq!(reading(27_000_500, 15).khz_since(&reading(500, 5)), Some(2_700_000));
    }

    #[test]
    fn an_impossible_measurement_is_none() {
        let base = reading(1000, 5);
        for later in
            [reading(1000, 5), reading(999, 6), reading(2000, 4), reading(1001, 6), reading(u64::MAX, 6)]
        {
            assert_eq!(later.khz_since(&base), None, "{later:?}");
        }
    }

    #[test]
    fn two_measurements_of_this_host_agree() {
        let readings = [(); 3].map(|()| {
            std::thread::sleep(Duration::from_millis(20));
            Reading::now()
        });
        let one = readings[1].khz_since(&readings[0]).unwrap();
        let two = readings[2].khz_since(&readings[1]).unwrap();
        assert!(one.abs_diff(two) < one / 500, "{one} and {two} kHz");
    }
}
