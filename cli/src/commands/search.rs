//! `berth search`: look for images at Docker Hub, or at another registry that can search.

use clap::Args;

use super::filters;
use crate::client::{Client, SearchResult};
use crate::credentials;
use crate::format::{Column, Format, Listing};
use crate::outcome::Outcome;
use crate::output::print;
use crate::table::ellipsis;

/// Longer descriptions are cut.
const DESCRIPTION_LENGTH: usize = 45;

const COLUMNS: &[Column] = &[
    Column { field: "Name", header: "NAME" },
    Column { field: "Description", header: "DESCRIPTION" },
    Column { field: "StarCount", header: "STARS" },
    Column { field: "IsOfficial", header: "OFFICIAL" },
    Column { field: "IsAutomated", header: "AUTOMATED" },
];
const DEFAULT: &[&str] = &["Name", "Description", "StarCount", "IsOfficial"];

/// Search Docker Hub for images
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth search busybox
  berth search --limit 5 --filter is-official=true debian
  berth search --format '{{.Name}}: {{.StarCount}}' registry.example/team")]
pub(crate) struct Arguments {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Format output: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, default_value = "table", value_name = "FORMAT")]
    format: String,
    /// Max number of search results
    #[arg(long, value_name = "COUNT")]
    limit: Option<u32>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    #[arg(value_name = "TERM")]
    term: String,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let format = Format::parse(&arguments.format)?;
    let filters = filters::encode(&arguments.filter)?;
    let credentials = credentials::for_image(&arguments.term)?;
    let found = client.search(&arguments.term, arguments.limit, filters.as_deref(), &credentials).await?;
    let rows = found.iter().map(|result| row(result, arguments.no_trunc)).collect();
    print(&Listing { columns: COLUMNS, default: DEFAULT, rows }.render(&format)?)?;
    Ok(0)
}

/// In the order of [`COLUMNS`].
fn row(result: &SearchResult, no_trunc: bool) -> Vec<String> {
    let description = result.description.replace(['\n', '\r'], " ");
    let mark = |yes| if yes { "[OK]" } else { "" }.to_owned();
    vec![
        result.name.clone(),
        if no_trunc { description } else { ellipsis(&description, DESCRIPTION_LENGTH) },
        result.star_count.to_string(),
        mark(result.is_official),
        mark(result.is_automated),
    ]
}
