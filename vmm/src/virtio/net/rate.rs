//! How fast a card is: a bucket of bytes each way, filled at the rate, which a frame empties as far as it is long.
//!
//! A frame passes while there is anything in the bucket, and may leave a debt: no frame is too long for a bucket, and the
//! rate holds over time all the same.

use std::time::{Duration, Instant};

use crate::config::{CardRates, Rate};

const NANOSECONDS: i128 = 1_000_000_000;
/// Who has to wait waits at least so long: a card that is slow must not keep its thread busy.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// The buckets of a card.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) to_guest: Limit,
    pub(super) to_network: Limit,
}

/// One way's, if that way has a rate.
#[derive(Debug)]
pub(super) struct Limit(Option<Bucket>);

#[derive(Debug)]
struct Bucket {
    rate: Rate,
    /// In billionths of a byte: what a nanosecond brings at a byte a second. Below zero it is a debt.
    level: i128,
    filled_at: Instant,
}

impl Limits {
    pub(super) fn new(rates: CardRates) -> Self {
        Self { to_guest: Limit::new(rates.to_guest), to_network: Limit::new(rates.to_network) }
    }
}

impl Limit {
    fn new(rate: Option<Rate>) -> Self {
        Self(rate.map(|rate| Bucket::new(rate, Instant::now())))
    }

    /// How long the next frame has to wait; nothing if it may pass.
    pub(super) fn wait(&mut self) -> Option<Duration> {
        let bucket = self.0.as_mut()?;
        bucket.fill(Instant::now());
        bucket.wait()
    }

    /// A frame has passed.
    pub(super) fn take(&mut self, bytes: usize) {
        if let Some(bucket) = &mut self.0 {
            bucket.take(bytes);
        }
    }
}

impl Bucket {
    fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, level: i128::from(rate.burst_bytes) * NANOSECONDS, filled_at: now }
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled_at).as_nanos();
        let brought = i128::try_from(passed).unwrap_or(i128::MAX);
        let full = i128::from(self.rate.burst_bytes) * NANOSECONDS;
        let level = self.level.saturating_add(brought.saturating_mul(i128::from(self.rate.bytes_per_second)));
        self.level = level.min(full);
        self.filled_at = now;
    }

    fn wait(&self) -> Option<Duration> {
        if self.level > 0 {
            return None;
        }
        let nanoseconds = -self.level / i128::from(self.rate.bytes_per_second).max(1) + 1;
        let wait = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        Some(wait.max(SHORTEST_WAIT))
    }

    fn take(&mut self, bytes: usize) {
        let bytes = i128::try_from(bytes).unwrap_or(i128::MAX / NANOSECONDS);
        self.level = self.level.saturating_sub(bytes * NANOSECONDS);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE: Rate = Rate { bytes_per_second: 1_000_000, burst_bytes: 10_000 };

    fn after(begun: Instant, milliseconds: u64) -> Instant {
        begun + Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let begun = Instant::now();
        let mut bucket = Bucket::new(RATE, begun);
        let mut passed = 0;
        for millisecond in 0..1000 {
            bucket.fill(after(begun, millisecond));
            while bucket.wait().is_none() {
                bucket.take(1500);
                passed += 1500;
            }
        }
        assert!((1_008_000..=1_012_000).contains(&passed), "{passed} bytes in a second");
        bucket.fill(after(begun, 60_000));
        assert_eq!(bucket.level, 10_000 * NANOSECONDS, "a long pause brings no more than a burst");
    }

    #[test]
    fn a_frame_that_is_longer_than_a_burst_passes_and_is_paid_for() {
        let begun = Instant::now();
        let mut bucket = Bucket::new(RATE, begun);
        assert_eq!(bucket.wait(), None);
        bucket.take(60_000);
        assert_eq!(bucket.wait(), Some(Duration::from_nanos(50_000_001)));
        bucket.fill(after(begun, 49));
        assert_eq!(bucket.wait(), Some(Duration::from_nanos(1_000_001)));
        bucket.fill(after(begun, 51));
        assert_eq!(bucket.wait(), None);
        bucket.fill(begun);
        assert_eq!(bucket.wait(), None, "a clock that goes back brings nothing and takes nothing");
    }

    #[test]
    fn without_a_rate_nobody_waits() {
        let mut limit = Limit::new(None);
        limit.take(usize::MAX);
        assert_eq!(limit.wait(), None);
        let mut limit = Limit::new(Some(RATE));
        assert_eq!(limit.wait(), None);
        limit.take(1_000_000_000);
        assert!(limit.wait().is_some_and(|wait| wait > Duration::from_secs(900)));
    }

    proptest! {
        /// However frames and pauses come, no more passes than the rate, a burst and the last frame's debt.
        #[test]
        fn no_more_passes_than_was_filled(
            rate in 1_u64..1 << 30,
            burst in 1_u64..1 << 20,
            steps in prop::collection::vec((0_u64..50_000, 1_usize..70_000), 1..200),
        ) {
            let begun = Instant::now();
            let mut bucket = Bucket::new(Rate { bytes_per_second: rate, burst_bytes: burst }, begun);
            let (mut now, mut passed) = (begun, 0_u128);
            for (microseconds, bytes) in steps {
                now += Duration::from_micros(microseconds);
                bucket.fill(now);
                if bucket.wait().is_none() {
                    bucket.take(bytes);
                    passed += bytes as u128;
                }
                let brought = (now - begun).as_nanos() * u128::from(rate) / 1_000_000_000;
                prop_assert!(passed <= brought + u128::from(burst) + 70_000);
            }
        }
    }
}
