//! Running other programs: a failure names the command line and how it ended.

use std::fmt;
use std::process::{Command, Output};

use anyhow::{Context, bail};

/// Runs to the end with our own standard streams.
///
/// # Errors
/// When the program cannot be started or does not succeed.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| cannot_start(command))?;
    if !status.success() {
        bail!("`{}` ended with {status}", CommandLine(command));
    }
    Ok(())
}

/// Runs to the end and gives what it wrote to standard output.
///
/// # Errors
/// When the program cannot be started, does not succeed, or does not write UTF-8; what it wrote to standard
/// error is part of the message.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let Output { status, stdout, stderr } = command.output().with_context(|| cannot_start(command))?;
    if !status.success() {
        let said = String::from_utf8_lossy(&stderr);
        bail!("`{}` ended with {status}: {}", CommandLine(command), said.trim());
    }
    String::from_utf8(stdout).with_context(|| format!("`{}` did not write text", CommandLine(command)))
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start `{}`", CommandLine(command))
}

/// A command as one would type it.
struct CommandLine<'a>(&'a Command);

impl fmt::Display for CommandLine<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0.get_program().display())?;
        for argument in self.0.get_args() {
            write!(formatter, " {}", argument.display())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_what_it_said() {
        let error = output(Command::new("sh").args(["-c", "echo broken >&2; exit 3"])).unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.contains("sh -c") && text.contains("exit status: 3") && text.contains("broken"),
            "{text}"
        );
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut Command::new("/nonexistent/program")).unwrap_err();
        assert!(format!("{error:#}").contains("cannot start `/nonexistent/program`"));
    }
}
