//! The page's section on images.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;

use super::super::figures::Figures;
use super::super::report::conditions;
use super::reading::Reading;
use super::side::{Pull, Side};

/// Everything that was measured.
pub(super) struct Measured {
    conditions: String,
    peer_version: Option<String>,
    pub(super) subjects: Vec<Subject>,
    /// Ours, and the peer's.
    pub(super) reading: Option<[Option<Reading>; 2]>,
}

/// One image.
pub(super) struct Subject {
    what: &'static str,
    compressed_bytes: u64,
    unpacked_bytes: u64,
    /// What the host's disk holds of the image disk: layers' data and indexes, and the metadata in front of them.
    pub(super) image_disk_bytes: u64,
    pub(super) ours: Costs,
    pub(super) peer: Costs,
}

/// What one side's pulls cost.
#[derive(Default)]
pub(super) struct Costs {
    wall: Figures,
    cpu: Figures,
    pub(super) from_cached_layers: Figures,
    /// The most of all pulls.
    written_bytes: u64,
    kept_bytes: u64,
}

impl Costs {
    pub(super) fn add(&mut self, pull: &Pull) {
        self.wall.add(pull.wall);
        self.cpu.add(pull.spent.cpu);
        self.written_bytes = self.written_bytes.max(pull.spent.written_bytes);
        self.kept_bytes = self.kept_bytes.max(pull.kept_bytes);
    }
}

impl Subject {
    pub(super) fn new(what: &'static str, archive: &Path) -> anyhow::Result<Self> {
        let compressed_bytes = std::fs::metadata(archive).context("an archive is there")?.len();
        let unpacked_bytes = super::unpacked_bytes(archive)?;
        let (ours, peer) = (Costs::default(), Costs::default());
        Ok(Self { what, compressed_bytes, unpacked_bytes, image_disk_bytes: 0, ours, peer })
    }
}

impl Measured {
    pub(super) fn new(
        runs: u32,
        reading_runs: u32,
        ours: &Side,
        peer: Option<&Side>,
    ) -> anyhow::Result<Self> {
        let accelerator = ours.accelerator.as_deref().context("our daemon tells its accelerator")?;
        let what = format!(
            "{runs} pulls of each, {reading_runs} containers that read; berth {}, accelerator `{accelerator}`",
            ours.version
        );
        Ok(Self {
            conditions: conditions(&what),
            peer_version: peer.map(|peer| peer.version.clone()),
            subjects: Vec::new(),
            reading: None,
        })
    }

    pub(super) fn render(&self) -> String {
        let mut text = format!("{}\n", self.conditions);
        let peer = self.peer_version.as_deref().map_or_else(
            || "dockerd (none answered in this run)".to_owned(),
            |version| format!("dockerd {version}"),
        );
        for subject in &self.subjects {
            subject.render(&peer, &mut text);
        }
        if let Some([Some(ours), theirs]) = &self.reading {
            render_reading(&peer, ours, theirs.as_ref(), &mut text);
        }
        text
    }
}

