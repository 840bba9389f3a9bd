//! `berth attach`: this terminal on a container that runs already.

use std::io::{self, IsTerminal};

use clap::{ArgAction, Args};

use super::attached::{forwarding, status_of};
use crate::client::{AttachStreams, Client, Container, WaitFor};
use crate::detach_keys::DetachKeys;
use crate::outcome::{Failure, Outcome};
use crate::session::{Ended, OnSignal, Process, Session, Stdin};
use crate::signals::Signals;
use crate::terminal::Size;

/// Attach local standard input, output, and error streams to a running container
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth attach web                         ctrl-p ctrl-q leaves it running (containers with -it)
  berth attach --no-stdin --sig-proxy=false web    Only watch; ctrl-c ends the watching")]
pub(crate) struct Arguments {
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Do not attach STDIN
    #[arg(long)]
    no_stdin: bool,
    /// Proxy all received signals to the process
    #[arg(
        long,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        action = ArgAction::Set,
        value_name = "BOOL"
    )]
    sig_proxy: bool,
    container: String,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let keys = DetachKeys::parse(arguments.detach_keys.as_deref().unwrap_or_default())?;
    let container = client.container(&arguments.container).await?;
    check_state(&container)?;
    let tty = container.config.tty;
    let stdin = !arguments.no_stdin && container.config.open_stdin;
    if stdin && tty && !io::stdin().is_terminal() {
        return Err(Failure::Usage("the input device is not a TTY".to_owned()));
    }
    let signals = (arguments.sig_proxy && !tty).then(Signals::for_the_container);
    let exit = client.wait(&container.id, WaitFor::NotRunning).await?;
    let streams = AttachStreams { stdin, stdout: true, stderr: true };
    let stream = client.attach(&container.id, streams, arguments.detach_keys.as_deref()).await?;
    if tty {
        redraw(client, &container.id).await;
    }
    let session = Session {
        client,
        process: Process::Container(&container.id),
        stream,
        tty,
        stdin: if stdin { Stdin::Attached } else { Stdin::Closed },
        detach_keys: keys,
        on_signal: if signals.is_some() { OnSignal::Forwarded } else { OnSignal::End },
    };
    let served = async {
        match session.run().await? {
            Ended::Detached => Err(Failure::Usage("read escape sequence".to_owned())),
            Ended::Output => Ok(status_of(exit).await),
        }
    };
    forwarding(client, &container.id, signals, served).await
}

fn check_state(container: &Container) -> Result<(), Failure> {
    let state = &container.state;
    let reason = match (state.running, state.paused, state.restarting) {
        (_, true, _) => "You cannot attach to a paused container, unpause it first",
        (_, _, true) => "You cannot attach to a restarting container, wait until it is running",
        (false, _, _) => "You cannot attach to a stopped container, start it first",
        (true, false, false) => return Ok(()),
    };
    Err(Failure::Usage(reason.to_owned()))
}

/// A size that changes makes full-screen programs draw anew; the session then sets the right one.
async fn redraw(client: &Client, id: &str) {
    if let Some(size) = Size::of_stdout() {
        let larger = Size { rows: size.rows.saturating_add(1), columns: size.columns.saturating_add(1) };
        drop(client.resize_container(id, larger).await);
    }
}
