//! The two clocks the agent reads, in the units its messages use.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Microseconds since the kernel's entry.
pub(crate) fn since_boot_us() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let microseconds = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1_000);
    u64::try_from(microseconds).unwrap_or(0)
}

/// The guest's wall clock, in nanoseconds since 1970.
pub(crate) fn unix_time_ns() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec.saturating_mul(NANOSECONDS).saturating_add(now.tv_nsec)
}

/// Sets the wall clock.
///
/// # Errors
/// A time before 1970, or one that the kernel refuses.
pub(crate) fn set_unix_time(nanoseconds: i64) -> rustix::io::Result<()> {
    let time = Timespec {
        tv_sec: nanoseconds.div_euclid(NANOSECONDS),
        tv_nsec: nanoseconds.rem_euclid(NANOSECONDS),
    };
    rustix::time::clock_settime(ClockId::Realtime, time)
}

const NANOSECONDS: i64 = 1_000_000_000;
