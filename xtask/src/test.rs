//! `cargo xtask test`: every check there is, in the order in which they are cheap. `.ci/run` calls this.
//!
//! Stops at the first step that fails. The tests all run even so: one run tells all it can. Tests that cannot run on this
//! host say so, and the summary repeats it: a line that starts with `skipped: ` or `accelerator: ` in a test's output is
//! kept.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::build::{self, Products};
use crate::compose::{self, Compose};
use crate::heard::Heard;
use crate::program;
use crate::progress;
use crate::python::{self, Interpreter};
use crate::transcript::Transcript;
use crate::workspace::Workspace;
use crate::{images, packages, tidy};

/// The crate of the end-to-end tests, which start real machines.
pub(crate) const END_TO_END: &str = "berth-tests";
/// The crate of the fuzz targets: they are built here, for nothing else would notice when they no longer can be. The
/// tests of what they call replay their corpus.
const FUZZ_TARGETS: &str = "berth-fuzz";

pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let mut suite = Suite::default();
    packages::ensure()?;
    suite.step("format", || program::run(workspace.cargo().args(["fmt", "--all", "--check"])))?;
    suite.step("clippy", || clippy(workspace))?;
    suite.step("tidy", || tidy::run(workspace))?;
    suite.step("fuzz targets", || {
        program::run(workspace.cargo().args(["build", "--package", FUZZ_TARGETS]))
    })?;
    let products = suite.step("build", || build::ensure(workspace))?;
    let images = suite.step("images", || images::ensure_all(workspace))?;
    let python = suite.step("python clients", || python::ensure(workspace))?;
    let compose = suite.step("docker compose", || compose::ensure(workspace))?;
    let environment =
        Environment { products: &products, images: &images, python: &python, compose: &compose };
    let heard = suite.step("unit and integration tests", || {
        let packages = ["--workspace", "--exclude", END_TO_END, "--exclude", FUZZ_TARGETS];
        run_tests(workspace, &environment, &packages, "unit")
    })?;
    suite.heard.add(heard);
    let heard = suite.step("end-to-end tests", || {
        run_tests(workspace, &environment, &["--package", END_TO_END], "end-to-end")
    })?;
    suite.heard.add(heard);
    suite.verdict()
}

fn clippy(workspace: &Workspace) -> anyhow::Result<()> {
    let mut cargo = workspace.cargo();
    cargo.args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"]);
    program::run(&mut cargo)
}

/// What tests that need real programs find in their environment.
pub(crate) struct Environment<'a> {
    pub(crate) products: &'a Products,
    pub(crate) images: &'a Path,
    pub(crate) python: &'a Interpreter,
    pub(crate) compose: &'a Compose,
}

impl Environment<'_> {
    pub(crate) fn give_to(&self, command: &mut Command) {
        command.env("BERTH_TEST_BIN_DIR", &self.products.programs);
        command.env("BERTH_TEST_KERNEL", &self.products.kernel);
        command.env("BERTH_TEST_INITRAMFS", &self.products.initramfs);
        command.env("BERTH_TEST_IMAGES", self.images);
        let Compose { plugin, predecessor } = self.compose;
        for (name, found) in [
            ("BERTH_TEST_PYTHON", self.python),
            ("BERTH_TEST_COMPOSE", plugin),
            ("BERTH_TEST_COMPOSE_PREDECESSOR", predecessor),
        ] {
            match found {
                Ok(path) => command.env(name, path),
                Err(reason) => command.env(format!("{name}_MISSING"), reason),
            };
        }
    }
}

/// Runs the tests of some packages. Those that fail are heard of, too.
///
/// # Errors
/// If they could not be run: they do not compile, for one.
fn run_tests(
    workspace: &Workspace,
    environment: &Environment<'_>,
    packages: &[&str],
    name: &str,
) -> anyhow::Result<Heard> {
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--no-fail-fast"]).args(packages).args(["--", "--show-output"]);
    environment.give_to(&mut cargo);
    let mut transcript = Transcript::create(&workspace.target(&format!("test-logs/{name}.log")))?;
    let mut heard = Heard::default();
    let status = program::lines(cargo, |line| {
        heard.hear(line);
        transcript.add(line)
    })?;
    if !status.success() && heard.failed.is_empty() {
        transcript.show_end();
        bail!("cargo test failed");
    }
    progress::note(format_args!("{} tests passed, {} failed", heard.passed, heard.failed.len()));
    Ok(heard)
}

/// The steps so far.
#[derive(Default)]
struct Suite {
    durations: Vec<(&'static str, Duration)>,
    heard: Heard,
}

impl Suite {
    fn step<T>(&mut self, name: &'static str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        progress::heading(name);
        let started = Instant::now();
        let result = work().map_err(|error| error.context(format!("step `{name}`")));
        self.durations.push((name, started.elapsed()));
        result
    }

    /// The summary, on standard output too, and in the form that test runners end with: for whoever reads it by program.
    ///
    /// # Errors
    /// If a test failed.
    fn verdict(&self) -> anyhow::Result<()> {
        progress::heading(if self.heard.failed.is_empty() { "all passed" } else { "failed" });
        for (name, duration) in &self.durations {
            progress::note(format_args!("{name:28} {}", progress::seconds(*duration)));
        }
        self.heard.remarks.iter().for_each(progress::note);
        self.heard.show_failures();
        println!("{} passed, {} failed", self.heard.passed, self.heard.failed.len());
        if !self.heard.failed.is_empty() {
            bail!("tests failed: {}", self.heard.failed.join(", "));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_test_fails_the_suite_and_is_named() {
        let mut suite = Suite::default();
        suite.heard.hear("test names::two ... FAILED");
        assert_eq!(suite.verdict().unwrap_err().to_string(), "tests failed: names::two");
    }

    #[test]
    fn a_failed_step_is_named() {
        let error = Suite::default().step("format", || -> anyhow::Result<()> { bail!("ugly") }).unwrap_err();
        assert_eq!(format!("{error:#}"), "step `format`: ugly");
    }
}
