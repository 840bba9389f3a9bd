//! Sessions: what was typed into a shell, and what is to come of it, written down as one would see it.
//!
//! ```text
//! # A remark.
//! $ docker create --name box busybox sleep 1000
//! <id>
//! $ docker rm nosuch
//! ! Error response from daemon: No such container: nosuch
//! [1]
//! ```
//!
//! `$` types a command and `~` types it again until what is said below it comes true. Below stand the lines of stdout, of
//! stderr (after `! `), and the exit code if it is not 0. What differs from run to run is a [`pattern`] of the line.

mod pattern;

use std::fmt::Write;
use std::time::Instant;

use crate::client::Client;
use crate::outcome::Outcome;
use crate::patience::DEADLINE;

/// A command and what it is to do.
#[derive(Debug, Default, PartialEq, Eq)]
struct Step {
    line_number: usize,
    command: String,
    is_patient: bool,
    stdout: Vec<String>,
    stderr: Vec<String>,
    code: i32,
}

/// A written session.
#[derive(Debug)]
pub struct Session {
    steps: Vec<Step>,
}

impl Session {
    /// # Panics
    /// If it says what nobody would print: something before the first command.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut steps: Vec<Step> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if let Some(step) = Step::typed(index + 1, line) {
                steps.push(step);
            } else if !line.starts_with("# ") && !line.is_empty() {
                let step = steps.last_mut().unwrap_or_else(|| panic!("nothing was typed above {line:?}"));
                step.expect(line);
            }
        }
        assert!(!steps.is_empty(), "nothing is typed in this session");
        Self { steps }
    }

    /// Types it all, whatever came of the commands before, and tells what was different.
    #[must_use]
    pub fn differences(&self, client: &Client) -> Vec<String> {
        self.steps.iter().filter_map(|step| step.difference(client)).collect()
    }

    /// Types it all.
    ///
    /// # Panics
    /// With everything that was different.
    #[track_caller]
    pub fn holds(&self, client: &Client) {
        let differences = self.differences(client);
        assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
    }
}

impl Step {
    fn typed(line_number: usize, line: &str) -> Option<Self> {
        let (command, is_patient) = match (line.strip_prefix("$ "), line.strip_prefix("~ ")) {
            (Some(command), _) => (command, false),
            (_, Some(command)) => (command, true),
            _ => return None,
        };
        Some(Self { line_number, command: command.to_owned(), is_patient, ..Self::default() })
    }

    fn expect(&mut self, line: &str) {
        let code = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')?.parse().ok());
        match (code, line.strip_prefix('!')) {
            (Some(code), _) => self.code = code,
            (None, Some(line)) => self.stderr.push(line.trim().to_owned()),
            (None, None) => self.stdout.push(line.to_owned()),
        }
    }

    fn difference(&self, client: &Client) -> Option<String> {
        let start = Instant::now();
        loop {
            let outcome = client.run_in_shell(&self.command);
            if self.is_met_by(&outcome) {
                return None;
            }
            if !self.is_patient || start.elapsed() > DEADLINE {
                return Some(self.describe(&outcome));
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }

    fn is_met_by(&self, outcome: &Outcome) -> bool {
        outcome.code == self.code
            && pattern::lines_match(&self.stdout, &outcome.stdout)
            && pattern::lines_match(&self.stderr, &outcome.stderr)
    }

    fn describe(&self, outcome: &Outcome) -> String {
        let mut text = format!("line {}: $ {}\n", self.line_number, self.command);
        let expected = (self.stdout.join("\n"), self.stderr.join("\n"), self.code);
        let seen = (outcome.stdout.as_str(), outcome.stderr.as_str(), outcome.code);
        for (what, expected, seen) in [
            ("stdout", expected.0.as_str(), seen.0.trim_end()),
            ("stderr", expected.1.as_str(), seen.1.trim_end()),
            ("code", expected.2.to_string().as_str(), seen.2.to_string().as_str()),
        ] {
            if expected != seen {
                let _infallible = writeln!(text, "  {what} expected:\n{expected}\n  {what} seen:\n{seen}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_falls_into_commands_and_what_they_do() {
        let session = Session::parse("# All of it.\n$ a b\nout\n\n! err\n[3]\n~ c\n");
        let [first, second] = &session.steps[..] else { panic!("{session:?}") };
        assert_eq!((first.command.as_str(), first.is_patient, first.code), ("a b", false, 3));
        assert_eq!(
            (&first.stdout[..], &first.stderr[..]),
            (&["out".to_owned()][..], &["err".to_owned()][..])
        );
        assert_eq!((second.line_number, second.is_patient, second.code), (7, true, 0));
    }

    #[test]
    fn what_differs_is_told_and_a_match_is_not() {
        let step = Session::parse("$ x\n<id>\n").steps.remove(0);
        let outcome = |stdout: &str, code| Outcome {
            command: String::new(),
            code,
            stdout: stdout.to_owned(),
            stderr: String::new(),
        };
        assert!(step.is_met_by(&outcome(&"a1".repeat(32), 0)));
        assert!(!step.is_met_by(&outcome(&"a1".repeat(32), 1)));
        assert!(!step.is_met_by(&outcome("a1", 0)));
        assert!(step.describe(&outcome("a1", 1)).contains("stdout expected:\n<id>\n  stdout seen:\na1\n"));
    }
}
