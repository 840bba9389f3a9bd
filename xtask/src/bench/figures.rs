//! A set of measured durations, summed up by its order: minimum, median, 90th percentile.

use std::time::Duration;

/// Durations of equal runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    sorted_ms: Vec<f64>,
}

impl Figures {
    pub(super) fn add(&mut self, duration: Duration) {
        self.add_ms(duration.as_secs_f64() * 1000.0);
    }

    pub(super) fn add_ms(&mut self, milliseconds: f64) {
        let place = self.sorted_ms.partition_point(|present| *present <= milliseconds);
        self.sorted_ms.insert(place, milliseconds);
    }

    /// The smallest value that at least `percent` of all are not above; `None` without values.
    pub(super) fn percentile_ms(&self, percent: usize) -> Option<f64> {
        let rank = (self.sorted_ms.len() * percent).div_ceil(100).max(1);
        self.sorted_ms.get(rank - 1).copied()
    }

    /// "min / p50 / p90" in milliseconds.
    pub(super) fn summary(&self) -> String {
        self.summary_to(1)
    }

    /// The same with this many digits behind the point.
    pub(super) fn summary_to(&self, digits: usize) -> String {
        let figure =
            |percent| self.percentile_ms(percent).map_or_else(|| "-".into(), |ms| format!("{ms:.digits$}"));
        format!("{} / {} / {}", figure(0), figure(50), figure(90))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_off_in_order() {
        let mut figures = Figures::default();
        (1..=10).rev().for_each(|ms| figures.add(Duration::from_millis(ms)));
        assert_eq!(figures.summary(), "1.0 / 5.0 / 9.0");
    }

    #[test]
    fn nothing_measured_is_said() {
        assert_eq!(Figures::default().summary(), "- / - / -");
    }
}
