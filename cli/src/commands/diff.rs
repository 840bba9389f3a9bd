//! `berth diff`: how a container's files differ from its image.

use clap::Args;

use crate::client::{Change, Client};
use crate::format::{Column, Format, Listing};
use crate::outcome::Outcome;
use crate::output::print;

const COLUMNS: &[Column] =
    &[Column { field: "Type", header: "CHANGE TYPE" }, Column { field: "Path", header: "PATH" }];
const DEFAULT: &[&str] = &["Type", "Path"];

/// Inspect changes to files or directories on a container's filesystem
#[derive(Args, Debug)]
#[command(after_help = "A path was added (A), changed (C) or deleted (D).

Examples:
  berth diff web
  berth diff --format json web")]
pub(crate) struct Arguments {
    /// Format output: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, default_value = "{{.Type}} {{.Path}}", value_name = "FORMAT")]
    format: String,
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let format = Format::parse(&arguments.format)?;
    let changes = client.changes(&arguments.container).await?;
    let rows = changes.iter().map(row).collect();
    print(&Listing { columns: COLUMNS, default: DEFAULT, rows }.render(&format)?)?;
    Ok(0)
}

/// In the order of [`COLUMNS`].
fn row(change: &Change) -> Vec<String> {
    let letter = match change.kind {
        1 => "A",
        2 => "D",
        _ => "C",
    };
    vec![letter.to_owned(), change.path.clone()]
}
