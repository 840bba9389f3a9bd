//! What the daemon reports while it loads, pulls or pushes an image: on a terminal one line for each layer, with a
//! bar while its bytes move; plain lines elsewhere.

use std::collections::HashMap;
use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Deserialize;

use crate::client::{ClientError, JsonLines};
use crate::outcome::Failure;
use crate::output::{note, print};

/// Bars shown at a time; a hostile daemon cannot fill the memory with more.
const MAX_BARS: usize = 256;
/// The daemon's own failures inside a stream have no HTTP status of their own.
const INTERNAL_ERROR: u16 = 500;

/// One object of Docker's progress stream.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Report {
    id: String,
    status: String,
    stream: String,
    #[serde(rename = "progressDetail")]
    detail: Option<Detail>,
    #[serde(rename = "errorDetail")]
    error_detail: Option<ErrorDetail>,
    error: String,
}

/// Bytes done and bytes in all; zero of all means unknown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Detail {
    current: u64,
    total: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorDetail {
    message: String,
}

/// Which of our streams the lines belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lines {
    Stdout,
    Stderr,
    Nowhere,
}

/// The bars of one operation. They are drawn on standard error, and only if that is a terminal.
pub(super) struct Progress {
    bars: MultiProgress,
    by_id: HashMap<String, ProgressBar>,
    lines: Lines,
    /// Bars have a place.
    drawn: bool,
    /// Bars and lines share a terminal: what changes is drawn over, not repeated.
    together: bool,
}

impl Progress {
    pub(super) fn new(lines: Lines) -> Self {
        let drawn = lines != Lines::Nowhere && std::io::stderr().is_terminal();
        let together = drawn && (lines == Lines::Stderr || std::io::stdout().is_terminal());
        Self { bars: MultiProgress::new(), by_id: HashMap::new(), lines, drawn, together }
    }

    /// A bar for `total_bytes` of our own, hidden where bars have no place.
    pub(super) fn bytes_bar(&self, name: &str, total_bytes: u64) -> ProgressBar {
        if !self.drawn || total_bytes == 0 {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(total_bytes).with_style(moving()).with_message(name.to_owned());
        self.bars.add(bar)
    }

    /// A count of bytes of which nobody knows how many there will be, hidden where bars have no place.
    pub(super) fn counter(&self, name: &str) -> ProgressBar {
        if !self.drawn {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(0).with_style(counting()).with_message(name.to_owned());
        self.bars.add(bar)
    }

    /// Shows the stream until it ends.
    ///
    /// # Errors
    /// What the daemon reports as an error inside the stream, and a stream that breaks.
    pub(super) async fn show(mut self, mut reports: JsonLines) -> Result<(), Failure> {
        while let Some(report) = reports.next::<Report>().await? {
            self.show_one(report)?;
        }
        Ok(())
    }

    fn show_one(&mut self, report: Report) -> Result<(), Failure> {
        let error = report.error_detail.map_or(report.error, |detail| detail.message);
        if !error.is_empty() {
            self.leave_bars();
            return Err(ClientError::Refused { status: INTERNAL_ERROR, message: error }.into());
        }
        if !report.stream.is_empty() {
            return self.line(report.stream.trim_end_matches('\n'));
        }
        let detail = report.detail.unwrap_or_default();
        if report.id.is_empty() {
            self.leave_bars();
            return self.line(&report.status);
        }
        if self.together && (self.by_id.len() < MAX_BARS || self.by_id.contains_key(&report.id)) {
            self.draw(&report.id, &report.status, &detail);
            return Ok(());
        }
        // Where nothing is drawn over, only what changes is said: not how far it is.
        if detail.current > 0 { Ok(()) } else { self.line(&format!("{}: {}", report.id, report.status)) }
    }

    fn draw(&mut self, id: &str, status: &str, detail: &Detail) {
        let bars = &self.bars;
        let bar = self.by_id.entry(id.to_owned()).or_insert_with(|| bars.add(ProgressBar::new(0)));
        match detail {
            Detail { total: 0, current: 0 } => bar.set_style(resting()),
            Detail { total: 0, .. } => bar.set_style(counting()),
            Detail { .. } => bar.set_style(moving()),
        }
        // Each change draws: what stays the same is not said again.
        if bar.length() != Some(detail.total) {
            bar.set_length(detail.total);
        }
        bar.set_position(detail.current);
        let message = format!("{id}: {status}");
        if bar.message() != message {
            bar.set_message(message);
        }
    }

    /// What was drawn stays as it is; what comes next is below it.
    fn leave_bars(&mut self) {
        if self.by_id.is_empty() {
            return;
        }
        for (_, bar) in self.by_id.drain() {
            bar.abandon();
        }
        self.bars = MultiProgress::new();
    }

    /// A line between the bars.
    fn line(&self, text: &str) -> Result<(), Failure> {
        if text.is_empty() {
            return Ok(());
        }
        self.bars.suspend(|| match self.lines {
            Lines::Stdout => print(&format!("{text}\n")),
            Lines::Stderr => {
                note(text);
                Ok(())
            }
            Lines::Nowhere => Ok(()),
        })
    }
}

/// A layer whose size is known.
fn moving() -> ProgressStyle {
    template("{msg} [{bar:40}] {decimal_bytes}/{decimal_total_bytes}").progress_chars("=> ")
}

/// A layer whose size nobody said.
fn counting() -> ProgressStyle {
    template("{msg} {decimal_bytes}")
}

/// A layer that waits, or is done.
fn resting() -> ProgressStyle {
    template("{msg}")
}

fn template(text: &str) -> ProgressStyle {
    ProgressStyle::with_template(text).expect("the templates are constants")
}