impl Subject {
    fn render(&self, peer: &str, text: &mut String) {
        let mut line =
            |words: std::fmt::Arguments<'_>| writeln!(text, "{words}").expect("a String takes all");
        line(format_args!(
            "| {}: {:.1} MiB compressed, {:.1} MiB as tar | berth | {peer} | ratio |",
            self.what,
            mebibytes(self.compressed_bytes),
            mebibytes(self.unpacked_bytes)
        ));
        line(format_args!("|---|---|---|---|"));
        for (what, pick) in ROWS {
            let (ours, theirs) = (pick(&self.ours), pick(&self.peer));
            let ratio = ratio(ours.percentile(50), theirs.percentile(50));
            line(format_args!(
                "| {what}, min / p50 / p90, ms | {} | {} | {ratio} |",
                ours.summary_to(0),
                theirs.summary_to(0)
            ));
        }
        for (what, pick) in SIZES {
            let (ours, theirs) = (pick(&self.ours), pick(&self.peer));
            let shown = |bytes: u64| {
                if bytes == 0 { "-".to_owned() } else { format!("{:.1}", mebibytes(bytes)) }
            };
            let known = |bytes| Some(mebibytes(bytes)).filter(|bytes| *bytes > 0.0);
            let ratio = ratio(known(ours), known(theirs));
            line(format_args!("| {what}, MiB | {} | {} | {ratio} |", shown(ours), shown(theirs)));
        }
        // Goal: what is written beside the blob itself is hardly more than what the image holds.
        let beside_blob = self.ours.written_bytes.saturating_sub(self.compressed_bytes);
        let share = mebibytes(beside_blob) / mebibytes(self.unpacked_bytes);
        line(format_args!("| written beside the compressed blobs, of the tar's size | {share:.2} | | |"));
        let share = mebibytes(self.image_disk_bytes) / mebibytes(self.unpacked_bytes);
        line(format_args!("| its image disk on the host's, of the tar's size | {share:.2} | | |\n"));
    }
}

type PickFigures = fn(&Costs) -> &Figures;
type PickBytes = fn(&Costs) -> u64;

/// Figures of a pull.
const ROWS: [(&str, PickFigures); 3] = [
    ("pull and unpack, until the client ends", |costs| &costs.wall),
    ("– processor time of the daemon and its children", |costs| &costs.cpu),
    ("pull of an image whose layers are all here", |costs| &costs.from_cached_layers),
];

const SIZES: [(&str, PickBytes); 2] = [
    ("written by the daemon and its children", |costs| costs.written_bytes),
    ("kept on disk", |costs| costs.kept_bytes),
];

fn render_reading(peer: &str, ours: &Reading, theirs: Option<&Reading>, text: &mut String) {
    let none = Reading::default();
    let theirs = theirs.unwrap_or(&none);
    let rows = [
        ("`find /` first", &ours.find_cold, &theirs.find_cold),
        ("`find /` again", &ours.find_warm, &theirs.find_warm),
        ("`cat` of 1,000 files first", &ours.cat_cold, &theirs.cat_cold),
        ("`cat` of 1,000 files again", &ours.cat_warm, &theirs.cat_warm),
    ];
    let mut line = |words: std::fmt::Arguments<'_>| writeln!(text, "{words}").expect("a String takes all");
    line(format_args!(
        "| a new container of the Debian image, min / p50 / p90, ms | berth | {peer} | ratio |"
    ));
    line(format_args!("|---|---|---|---|"));
    for (what, ours, theirs) in rows {
        let ratio = ratio(ours.percentile(50), theirs.percentile(50));
        line(format_args!("| {what} | {} | {} | {ratio} |", ours.summary_to(0), theirs.summary_to(0)));
    }
}

fn ratio(ours: Option<f64>, theirs: Option<f64>) -> String {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) if theirs > 0.0 => format!("{:.2}", ours / theirs),
        _unknown => "-".to_owned(),
    }
}

fn mebibytes(bytes: u64) -> f64 {
    super::super::report::as_mib_from_kib(bytes / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_not_invented() {
        let subject = Subject {
            what: "an image",
            compressed_bytes: 10 << 20,
            unpacked_bytes: 20 << 20,
            image_disk_bytes: 0,
            ours: Costs { written_bytes: 31 << 20, ..Costs::default() },
            peer: Costs::default(),
        };
        let mut text = String::new();
        subject.render("dockerd", &mut text);
        assert!(
            text.contains("| an image: 10.0 MiB compressed, 20.0 MiB as tar | berth | dockerd | ratio |")
        );
        assert!(text.contains("of the tar's size | 1.05 |"), "{text}");
        assert!(text.contains("| - / - / - | - / - / - | - |"), "{text}");
        assert!(text.contains("MiB | 31.0 | - | - |"), "{text}");
    }
}
