//! `berth logs`: what a container has printed.

use clap::Args;
use http_body_util::BodyExt;
use jiff::Zoned;

use crate::client::{Client, LogsQuery};
use crate::moment::parse_time;
use crate::outcome::Outcome;
use crate::streams::{Framing, Output, StreamError};

/// Fetch the logs of a container
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth logs -f web                  Everything so far, then as it comes
  berth logs --tail 20 -t web        The last twenty lines, with their times
  berth logs --since 10m web         What was printed in the last ten minutes")]
pub(crate) struct Arguments {
    /// Follow log output
    #[arg(short, long)]
    follow: bool,
    /// Number of lines to show from the end of the logs
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all", allow_negative_numbers = true)]
    tail: String,
    /// Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Show timestamps
    #[arg(short, long)]
    timestamps: bool,
    /// Show extra details provided to logs
    #[arg(long)]
    details: bool,
    container: String,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let now = Zoned::now();
    let time =
        |flag, text: &Option<String>| text.as_deref().map(|text| parse_time(flag, text, &now)).transpose();
    let query = LogsQuery {
        follow: arguments.follow,
        timestamps: arguments.timestamps,
        details: arguments.details,
        since: time("since", &arguments.since)?,
        until: time("until", &arguments.until)?,
        tail: arguments.tail.clone(),
    };
    let container = client.container(&arguments.container).await?;
    let mut body = client.logs(&container.id, &query).await?;
    let mut output = Output::new(if container.config.tty { Framing::Raw } else { Framing::Multiplexed });
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|source| StreamError::Read(std::io::Error::other(source)))?;
        if let Some(bytes) = frame.data_ref() {
            output.write(bytes).await?;
        }
    }
    output.finish()?;
    Ok(0)
}
