//! What the daemon reports while it loads or pulls an image: bars on a terminal, plain lines elsewhere.

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
    interactive: bool,
}

impl Progress {
    pub(super) fn new(lines: Lines) -> Self {
        let interactive = lines != Lines::Nowhere && std::io::stderr().is_terminal();
        Self { bars: MultiProgress::new(), by_id: HashMap::new(), lines, interactive }
    }

    /// A bar for `total_bytes` of our own, hidden where bars have no place.
    pub(super) fn bytes_bar(&self, name: &str, total_bytes: u64) -> ProgressBar {
        if !self.interactive || total_bytes == 0 {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(total_bytes).with_style(style()).with_message(name.to_owned());
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
            return Err(ClientError::Refused { status: INTERNAL_ERROR, message: error }.into());
        }
        if !report.stream.is_empty() {
            return self.line(report.stream.trim_end_matches('\n'));
        }
        match report.detail {
            Some(detail) if !report.id.is_empty() && detail.total > 0 => {
                self.move_bar(&report.id, &report.status, &detail);
                Ok(())
            }
            // The end of a bar, or a step too small to have one.
            _ if self.by_id.contains_key(&report.id) => {
                self.end_bar(&report.id, &report.status);
                Ok(())
            }
            _ if report.id.is_empty() => self.line(&report.status),
            _ => self.line(&format!("{}: {}", report.id, report.status)),
        }
    }

    fn move_bar(&mut self, id: &str, status: &str, detail: &Detail) {
        if !self.interactive || (self.by_id.len() >= MAX_BARS && !self.by_id.contains_key(id)) {
            return;
        }
        let bars = &self.bars;
        let bar = self
            .by_id
            .entry(id.to_owned())
            .or_insert_with(|| bars.add(ProgressBar::new(detail.total).with_style(style())));
        bar.set_length(detail.total);
        bar.set_position(detail.current);
        bar.set_message(format!("{id}: {status}"));
    }

    fn end_bar(&mut self, id: &str, status: &str) {
        if let Some(bar) = self.by_id.get(id) {
            bar.finish_with_message(format!("{id}: {status}"));
        }
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

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{msg} [{bar:50}] {bytes}/{total_bytes}")
        .expect("the template is a constant")
        .progress_chars("=> ")
}
