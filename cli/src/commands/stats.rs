//! `berth stats`: what containers use, once or every second.

use std::io::IsTerminal;

use clap::Args;

use crate::client::{Client, ClientError, JsonLines, Stats};
use crate::format::{Column, Format, Listing};
use crate::outcome::Outcome;
use crate::output::print;
use crate::quantity::{binary_size, decimal_size};
use crate::reference::short_id;

const COLUMNS: &[Column] = &[
    Column { field: "Container", header: "CONTAINER" },
    Column { field: "ID", header: "CONTAINER ID" },
    Column { field: "Name", header: "NAME" },
    Column { field: "CPUPerc", header: "CPU %" },
    Column { field: "MemUsage", header: "MEM USAGE / LIMIT" },
    Column { field: "MemPerc", header: "MEM %" },
    Column { field: "NetIO", header: "NET I/O" },
    Column { field: "BlockIO", header: "BLOCK I/O" },
    Column { field: "PIDs", header: "PIDS" },
];
const DEFAULT: &[&str] = &["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"];
/// Clears a terminal and begins at its top.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Display a live stream of container(s) resource usage statistics
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth stats
  berth stats --no-stream --format json web")]
pub(crate) struct Arguments {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Format output: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, default_value = "table", value_name = "FORMAT")]
    format: String,
    /// Disable streaming stats and only pull the first result
    #[arg(long)]
    no_stream: bool,
    /// Do not truncate output
    #[arg(long)]
    no_trunc: bool,
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let format = Format::parse(&arguments.format)?;
    let containers = if arguments.containers.is_empty() {
        let listed = client.list_containers(arguments.all, None, None).await?;
        listed.into_iter().map(|container| container.id).collect()
    } else {
        arguments.containers.clone()
    };
    let show = |looks: &[Stats]| -> Outcome {
        let rows = containers.iter().zip(looks);
        let rows = rows.map(|(container, stats)| row(container, stats, arguments.no_trunc)).collect();
        print(&Listing { columns: COLUMNS, default: DEFAULT, rows }.render(&format)?)?;
        Ok(0)
    };
    if arguments.no_stream {
        let looks = futures_util::future::try_join_all(containers.iter().map(|id| client.stats(id))).await?;
        return show(&looks);
    }
    let streams = containers.iter().map(|container| client.stats_stream(container));
    let mut streams = futures_util::future::try_join_all(streams).await?;
    // The first look has nothing to compare with.
    let _first = next_of_each(&mut streams).await?;
    while let Some(looks) = next_of_each(&mut streams).await? {
        if std::io::stdout().is_terminal() {
            print(CLEAR)?;
        }
        show(&looks)?;
    }
    Ok(0)
}

/// One look at each; none once a container is gone, or where there is nothing to look at.
async fn next_of_each(streams: &mut [JsonLines]) -> Result<Option<Vec<Stats>>, ClientError> {
    if streams.is_empty() {
        return Ok(None);
    }
    let looks = streams.iter_mut().map(JsonLines::next::<Stats>);
    Ok(futures_util::future::try_join_all(looks).await?.into_iter().collect())
}

/// In the order of [`COLUMNS`].
fn row(container: &str, stats: &Stats, no_trunc: bool) -> Vec<String> {
    let used = memory_in_use(stats);
    let limit = stats.memory_stats.limit;
    let (received, sent) = stats
        .networks
        .values()
        .fold((0, 0), |(received, sent), network| (received + network.rx_bytes, sent + network.tx_bytes));
    vec![
        container.to_owned(),
        if no_trunc { stats.id.clone() } else { short_id(&stats.id).to_owned() },
        stats.name.trim_start_matches('/').to_owned(),
        format!("{:.2}%", cpu_percent(stats)),
        format!("{} / {}", binary_size(used), binary_size(limit)),
        format!("{:.2}%", percent(used, limit)),
        format!("{} / {}", decimal_size(received), decimal_size(sent)),
        format!(
            "{} / {}",
            decimal_size(block_bytes(stats, "read")),
            decimal_size(block_bytes(stats, "write"))
        ),
        stats.pids_stats.current.to_string(),
    ]
}

/// What the kernel could not give away at once.
fn memory_in_use(stats: &Stats) -> u64 {
    let memory = &stats.memory_stats;
    memory.usage.saturating_sub(memory.stats.get("inactive_file").copied().unwrap_or(0))
}

/// Of one CPU, between two looks.
fn cpu_percent(stats: &Stats) -> f64 {
    let (now, before) = (&stats.cpu_stats, &stats.precpu_stats);
    let used = now.cpu_usage.total_usage.saturating_sub(before.cpu_usage.total_usage);
    let passed = now.system_cpu_usage.saturating_sub(before.system_cpu_usage);
    percent(used, passed) * f64::from(now.online_cpus)
}

fn block_bytes(stats: &Stats, op: &str) -> u64 {
    let entries = stats.blkio_stats.io_service_bytes_recursive.iter().flatten();
    entries.filter(|entry| entry.op.eq_ignore_ascii_case(op)).map(|entry| entry.value).sum()
}

#[expect(clippy::cast_precision_loss, reason = "two digits of it are shown")]
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_differences_and_cache_is_not_use() {
        let stats: Stats = serde_json::from_str(
            r#"{"name": "/web", "id": "0123456789abcdef", "pids_stats": {"current": 3},
                "cpu_stats": {"cpu_usage": {"total_usage": 300}, "system_cpu_usage": 2000, "online_cpus": 2},
                "precpu_stats": {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000},
                "memory_stats": {"usage": 3145728, "limit": 4194304, "stats": {"inactive_file": 1048576}},
                "blkio_stats": {"io_service_bytes_recursive": [
                    {"op": "read", "value": 1000}, {"op": "write", "value": 2000}, {"op": "Read", "value": 1}]}}"#,
        )
        .unwrap();
        let expected =
            ["web", "0123456789ab", "web", "40.00%", "2MiB / 4MiB", "50.00%", "0B / 0B", "1kB / 2kB", "3"];
        assert_eq!(row("web", &stats, false), expected);
    }

    #[test]
    fn a_container_that_does_not_run_uses_nothing() {
        let stats: Stats = serde_json::from_str(r#"{"name": "/web", "id": "1", "blkio_stats": {}}"#).unwrap();
        assert_eq!(row("web", &stats, true)[3..6], ["0.00%", "0B / 0B", "0.00%"]);
    }
}
