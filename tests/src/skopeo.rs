//! A second opinion: skopeo, which reads and writes registries and archives with code that is not ours.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::environment::{program, skip};
use crate::namespace::Namespace;
use crate::outcome::Outcome;

/// The installed skopeo, with a home of its own.
#[derive(Debug)]
pub struct Skopeo {
    program: PathBuf,
    home: tempfile::TempDir,
    namespace: Option<String>,
}

impl Skopeo {
    /// `None`, said aloud, where it is not installed.
    ///
    /// # Panics
    /// If there is no room for a temporary directory.
    #[must_use]
    pub fn find() -> Option<Self> {
        let Some(program) = program("skopeo") else {
            skip("skopeo is not installed");
            return None;
        };
        let home = tempfile::Builder::new().prefix("berth-skopeo-").tempdir().expect("a directory");
        Some(Self { program, home, namespace: None })
    }

    /// The same in a network namespace.
    #[must_use]
    pub fn inside(mut self, namespace: &Namespace) -> Self {
        self.namespace = Some(namespace.name().to_owned());
        self
    }

    /// Types a command and waits for its end.
    ///
    /// # Panics
    /// If it cannot be run.
    #[track_caller]
    pub fn run<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> Outcome {
        let mut command = match &self.namespace {
            Some(namespace) => Namespace::enter(namespace, &self.program),
            None => Command::new(&self.program),
        };
        command.args(["--insecure-policy", "--tmpdir"]).arg(self.home.path()).args(arguments);
        command.env("HOME", self.home.path()).env("XDG_RUNTIME_DIR", self.home.path());
        let output = command.output().expect("skopeo can be started");
        let words: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        Outcome::new(format!("skopeo {}", words.join(" ")), &output)
    }

    /// Copies an image, bytes unchanged, between what containers-transports(5) names; TLS is not verified.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn copy(&self, from: &str, to: &str) {
        let options = ["copy", "--quiet", "--all", "--src-tls-verify=false", "--dest-tls-verify=false"];
        self.run(options.into_iter().chain([from, to])).exits_with(0);
    }

    /// The manifest of an image in a registry, byte by byte.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    #[must_use]
    pub fn raw_manifest(&self, image: &str) -> String {
        let reference = format!("docker://{image}");
        self.run(["inspect", "--raw", "--tls-verify=false", &reference]).exits_with(0).stdout
    }

    /// The same, understood.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    #[must_use]
    pub fn manifest(&self, image: &str) -> Value {
        serde_json::from_str(&self.raw_manifest(image)).expect("a manifest is JSON")
    }
}
