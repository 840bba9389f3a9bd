//! `berth inspect`: everything the daemon says about containers, images, networks and volumes.

use bytes::Bytes;
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::client::{Client, ClientError};
use crate::format::{ObjectFormat, indent};
use crate::outcome::{Failure, Outcome};
use crate::output::print;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Container,
    Image,
    Network,
    Volume,
}

/// Return low-level information on containers, images, networks and volumes
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth inspect web
  berth inspect -f '{{.State.Status}} {{.State.ExitCode}}' web
  berth inspect -f '{{json .Config.Env}}' --type image busybox")]
pub(crate) struct Arguments {
    /// Format output: 'json' or a template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Display total file sizes if the type is container
    #[arg(short, long)]
    size: bool,
    /// Only inspect objects of the given type
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    kind: Option<Kind>,
    #[arg(required = true, value_name = "NAME|ID")]
    names: Vec<String>,
}

impl Arguments {
    /// For `berth container inspect`.
    pub(super) fn of_containers(format: Option<String>, size: bool, names: Vec<String>) -> Self {
        Self { format, size, kind: Some(Kind::Container), names }
    }

    /// For `berth network inspect`.
    pub(super) fn of_networks(format: Option<String>, names: Vec<String>) -> Self {
        Self { format, size: false, kind: Some(Kind::Network), names }
    }

    /// For `berth volume inspect`.
    pub(super) fn of_volumes(format: Option<String>, names: Vec<String>) -> Self {
        Self { format, size: false, kind: Some(Kind::Volume), names }
    }

    /// For `berth image inspect`.
    pub(super) fn of_images(format: Option<String>, names: Vec<String>) -> Self {
        Self { format, size: false, kind: Some(Kind::Image), names }
    }
}

/// Prints what was found even when something was not; the failures follow.
pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let format = arguments.format.as_deref().map(ObjectFormat::parse).transpose()?;
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for name in &arguments.names {
        match inspect(arguments, client, name).await {
            Ok(bytes) => found.push(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) => failures.push(error.to_string()),
        }
    }
    match format {
        Some(format) => {
            for object in &found {
                let value: Value = serde_json::from_str(object)
                    .map_err(|error| Failure::Usage(format!("the daemon's answer is no JSON: {error}")))?;
                print(&format.render(&value)?)?;
            }
        }
        None => print(&format!("{}\n", indent(&format!("[{}]", found.join(",")))))?,
    }
    if failures.is_empty() { Ok(0) } else { Err(Failure::Several(failures)) }
}

/// A container of that name, else an image, else a network, else a volume: the order in which Docker looks.
async fn inspect(arguments: &Arguments, client: &Client, name: &str) -> Result<Bytes, Failure> {
    let missing = |error: ClientError| match arguments.kind {
        None if error.is_not_found() => Failure::Usage(format!("Error: No such object: {name}")),
        _ => error.into(),
    };
    let goes_on = |error: &ClientError| error.is_not_found() && arguments.kind.is_none();
    if matches!(arguments.kind, None | Some(Kind::Container)) {
        match client.inspect_container(name, arguments.size).await {
            Err(error) if goes_on(&error) => {}
            result => return result.map_err(Failure::from),
        }
    }
    if matches!(arguments.kind, None | Some(Kind::Image)) {
        match client.inspect_image(name).await {
            Err(error) if goes_on(&error) => {}
            result => return result.map_err(Failure::from),
        }
    }
    if matches!(arguments.kind, None | Some(Kind::Network)) {
        match client.inspect_network(name).await {
            Err(error) if goes_on(&error) => {}
            result => return result.map_err(Failure::from),
        }
    }
    client.inspect_volume(name).await.map_err(missing)
}
