//! `berth history`: how an image was built.

use clap::{ArgAction, Args};
use jiff::{Timestamp, Zoned};

use crate::client::{Client, HistoryEntry};
use crate::format::{Column, Format, Listing};
use crate::moment::ago;
use crate::outcome::Outcome;
use crate::output::print;
use crate::quantity::decimal_size;
use crate::reference::short_id;
use crate::table::ellipsis;

/// Longer instructions are cut.
const INSTRUCTION_LENGTH: usize = 45;

const COLUMNS: &[Column] = &[
    Column { field: "ID", header: "IMAGE" },
    Column { field: "CreatedSince", header: "CREATED" },
    Column { field: "CreatedAt", header: "CREATED AT" },
    Column { field: "CreatedBy", header: "CREATED BY" },
    Column { field: "Size", header: "SIZE" },
    Column { field: "Comment", header: "COMMENT" },
];
const HUMAN: &[&str] = &["ID", "CreatedSince", "CreatedBy", "Size", "Comment"];
const EXACT: &[&str] = &["ID", "CreatedAt", "CreatedBy", "Size", "Comment"];

/// Show the history of an image
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth history debian
  berth history --no-trunc --format '{{.CreatedBy}}' debian")]
pub(crate) struct Arguments {
    /// Format output: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, default_value = "table", value_name = "FORMAT")]
    format: String,
    /// Print sizes and dates in human readable format
    #[arg(short = 'H', long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    human: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "IMAGE")]
    image: String,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let format = Format::parse(&arguments.format)?;
    let entries = client.history(&arguments.image).await?;
    if arguments.quiet {
        let ids = entries.iter().map(|entry| format!("{}\n", id(entry, arguments.no_trunc)));
        print(&ids.collect::<String>())?;
        return Ok(0);
    }
    let now = Zoned::now();
    let rows = entries.iter().map(|entry| row(entry, arguments, &now)).collect();
    let default = if arguments.human { HUMAN } else { EXACT };
    print(&Listing { columns: COLUMNS, default, rows }.render(&format)?)?;
    Ok(0)
}

fn id(entry: &HistoryEntry, no_trunc: bool) -> &str {
    if no_trunc { &entry.id } else { short_id(&entry.id) }
}

/// In the order of [`COLUMNS`].
fn row(entry: &HistoryEntry, arguments: &Arguments, now: &Zoned) -> Vec<String> {
    let instruction = entry.created_by.replace('\t', " ");
    let created_at = Timestamp::from_second(entry.created).unwrap_or_default();
    let created_at =
        created_at.to_zoned(now.time_zone().clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    vec![
        id(entry, arguments.no_trunc).to_owned(),
        if arguments.human { ago(entry.created, now) } else { created_at.clone() },
        created_at,
        if arguments.no_trunc { instruction } else { ellipsis(&instruction, INSTRUCTION_LENGTH) },
        if arguments.human { decimal_size(entry.size) } else { entry.size.to_string() },
        entry.comment.clone(),
    ]
}
