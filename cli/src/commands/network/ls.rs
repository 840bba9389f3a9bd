//! `berth network ls`: list networks.

use clap::Args;

use crate::client::{Client, NetworkSummary};
use crate::commands::filters;
use crate::format::{Column, Format, Listing};
use crate::outcome::Outcome;
use crate::output::print;
use crate::reference::short_id;

const COLUMNS: &[Column] = &[
    Column { field: "ID", header: "NETWORK ID" },
    Column { field: "Name", header: "NAME" },
    Column { field: "Driver", header: "DRIVER" },
    Column { field: "Scope", header: "SCOPE" },
    Column { field: "IPv6", header: "IPV6" },
    Column { field: "Internal", header: "INTERNAL" },
    Column { field: "Labels", header: "LABELS" },
    Column { field: "CreatedAt", header: "CREATED AT" },
];
const DEFAULT: &[&str] = &["ID", "Name", "Driver", "Scope"];

/// List networks
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth network ls
  berth network ls --filter driver=bridge --format '{{.Name}}'")]
pub(crate) struct Arguments {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Format output: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, default_value = "table", value_name = "FORMAT")]
    format: String,
    /// Do not truncate the output
    #[arg(long)]
    no_trunc: bool,
    /// Only display network IDs
    #[arg(short, long)]
    quiet: bool,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let format = Format::parse(&arguments.format)?;
    let mut networks = client.list_networks(filters::encode(&arguments.filter)?.as_deref()).await?;
    networks.sort_by(|one, other| one.name.cmp(&other.name));
    if arguments.quiet {
        let ids = networks.iter().map(|network| format!("{}\n", id(network, arguments.no_trunc)));
        print(&ids.collect::<String>())?;
        return Ok(0);
    }
    let rows = networks.iter().map(|network| row(network, arguments.no_trunc)).collect();
    print(&Listing { columns: COLUMNS, default: DEFAULT, rows }.render(&format)?)?;
    Ok(0)
}

fn id(network: &NetworkSummary, no_trunc: bool) -> &str {
    if no_trunc { &network.id } else { short_id(&network.id) }
}

/// In the order of [`COLUMNS`].
fn row(network: &NetworkSummary, no_trunc: bool) -> Vec<String> {
    let labels = network.labels.iter().map(|(key, value)| format!("{key}={value}"));
    vec![
        id(network, no_trunc).to_owned(),
        network.name.clone(),
        network.driver.clone(),
        network.scope.clone(),
        network.enable_ipv6.to_string(),
        network.internal.to_string(),
        labels.collect::<Vec<_>>().join(","),
        network.created.clone(),
    ]
}
