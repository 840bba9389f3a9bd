//! The result of an examination, for people and for programs.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Ok,
    /// Works, with a limit that one should know.
    Warning,
    /// No machine will start before this is mended.
    Missing,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) verdict: Verdict,
    /// What was found, and why that is good or bad.
    pub(crate) found: String,
    /// One sentence: what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fix: Option<String>,
}

impl Check {
    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, found: found.into(), fix: None }
    }

    pub(super) fn warning(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warning, found: found.into(), fix: Some(fix.into()) }
    }

    pub(super) fn missing(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Missing, found: found.into(), fix: Some(fix.into()) }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Report {
    pub(crate) checks: Vec<Check>,
}

impl Report {
    /// True if nothing that is needed is missing.
    pub(crate) fn is_healthy(&self) -> bool {
        self.checks.iter().all(|check| check.verdict != Verdict::Missing)
    }

    /// With colours; whoever prints it takes them away where they do not belong.
    pub(crate) fn render(&self) -> String {
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
        let mut out = String::new();
        for check in &self.checks {
            let (style, word) = look(check.verdict);
            let _ = writeln!(out, "{style}{word:<8}{style:#} {:<width$}  {}", check.name, check.found);
            if let Some(fix) = &check.fix {
                let _ = writeln!(out, "{:8} {:width$}  -> {fix}", "", "");
            }
        }
        out
    }
}

fn look(verdict: Verdict) -> (Style, &'static str) {
    let (color, word) = match verdict {
        Verdict::Ok => (AnsiColor::Green, "ok"),
        Verdict::Warning => (AnsiColor::Yellow, "warning"),
        Verdict::Missing => (AnsiColor::Red, "missing"),
    };
    (Style::new().fg_color(Some(color.into())), word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_thing_makes_the_host_unhealthy_and_shows_its_fix() {
        let mut report =
            Report { checks: vec![Check::ok("kernel", "there"), Check::warning("kvm", "slow", "buy one")] };
        assert!(report.is_healthy());
        report.checks.push(Check::missing("qemu", "not in PATH", "install it"));
        assert!(!report.is_healthy());
        let text = anstream::adapter::strip_str(&report.render()).to_string();
        assert_eq!(
            text,
            "ok       kernel  there\n\
             warning  kvm     slow\n\
             \x20                -> buy one\n\
             missing  qemu    not in PATH\n\
             \x20                -> install it\n"
        );
    }

    #[test]
    fn programs_get_the_same_facts() {
        let report = Report { checks: vec![Check::missing("qemu", "no", "install it")] };
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(
            json,
            r#"{"Checks":[{"Name":"qemu","Verdict":"missing","Found":"no","Fix":"install it"}]}"#
        );
    }
}
