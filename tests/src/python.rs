//! Clients in Python: stories of `tests/python/`, run by the interpreter that `cargo xtask test` gave the packages to.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::client::Running;
use crate::environment::product;
use crate::host::Host;
use crate::namespace::Namespace;

/// The interpreter.
#[derive(Debug)]
pub struct Python {
    program: PathBuf,
}

impl Python {
    /// `None`, said aloud, where the clients could not be installed.
    #[must_use]
    pub fn find() -> Option<Self> {
        product("BERTH_TEST_PYTHON").map(|program| Self { program })
    }

    /// Tells a story at this host, with these variables beside those that every client has.
    ///
    /// # Panics
    /// If the story fails, or has no test.
    #[track_caller]
    pub fn tells(&self, story: &str, host: &Host, variables: &[(&str, &str)]) {
        Self::tells_by(Command::new(&self.program), story, host, variables);
    }

    /// The same from inside a network, where what the host publishes is found.
    ///
    /// # Panics
    /// As [`Python::tells`].
    #[track_caller]
    pub fn tells_inside(&self, namespace: &Namespace, story: &str, host: &Host, variables: &[(&str, &str)]) {
        let command = Namespace::enter(namespace.name(), &self.program);
        Self::tells_by(command, story, host, variables);
    }

    #[track_caller]
    fn tells_by(mut command: Command, story: &str, host: &Host, variables: &[(&str, &str)]) {
        command.args(["-B", "-m", "unittest", "--verbose", story]);
        command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("python"));
        host.berth().point_at_host(&mut command);
        command.envs(variables.iter().copied());
        let outcome = Running::start(format!("the story {story}"), command).ends();
        assert_eq!(outcome.code, 0, "{story}:\n{}{}", outcome.stdout, outcome.stderr);
        assert!(!outcome.stderr.contains("Ran 0 tests"), "{story} has no test: {}", outcome.stderr);
    }
}
