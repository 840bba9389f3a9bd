//! The synthetic drivers: tests of the monitor's crate that only run when asked for, built in release mode.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::program;
use crate::workspace::Workspace;

/// Settings of one run, by the names the drivers read.
pub(super) type Variables<'a> = &'a [(&'a str, String)];

/// The built tests.
pub(super) struct Drivers(PathBuf);

impl Drivers {
    pub(super) fn build(workspace: &Workspace) -> anyhow::Result<Self> {
        let mut cargo = workspace.cargo();
        cargo.args(["test", "--release", "--package=berth-vmm", "--lib", "--no-run"]);
        let messages = program::output(cargo.arg("--message-format=json"))?;
        let executable = messages.lines().rev().find_map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).ok()?;
            message["executable"].as_str().map(PathBuf::from)
        });
        executable.map(Self).context("cargo built no tests of berth-vmm")
    }

    /// Runs one driver, and gives the first number it measured.
    pub(super) fn run(&self, name: &str, variables: Variables<'_>) -> anyhow::Result<f64> {
        let first = self.run_all(name, variables)?.into_iter().next();
        first.with_context(|| format!("the driver {name} measured nothing"))
    }

    /// Runs one driver, and gives the first number of each line it measured.
    pub(super) fn run_all(&self, name: &str, variables: Variables<'_>) -> anyhow::Result<Vec<f64>> {
        let said = program::output(self.add_arguments(&mut Command::new(&self.0), name, variables))?;
        let measured = said.lines().filter_map(|line| Some(line.split_once("measured: ")?.1));
        Ok(measured.filter_map(|words| words.split_whitespace().next()?.parse().ok()).collect())
    }

    /// Runs one driver under strace, which writes the system calls of each thread to `log`.
    pub(super) fn trace(&self, name: &str, variables: Variables<'_>, log: &Path) -> anyhow::Result<()> {
        let mut strace = Command::new("strace");
        strace.args(["--follow-forks", "--output"]).arg(log).arg(&self.0);
        program::output(self.add_arguments(&mut strace, name, variables))?;
        Ok(())
    }

    fn add_arguments<'c>(
        &self,
        command: &'c mut Command,
        name: &str,
        variables: Variables<'_>,
    ) -> &'c mut Command {
        command.args(["--ignored", "--nocapture", "--exact", &format!("synthetic::{name}")]);
        command.envs(variables.iter().map(|(name, value)| (name, value)))
    }
}
