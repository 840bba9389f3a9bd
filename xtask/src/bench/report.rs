//! The page that says what was measured, how, and where: one section a subject, each written by its own verb.

use std::fs;

use anyhow::Context;

use crate::progress;
use crate::workspace::Workspace;

/// The part of the page that is one subject's to write: what stands between its two marks.
pub(super) struct Section {
    subject: &'static str,
}

impl Section {
    pub(super) fn named(subject: &'static str) -> Self {
        Self { subject }
    }

    /// Replaces the section by `text`, and shows it.
    ///
    /// # Errors
    /// The page cannot be read or written, or lacks the section's marks.
    pub(super) fn write(&self, workspace: &Workspace, text: &str) -> anyhow::Result<()> {
        progress::heading("measured");
        text.lines().for_each(progress::note);
        let path = workspace.path("docs/benchmarks.md");
        let page = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let page = self
            .replace_in(&page, text)
            .with_context(|| format!("{} lacks the marks of `{}`", path.display(), self.subject))?;
        fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
    }

    fn mark(&self, word: &str) -> String {
        format!("<!-- {word}: cargo xtask bench {} -->", self.subject)
    }

    fn replace_in(&self, page: &str, text: &str) -> Option<String> {
        let (begin, end) = (self.mark("begin"), self.mark("end"));
        let (before, rest) = page.split_once(&begin)?;
        let (_old, after) = rest.split_once(&end)?;
        Some(format!("{before}{begin}\n\n{text}\n{end}{after}"))
    }
}

/// The section's first line: how much was measured, on what, and how busy it was.
pub(super) fn conditions(what: &str) -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("unknown");
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{what}, {cpus} CPUs, load {load} at the end.\n")
}

pub(super) fn as_mib_from_kib(kib: u64) -> f64 {
    // Far below 2^52: exact.
    f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_section_of_the_page_changes() {
        let section = Section::named("x");
        let (begin, end) = (section.mark("begin"), section.mark("end"));
        let page = format!("before\n{begin}\nold\n{end}\nafter\n");
        let replaced = section.replace_in(&page, "new\n").unwrap();
        assert_eq!(replaced, format!("before\n{begin}\n\nnew\n\n{end}\nafter\n"));
        assert_eq!(section.replace_in("no marks", "new"), None);
    }
}
