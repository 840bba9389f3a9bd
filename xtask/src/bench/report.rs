//! The page that says what was measured, how, and where.

use std::fmt::Write;
use std::fs;

use anyhow::Context;

use super::start::{Measured, PHASES};
use crate::progress;
use crate::workspace::Workspace;

/// Only the part between these lines is ours to write.
const BEGIN: &str = "<!-- begin: cargo xtask bench start -->";
const END: &str = "<!-- end: cargo xtask bench start -->";

pub(super) fn write(workspace: &Workspace, measured: &Measured) -> anyhow::Result<()> {
    let section = render(measured);
    progress::heading("measured");
    section.lines().for_each(progress::note);
    let path = workspace.path("docs/benchmarks.md");
    let page = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let page =
        replace_section(&page, &section).with_context(|| format!("{} lacks its marks", path.display()))?;
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
}

fn replace_section(page: &str, section: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_old, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{section}\n{END}{after}"))
}

fn render(measured: &Measured) -> String {
    let mut text = String::new();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("unknown").to_owned();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let mut line = |words: std::fmt::Arguments<'_>| writeln!(text, "{words}").expect("a String takes all");
    line(format_args!(
        "{} runs, accelerator `{}`, {cpus} CPUs, load {load} at the end.",
        measured.runs, measured.accelerator
    ));
    line(format_args!(""));
    line(format_args!("| `run --rm busybox true` | min / p50 / p90, ms |"));
    line(format_args!("|---|---|"));
    line(format_args!("| berth, CLI to exit | {} |", measured.ours.summary()));
    for phase in PHASES {
        let figures = measured.phases.get(phase).cloned().unwrap_or_default();
        line(format_args!("| – {phase} | {} |", figures.summary()));
    }
    match &measured.peer {
        Some(peer) => line(format_args!(
            "| docker on dockerd {}, CLI to exit | {} |",
            peer.version,
            peer.figures.summary()
        )),
        None => line(format_args!("| docker on dockerd | no dockerd answered in this run |")),
    }
    line(format_args!(""));
    line(format_args!("Idle daemon, no container: {:.1} MiB resident.", as_mib(measured.idle_daemon_kib)));
    text
}

fn as_mib(kib: u64) -> f64 {
    // Far below 2^52: exact.
    f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_section_of_the_page_changes() {
        let page = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let replaced = replace_section(&page, "new\n").unwrap();
        assert_eq!(replaced, format!("before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"));
        assert_eq!(replace_section("no marks", "new"), None);
    }
}
