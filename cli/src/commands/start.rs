//! `berth start`: start containers that exist, with or without this terminal on one of them.

use clap::Args;

use super::attached::Attached;
use crate::client::{AttachStreams, Client};
use crate::outcome::{Failure, Outcome};
use crate::output::{note, print};
use crate::signals::Signals;

/// Start one or more stopped containers
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth start web db
  berth start -ai shell    With this terminal on it")]
pub(crate) struct Arguments {
    /// Attach STDOUT/STDERR and forward signals
    #[arg(short, long)]
    attach: bool,
    /// Attach container's STDIN
    #[arg(short, long)]
    interactive: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    if !arguments.attach && !arguments.interactive {
        return start_all(arguments, client).await;
    }
    let [name] = arguments.containers.as_slice() else {
        return Err(Failure::Usage("you cannot start and attach multiple containers at once".to_owned()));
    };
    let container = client.container(name).await?;
    let attached = Attached {
        client,
        id: &container.id,
        tty: container.config.tty,
        streams: AttachStreams {
            stdin: arguments.interactive && container.config.open_stdin,
            stdout: true,
            stderr: true,
        },
        auto_remove: container.host_config.auto_remove,
        signals: (!container.config.tty).then(Signals::for_the_container),
        detach_keys: arguments.detach_keys.as_deref(),
    };
    attached.run(|_| {}).await
}

/// One after the other, in the order of the command line, which users rely on.
async fn start_all(arguments: &Arguments, client: &Client) -> Outcome {
    let mut failed = Vec::new();
    for name in &arguments.containers {
        match client.start(name, None).await {
            Ok(_) => print(&format!("{name}\n"))?,
            Err(error) => {
                note(&error.to_string());
                failed.push(name.as_str());
            }
        }
    }
    if failed.is_empty() {
        return Ok(0);
    }
    Err(Failure::Usage(format!("Error: failed to start containers: {}", failed.join(", "))))
}
