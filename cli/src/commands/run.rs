//! `berth run`: create a container, start it, and stay with it until it ends.

use std::io::{self, IsTerminal};
use std::time::Instant;

use clap::{ArgAction, Args};

use super::attached::Attached;
use super::create::create;
use super::timeline::Timeline;
use crate::client::{AttachStreams, Client};
use crate::options::ContainerOptions;
use crate::outcome::{DAEMON_FAILED, Failure, Outcome, status_of_start};
use crate::output::print;
use crate::signals::Signals;

/// Create and run a new container from an image
#[derive(Args, Debug)]
#[command(
    disable_help_flag = true,
    override_usage = "berth run [OPTIONS] IMAGE [COMMAND] [ARG]...",
    after_help = "Examples:
  berth run --rm hello-world                          Run once and leave nothing
  berth run -it --rm busybox sh                       A shell; ctrl-p ctrl-q leaves it running
  berth run -d --name web -m 64m --cpus 0.5 busybox httpd -f
  berth run --rm -v ./src:/src:ro busybox ls /src     A directory of the host's, not to be written
  berth run -d -v data:/srv busybox httpd -f -h /srv  A volume, made if it is not there, which stays
  echo hello | berth run -i --rm busybox cat          Input from a pipe
  berth run --rm --timing busybox true                Where the time of a start goes

The exit status is the command's own; 125 if the daemon failed, 126 if the command cannot be executed, 127 if it is not there."
)]
pub(crate) struct Arguments {
    /// Run container in background and print container ID
    #[arg(short, long)]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Proxy received signals to the process
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
    /// Print how long each phase of the start took
    #[arg(long)]
    timing: bool,
    #[command(flatten)]
    options: ContainerOptions,
    /// Print help
    // Without the short -h, which is --hostname as in Docker.
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let begun = Instant::now();
    run(arguments, client, begun).await.map_err(|source| Failure::Container {
        verb: "run",
        status: match &source {
            Failure::Client(error) => status_of_start(error),
            Failure::Usage(_) => DAEMON_FAILED,
            other => other.status(),
        },
        source: Box::new(source),
    })
}

async fn run(arguments: &Arguments, client: &Client, begun: Instant) -> Outcome {
    let streams = streams(arguments)?;
    let id = create(&arguments.options, streams, client).await?;
    if !streams.any() {
        return run_detached(arguments, client, &id, begun).await;
    }
    let mut timeline = None;
    let attached = Attached {
        client,
        id: &id,
        tty: arguments.options.process.tty,
        streams,
        auto_remove: arguments.options.metadata.rm,
        signals: arguments.sig_proxy.then(Signals::for_the_container),
        detach_keys: arguments.detach_keys.as_deref(),
    };
    let outcome = attached
        .run(|phases| timeline = arguments.timing.then(|| Timeline { phases, waited: begun.elapsed() }))
        .await;
    timeline.iter().for_each(Timeline::print);
    outcome
}

async fn run_detached(arguments: &Arguments, client: &Client, id: &str, begun: Instant) -> Outcome {
    let phases = client.start(id, arguments.detach_keys.as_deref()).await?;
    let waited = begun.elapsed();
    print(&format!("{id}\n"))?;
    if arguments.timing {
        Timeline { phases, waited }.print();
    }
    Ok(0)
}

/// Which streams we take part in: none in the background.
fn streams(arguments: &Arguments) -> Result<AttachStreams, Failure> {
    let process = &arguments.options.process;
    if arguments.detach {
        return if process.names_streams() {
            Err(Failure::Usage("conflicting options: cannot specify both --attach and --detach".to_owned()))
        } else {
            Ok(AttachStreams::default())
        };
    }
    let streams = process.streams();
    if streams.stdin && process.tty && !io::stdin().is_terminal() {
        return Err(Failure::Usage("the input device is not a TTY".to_owned()));
    }
    Ok(streams)
}
