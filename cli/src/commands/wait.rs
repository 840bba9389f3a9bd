//! `berth wait`: block until containers end.

use clap::Args;
use futures_util::{StreamExt, stream};

use crate::client::{Client, ClientError, WaitFor};
use crate::outcome::{Failure, Outcome};
use crate::output::print;

/// Waits under way at a time.
const PARALLEL: usize = 32;

/// Block until one or more containers stop, then print their exit codes
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth wait job             Prints the exit code when the job has ended
  test $(berth wait job) = 0")]
pub(crate) struct Arguments {
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let waits = arguments.containers.iter().map(|container| wait(client, container));
    let mut results = stream::iter(waits).buffered(PARALLEL);
    let mut failures = Vec::new();
    while let Some(result) = results.next().await {
        match result {
            Ok(status) => print(&format!("{status}\n"))?,
            Err(error) => failures.push(error.to_string()),
        }
    }
    if failures.is_empty() { Ok(0) } else { Err(Failure::Several(failures)) }
}

async fn wait(client: &Client, container: &str) -> Result<i64, ClientError> {
    client.wait(container, WaitFor::NotRunning).await?.status_alone().await
}
