//! What runs, as whom, with which environment and streams.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::OptionError;
use crate::client::{AttachStreams, CreateRequest};
use crate::environment;

/// A standard stream, as `-a` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
enum Stream {
    Stdin,
    Stdout,
    Stderr,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Process")]
pub(crate) struct ProcessOptions {
    /// Attach to STDIN, STDOUT or STDERR
    #[arg(short = 'a', long = "attach", value_enum, ignore_case = true, value_name = "STREAM")]
    attach: Vec<Stream>,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    interactive: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Set environment variables
    #[arg(short, long = "env", value_name = "KEY[=VALUE]")]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIRECTORY")]
    workdir: Option<String>,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long)]
    user: Option<String>,
    /// Add additional groups to join
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// Overwrite the default ENTRYPOINT of the image
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,
    /// Run an init inside the container that forwards signals and reaps processes
    #[arg(long)]
    init: bool,
    /// Signal to stop the container
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Timeout (in seconds) to stop a container
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    stop_timeout: Option<i64>,
}

impl ProcessOptions {
    /// Which streams a client that does not detach takes part in.
    pub(crate) fn streams(&self) -> AttachStreams {
        if self.attach.is_empty() {
            return AttachStreams { stdin: self.interactive, stdout: true, stderr: true };
        }
        let wants = |stream| self.attach.contains(&stream);
        AttachStreams {
            stdin: wants(Stream::Stdin),
            stdout: wants(Stream::Stdout),
            stderr: wants(Stream::Stderr),
        }
    }

    pub(crate) fn names_streams(&self) -> bool {
        !self.attach.is_empty()
    }

    pub(super) fn apply(
        &self,
        request: &mut CreateRequest,
        streams: AttachStreams,
    ) -> Result<(), OptionError> {
        request.attach_stdin = streams.stdin;
        request.attach_stdout = streams.stdout;
        request.attach_stderr = streams.stderr;
        request.open_stdin = self.interactive;
        // The process sees the end of its input when its only client has said everything.
        request.stdin_once = self.interactive && streams.stdin;
        request.tty = self.tty;
        request.env = environment::variables(&self.env_file, &self.env)?;
        request.working_dir = self.workdir.clone().unwrap_or_default();
        request.user = self.user.clone().unwrap_or_default();
        request.entrypoint = self.entrypoint.clone().map(|command| vec![command]);
        request.stop_signal.clone_from(&self.stop_signal);
        request.stop_timeout = self.stop_timeout;
        request.host_config.group_add.clone_from(&self.group_add);
        request.host_config.init = self.init.then_some(true);
        Ok(())
    }
}
