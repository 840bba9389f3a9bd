//! A network of the bench's own, where no peer has one: the host's stays as it is.

use std::process::Command;

use crate::program;

/// A network namespace; removed with the value.
pub(super) struct Namespace {
    name: String,
}

impl Namespace {
    /// # Errors
    /// We may not make one.
    pub(super) fn new() -> anyhow::Result<Self> {
        let name = format!("berth-bench-{}", std::process::id());
        program::output(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        program::output(Command::new("ip").args(["-n", &namespace.name, "link", "set", "lo", "up"]))?;
        Ok(namespace)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Who cannot remove it finds it by its name.
        drop(program::output(Command::new("ip").args(["netns", "delete", &self.name])));
    }
}
