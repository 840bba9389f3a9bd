//! What the user sees while something takes long: headings, durations, a bar that says how far it is.
//!
//! All of it goes to standard error, so that standard output carries results only.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const HEADING: Style = AnsiColor::Green.on_default().bold();
const FAILURE: Style = AnsiColor::Red.on_default().bold();
/// Where there is no terminal, a line this often shows that work goes on.
const QUIET_INTERVAL: Duration = Duration::from_secs(20);

/// Announces a step.
pub(crate) fn heading(text: impl Display) {
    anstream::eprintln!("{HEADING}==>{HEADING:#} {text}");
}

/// A remark under the current heading.
pub(crate) fn note(text: impl Display) {
    anstream::eprintln!("    {text}");
}

/// The error and what led to it, as one block.
pub(crate) fn failure(error: &anyhow::Error) {
    anstream::eprintln!("{FAILURE}error:{FAILURE:#} {error:#}");
}

/// A duration for people.
pub(crate) fn seconds(duration: Duration) -> String {
    match duration.as_secs() {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        whole => format!("{} min {:02} s", whole / 60, whole % 60),
    }
}

/// Counts items of one long step, on a terminal as a bar, elsewhere as a line now and then.
pub(crate) struct Counter {
    bar: ProgressBar,
    label: &'static str,
    expected: u64,
    last_line: Instant,
}

impl Counter {
    /// `expected` need not be exact; it scales the bar.
    pub(crate) fn new(label: &'static str, expected: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(expected), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("    {msg:10} [{bar:40}] {pos}/{len}  {elapsed}")
            .expect("the template is well-formed");
        bar.set_style(style.progress_chars("=> "));
        bar.set_message(label);
        Self { bar, label, expected, last_line: Instant::now() }
    }

    /// One more item is done.
    pub(crate) fn advance(&mut self) {
        let position = self.bar.position() + 1;
        if position > self.expected {
            self.bar.set_length(position);
        }
        self.bar.set_position(position);
        if self.bar.is_hidden() && self.last_line.elapsed() >= QUIET_INTERVAL {
            self.last_line = Instant::now();
            note(format_args!("{} {position} of about {}", self.label, self.expected));
        }
    }

    /// Takes the bar away and says how many items there were.
    pub(crate) fn finish(self) -> u64 {
        self.bar.finish_and_clear();
        self.bar.position()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(seconds(Duration::from_millis(1_240)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(290)), "4 min 50 s");
        assert_eq!(seconds(Duration::from_secs(60)), "1 min 00 s");
    }

    #[test]
    fn a_counter_may_pass_what_was_expected() {
        let mut counter = Counter::new("files", 2);
        for _ in 0..5 {
            counter.advance();
        }
        assert_eq!(counter.finish(), 5);
    }
}
