//! What a command printed and how it ended, to be asserted on.

use std::process::Output;

/// A command that has ended.
#[derive(Debug)]
pub struct Outcome {
    pub command: String,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    pub(crate) fn new(command: String, output: &Output) -> Self {
        Self {
            command,
            // Ended by a signal: none of the codes that a test expects.
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// # Panics
    /// If the exit code is another.
    #[track_caller]
    pub fn exits_with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code of {self:#?}");
        self
    }

    /// # Panics
    /// If stdout, without the white space at its ends, is anything else.
    #[track_caller]
    pub fn prints_exactly(self, text: &str) -> Self {
        assert_eq!(self.stdout.trim(), text, "stdout of {self:#?}");
        self
    }

    /// # Panics
    /// If stdout does not contain it.
    #[track_caller]
    pub fn prints(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "no {text:?} in stdout of {self:#?}");
        self
    }

    /// # Panics
    /// If stderr does not contain it.
    #[track_caller]
    pub fn complains(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "no {text:?} in stderr of {self:#?}");
        self
    }

    /// Stdout without the white space at its ends.
    #[must_use]
    pub fn text(&self) -> String {
        self.stdout.trim().to_owned()
    }

    /// # Panics
    /// If stdout is no JSON.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:#?}"))
    }
}
