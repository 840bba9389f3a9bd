//! `berth exec`: another process in a running container.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::Args;

use crate::client::{Client, ClientError, ExecRequest};
use crate::detach_keys::DetachKeys;
use crate::environment;
use crate::options::OptionError;
use crate::outcome::{Failure, Outcome, exit_status, status_of_start};
use crate::session::{Ended, OnSignal, Process, Session, Stdin};
use crate::terminal::Size;

/// Execute a command in a running container
#[derive(Args, Debug)]
#[command(
    override_usage = "berth exec [OPTIONS] CONTAINER COMMAND [ARG]...",
    after_help = "Examples:
  berth exec web ps
  berth exec -it web sh
  berth exec -d -e LEVEL=debug web sh -c 'reload > /tmp/log'"
)]
pub(crate) struct Arguments {
    /// Detached mode: run command in the background
    #[arg(short, long)]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Set environment variables
    #[arg(short, long = "env", value_name = "KEY[=VALUE]")]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    interactive: bool,
    /// Give extended privileges to the command
    #[arg(long)]
    privileged: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    tty: bool,
    /// Username or UID (format: "<name|uid>[:<group|gid>]")
    #[arg(short, long)]
    user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIRECTORY")]
    workdir: Option<String>,
    container: String,
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let keys = DetachKeys::parse(arguments.detach_keys.as_deref().unwrap_or_default())?;
    let stdin = arguments.interactive && !arguments.detach;
    if stdin && arguments.tty && !io::stdin().is_terminal() {
        return Err(Failure::Usage("the input device is not a TTY".to_owned()));
    }
    let request = request(arguments)?;
    let exec = client.create_exec(&arguments.container, &request).await?;
    if arguments.detach {
        client.start_exec_detached(&exec, arguments.tty).await.map_err(not_started)?;
        return Ok(0);
    }
    let stream = client.start_exec(&exec, arguments.tty, request.console_size).await.map_err(not_started)?;
    let session = Session {
        client,
        process: Process::Exec(&exec),
        stream,
        tty: arguments.tty,
        stdin: if stdin { Stdin::Attached } else { Stdin::Closed },
        detach_keys: keys,
        on_signal: OnSignal::End,
    };
    match session.run().await? {
        Ended::Detached => Err(Failure::Usage("read escape sequence".to_owned())),
        Ended::Output => exit_code(client, &exec).await,
    }
}

fn request(arguments: &Arguments) -> Result<ExecRequest, Failure> {
    let attached = !arguments.detach;
    Ok(ExecRequest {
        attach_stdin: attached && arguments.interactive,
        attach_stdout: attached,
        attach_stderr: attached,
        tty: arguments.tty,
        console_size: arguments.tty.then(Size::of_stdout).flatten().map(Size::as_api),
        detach_keys: arguments.detach_keys.clone(),
        cmd: arguments.command.clone(),
        env: environment::variables(&arguments.env_file, &arguments.env).map_err(OptionError::from)?,
        user: arguments.user.clone().unwrap_or_default(),
        working_dir: arguments.workdir.clone().unwrap_or_default(),
        privileged: arguments.privileged,
    })
}

/// A command that is not there has the statuses that shells give it.
fn not_started(error: ClientError) -> Failure {
    Failure::Container { verb: "exec", status: status_of_start(&error), source: Box::new(error.into()) }
}

async fn exit_code(client: &Client, exec: &str) -> Outcome {
    let state = client.inspect_exec(exec).await?;
    match state.exit_code {
        Some(code) => Ok(exit_status(code)),
        None if state.running => Err(Failure::Usage("the command closed its output but runs on".to_owned())),
        None => Err(Failure::Usage("the daemon does not know how the command ended".to_owned())),
    }
}
