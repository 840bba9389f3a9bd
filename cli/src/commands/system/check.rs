//! `berth system check`: have the daemon read and compare everything in its image store.

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use crate::client::{Client, ClientError};
use crate::outcome::Outcome;
use crate::output::print;
use crate::table::align;

/// There is damage left.
const DAMAGED: u8 = 1;

/// Check every manifest, configuration, blob, layer and disk of the image store
#[derive(Args, Debug)]
#[command(after_help = "Exits with 1 if there is damage left.

Examples:
  berth system check
  berth system check --repair     Make again what can be made again from what is sound")]
pub(crate) struct Arguments {
    /// Make layers again from their blobs, and disks from their layers; put bad blobs away
    #[arg(long)]
    repair: bool,
    /// Only tell of damage
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    error: String,
    aux: Option<Report>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Report {
    checked: serde_json::Map<String, Value>,
    damages: Vec<Damage>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Damage {
    part: String,
    digest: String,
    problem: String,
    images: Vec<String>,
    repaired: bool,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let mut lines = client.check(arguments.repair).await?;
    let mut report = None;
    while let Some(line) = lines.next::<Line>().await? {
        if !line.error.is_empty() {
            return Err(ClientError::Refused { status: 500, message: line.error }.into());
        }
        report = line.aux.or(report);
    }
    let missing = || ClientError::Nonsense {
        request: "check".to_owned(),
        reason: "the answer ended without a report".to_owned(),
    };
    let report = report.ok_or_else(missing)?;
    if !report.damages.is_empty() {
        print(&table(&report.damages))?;
    }
    if !arguments.quiet {
        print(&summary(&report))?;
    }
    Ok(if report.damages.iter().all(|damage| damage.repaired) { 0 } else { DAMAGED })
}

fn table(damages: &[Damage]) -> String {
    let header = ["PART", "DIGEST", "IMAGES", "STATE", "PROBLEM"].map(str::to_owned).to_vec();
    let row = |damage: &Damage| {
        let images = if damage.images.is_empty() { "<none>".to_owned() } else { damage.images.join(", ") };
        let state = if damage.repaired { "repaired" } else { "damaged" };
        vec![damage.part.clone(), damage.digest.clone(), images, state.to_owned(), damage.problem.clone()]
    };
    align(&std::iter::once(header).chain(damages.iter().map(row)).collect::<Vec<_>>())
}

fn summary(report: &Report) -> String {
    let counts = report.checked.iter().map(|(part, count)| {
        let one = count.as_u64() == Some(1);
        format!("{count} {part}{}", if one { "" } else { "s" })
    });
    let counts = counts.collect::<Vec<_>>().join(", ");
    let counts = if counts.is_empty() { "nothing, the store is empty".to_owned() } else { counts };
    let damaged = report.damages.iter().filter(|damage| !damage.repaired).count();
    let repaired = report.damages.len() - damaged;
    format!("Checked: {counts}\nDamaged: {damaged}   Repaired: {repaired}\n")
}
