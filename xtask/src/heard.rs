//! What test programs say of themselves: how many passed, what failed and how, what the host could not run.

use std::collections::BTreeSet;

use crate::progress;

/// What tests say about themselves that belongs into the summary.
const REMARKS: [&str; 2] = ["skipped: ", "accelerator: "];
/// So much is shown of what failed; the transcript has all of it.
const SHOWN_LINES: usize = 1000;

#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) passed: usize,
    pub(crate) remarks: BTreeSet<String>,
    /// Names, as their programs print them.
    pub(crate) failed: Vec<String>,
    /// What the failed ones printed.
    reports: Vec<String>,
    /// Between a program's "failures:" and its "test result:".
    in_report: bool,
}

impl Heard {
    /// One line of a test program run with `--show-output`, or of cargo.
    pub(crate) fn hear(&mut self, line: &str) {
        match line.trim_start() {
            running if running.starts_with("Running ") || running.starts_with("Doc-tests ") => {
                progress::note(running);
            }
            ok if ok.starts_with("test ") && ok.ends_with(" ... ok") => self.passed += 1,
            failed if failed.starts_with("test ") && failed.ends_with(" ... FAILED") => {
                self.failed.push(failed["test ".len()..failed.len() - " ... FAILED".len()].to_owned());
            }
            remark if REMARKS.iter().any(|start| remark.starts_with(start)) => {
                self.remarks.insert(remark.to_owned());
            }
            _ => {}
        }
        match line {
            "failures:" => self.in_report = true,
            result if result.starts_with("test result: ") => self.in_report = false,
            _ if self.in_report && self.reports.len() < SHOWN_LINES => self.reports.push(line.to_owned()),
            _ => {}
        }
    }

    pub(crate) fn add(&mut self, more: Self) {
        self.passed += more.passed;
        self.remarks.extend(more.remarks);
        self.failed.extend(more.failed);
        self.reports.extend(more.reports);
    }

    /// The failed tests' own words, then their names.
    pub(crate) fn show_failures(&self) {
        self.reports.iter().for_each(progress::note);
        for name in &self.failed {
            progress::note(format_args!("FAILED: {name}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 2 tests
test names::one ... ok
test names::two ... FAILED

successes:

---- names::one stdout ----
skipped: no /dev/kvm

failures:

---- names::two stdout ----
two is not three

failures:
    names::two

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
error: test failed, to rerun pass `-p berth`";

    #[test]
    fn failures_are_kept_with_what_they_printed() {
        let mut heard = Heard::default();
        OUTPUT.lines().for_each(|line| heard.hear(line));
        assert_eq!((heard.passed, heard.failed.as_slice()), (1, ["names::two".to_owned()].as_slice()));
        assert_eq!(heard.remarks.iter().collect::<Vec<_>>(), ["skipped: no /dev/kvm"]);
        assert!(heard.reports.iter().any(|line| line == "two is not three"), "{:?}", heard.reports);
        assert!(!heard.reports.iter().any(|line| line.contains("skipped") || line.contains("rerun")));
    }
}
