//! `berth volume ls`: list volumes.

use clap::Args;

use crate::client::{Client, VolumeSummary};
use crate::commands::filters;
use crate::format::{Column, Format, Listing};
use crate::outcome::Outcome;
use crate::output::print;

const COLUMNS: &[Column] = &[
    Column { field: "Driver", header: "DRIVER" },
    Column { field: "Name", header: "VOLUME NAME" },
    Column { field: "Scope", header: "SCOPE" },
    Column { field: "Mountpoint", header: "MOUNTPOINT" },
    Column { field: "Labels", header: "LABELS" },
];
const DEFAULT: &[&str] = &["Driver", "Name"];

/// List volumes
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth volume ls
  berth volume ls --filter dangling=true -q     Volumes that no container has")]
pub(crate) struct Arguments {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Format output: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, default_value = "table", value_name = "FORMAT")]
    format: String,
    /// Only display volume names
    #[arg(short, long)]
    quiet: bool,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let format = Format::parse(&arguments.format)?;
    let mut volumes = client.list_volumes(filters::encode(&arguments.filter)?.as_deref()).await?;
    volumes.sort_by(|one, other| one.name.cmp(&other.name));
    if arguments.quiet {
        print(&volumes.iter().map(|volume| format!("{}\n", volume.name)).collect::<String>())?;
        return Ok(0);
    }
    let rows = volumes.iter().map(row).collect();
    print(&Listing { columns: COLUMNS, default: DEFAULT, rows }.render(&format)?)?;
    Ok(0)
}

/// In the order of [`COLUMNS`].
fn row(volume: &VolumeSummary) -> Vec<String> {
    let labels = volume.labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    vec![
        volume.driver.clone(),
        volume.name.clone(),
        volume.scope.clone(),
        volume.mountpoint.clone(),
        labels.collect::<Vec<_>>().join(","),
    ]
}
