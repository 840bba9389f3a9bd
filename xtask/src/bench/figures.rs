//! A set of measured numbers, summed up by its order: minimum, median, 90th percentile.

use std::time::Duration;

/// Numbers of equal runs; durations are in milliseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    sorted: Vec<f64>,
}

impl Figures {
    pub(super) fn add(&mut self, duration: Duration) {
        self.add_number(duration.as_secs_f64() * 1000.0);
    }

    pub(super) fn add_number(&mut self, number: f64) {
        let place = self.sorted.partition_point(|present| *present <= number);
        self.sorted.insert(place, number);
    }

    /// The smallest value that at least `percent` of all are not above; `None` without values.
    pub(super) fn percentile(&self, percent: usize) -> Option<f64> {
        let rank = (self.sorted.len() * percent).div_ceil(100).max(1);
        self.sorted.get(rank - 1).copied()
    }

    /// "min / p50 / p90"; one number alone stands for itself.
    pub(super) fn summary(&self) -> String {
        self.summary_to(1)
    }

    /// The same with this many digits behind the point.
    pub(super) fn summary_to(&self, digits: usize) -> String {
        let figure = |percent| {
            self.percentile(percent).map_or_else(|| "-".into(), |number| format!("{number:.digits$}"))
        };
        if self.sorted.len() == 1 {
            return figure(50);
        }
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
    fn one_number_is_no_distribution() {
        let mut figures = Figures::default();
        figures.add_number(2.5);
        assert_eq!(figures.summary(), "2.5");
    }

    #[test]
    fn nothing_measured_is_said() {
        assert_eq!(Figures::default().summary(), "- / - / -");
    }
}
