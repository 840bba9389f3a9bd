//! Running other programs: a failure names the command line and how it ended.

use std::ffi::OsStr;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitStatus, Output, Stdio};

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

/// Runs to the end and hands on each line of both output streams, in the order in which they were written.
/// What is no text in a line is replaced.
///
/// # Errors
/// When the program cannot be started or read from, or `each` fails; then its output is no longer read, which
/// ends it.
pub(crate) fn lines(
    mut command: Command,
    mut each: impl FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<ExitStatus> {
    let name = cannot_start(&command);
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    let both = writer.try_clone().context("cannot make a pipe")?;
    command.stdin(Stdio::null()).stdout(writer).stderr(both);
    let mut child = command.spawn().with_context(|| name.clone())?;
    // The command holds ends of the pipe for writing: the loop would wait for them.
    drop(command);
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).with_context(|| name.clone())? > 0 {
        each(String::from_utf8_lossy(&line).trim_end_matches('\n'))?;
        line.clear();
    }
    child.wait().with_context(|| name)
}

/// A program, in the network namespace of that name if there is one; it sees everything else as we do.
pub(crate) fn command_in(namespace: Option<&str>, program: impl AsRef<OsStr>) -> Command {
    match namespace {
        None => Command::new(program),
        Some(name) => {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net=/run/netns/{name}")).arg(program);
            command
        }
    }
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
    fn lines_come_in_order_and_from_both_streams() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; printf 'thr\\377ee'; exit 4"]);
        let mut seen = Vec::new();
        let status = lines(command, |line| {
            seen.push(line.to_owned());
            Ok(())
        });
        assert_eq!(status.unwrap().code(), Some(4));
        assert_eq!(seen, ["one", "two", "thr\u{fffd}ee"]);
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut Command::new("/nonexistent/program")).unwrap_err();
        assert!(format!("{error:#}").contains("cannot start `/nonexistent/program`"));
    }
}
