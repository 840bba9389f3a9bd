//! Waiting for what is bound to happen, on a host that may be busy.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Longer than anything takes on a loaded host, a boot on software KVM included; a test that gets here has failed.
pub(crate) const DEADLINE: Duration = Duration::from_mins(10);
const STEP: Duration = Duration::from_millis(50);

/// Waits until `holds`, or fails with what it waited for.
///
/// # Panics
/// When the deadline passes.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "waited {} s for: {what}", DEADLINE.as_secs());
        sleep(STEP);
    }
}
