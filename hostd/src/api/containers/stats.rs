//! `GET /containers/{id}/stats`: counters once, or every second until the client has seen enough.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State as Extracted};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::State;
use crate::api::Daemon;
use crate::api::error::{ApiError, ApiResult};
use crate::api::params::Params;
use crate::api::time::NEVER;
use crate::engine::{ContainerView, DiskStatistics, InterfaceStatistics, Statistics};

/// Docker's.
const INTERVAL: Duration = Duration::from_secs(1);
const NANOSECONDS_PER_MICROSECOND: u64 = 1000;

pub(in crate::api) async fn stats(
    Extracted(daemon): State,
    Path(id): Path<String>,
    params: Params,
) -> ApiResult<Response> {
    let streams = params.text("stream").is_none() || params.flag("stream");
    if streams && params.flag("one-shot") {
        return Err(ApiError::invalid("cannot have stream=true and one-shot=true"));
    }
    let view = daemon.engine.container(&id)?;
    let mut samples = Samples { daemon, view, previous: None };
    let content_type = [(header::CONTENT_TYPE, "application/json")];
    if !streams {
        let first = samples.next().await?;
        // Rates are differences, so one sample takes two.
        let one = if params.flag("one-shot") || !samples.view.is_running() {
            first
        } else {
            tokio::time::sleep(INTERVAL).await;
            samples.next().await?
        };
        return Ok((content_type, line(&one)).into_response());
    }
    let first = samples.next().await?;
    let body = stream::unfold((samples, Some(first)), async |(mut samples, first)| {
        let sample = match first {
            Some(first) => first,
            None => {
                tokio::time::sleep(INTERVAL).await;
                // The container is gone: so is the stream.
                samples.next().await.ok()?
            }
        };
        Some((Ok::<_, std::io::Error>(line(&sample)), (samples, None)))
    });
    Ok((content_type, Body::from_stream(body)).into_response())
}

/// One after the other, each with the one before.
struct Samples {
    daemon: Arc<Daemon>,
    view: ContainerView,
    previous: Option<Statistics>,
}

impl Samples {
    async fn next(&mut self) -> ApiResult<Stats> {
        let now = self.daemon.engine.statistics(self.view.id.as_str()).await?;
        let stats = Stats::new(&self.view, now.as_ref(), self.previous.as_ref());
        self.previous = now;
        Ok(stats)
    }
}

fn line(stats: &Stats) -> Bytes {
    let mut line = serde_json::to_vec(stats).expect("plain data is always JSON");
    line.push(b'\n');
    line.into()
}

#[derive(Debug, Serialize)]
struct Stats {
    name: String,
    id: String,
    read: String,
    preread: String,
    pids_stats: Value,
    blkio_stats: BlkioStats,
    num_procs: u32,
    storage_stats: Value,
    cpu_stats: Value,
    precpu_stats: Value,
    memory_stats: Value,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    networks: BTreeMap<String, Value>,
}

/// Null where control groups of today count nothing.
#[derive(Debug, Default, Serialize)]
struct BlkioStats {
    io_service_bytes_recursive: Option<Vec<Value>>,
    io_serviced_recursive: Option<Vec<Value>>,
    io_queue_recursive: Option<()>,
    io_service_time_recursive: Option<()>,
    io_wait_time_recursive: Option<()>,
    io_merged_recursive: Option<()>,
    io_time_recursive: Option<()>,
    sectors_recursive: Option<()>,
}

impl Stats {
    fn new(view: &ContainerView, now: Option<&Statistics>, previous: Option<&Statistics>) -> Self {
        Self {
            name: format!("/{}", view.name),
            id: view.id.to_string(),
            read: time(now),
            preread: time(previous),
            pids_stats: now.map_or_else(|| json!({}), pids),
            blkio_stats: now.map(blkio).unwrap_or_default(),
            num_procs: 0,
            storage_stats: json!({}),
            cpu_stats: cpu(now),
            precpu_stats: cpu(previous),
            memory_stats: now.map_or_else(|| json!({}), memory),
            networks: now.map(networks).unwrap_or_default(),
        }
    }
}

/// The reply about a container that has a disk and a network card, for which a machine need not run.
#[cfg(test)]
pub(in crate::api) fn example(view: &ContainerView) -> Value {
    let now = Statistics {
        disks: vec![DiskStatistics::default()],
        interfaces: vec![InterfaceStatistics::default()],
        ..Statistics::default()
    };
    serde_json::to_value(Stats::new(view, Some(&now), None)).expect("numbers and words have JSON")
}

fn time(statistics: Option<&Statistics>) -> String {
    let time = statistics.and_then(|read| Timestamp::from_nanosecond(read.read_unix_ns.into()).ok());
    time.map_or_else(|| NEVER.to_owned(), |time| time.to_string())
}

fn pids(statistics: &Statistics) -> Value {
    let mut pids = json!({ "current": statistics.pids });
    // Docker's way to say "no limit".
    let limit = if statistics.pids_limit == 0 { u64::MAX } else { statistics.pids_limit };
    pids["limit"] = limit.into();
    pids
}

/// Times in nanoseconds.
fn cpu(statistics: Option<&Statistics>) -> Value {
    let cpu = statistics.and_then(|statistics| statistics.cpu).unwrap_or_default();
    let ns = |us: u64| us.saturating_mul(NANOSECONDS_PER_MICROSECOND);
    let mut stats = json!({
        "cpu_usage": {
            "total_usage": ns(cpu.total_us),
            "usage_in_kernelmode": ns(cpu.system_us),
            "usage_in_usermode": ns(cpu.user_us),
        },
        "throttling_data": {
            "periods": cpu.periods,
            "throttled_periods": cpu.throttled_periods,
            "throttled_time": ns(cpu.throttled_us),
        },
    });
    if statistics.is_some() {
        stats["system_cpu_usage"] = ns(cpu.machine_total_us).into();
        stats["online_cpus"] = cpu.machine_cpus.into();
    }
    stats
}

/// Without a limit of its own, a container may use its machine's memory.
fn memory(statistics: &Statistics) -> Value {
    let memory = statistics.memory.clone().unwrap_or_default();
    let limit = if memory.limit_bytes == 0 { memory.machine_bytes } else { memory.limit_bytes };
    let counts: BTreeMap<_, _> = memory.counts.into_iter().map(|count| (count.name, count.value)).collect();
    json!({ "usage": memory.usage_bytes, "stats": counts, "limit": limit })
}

fn blkio(statistics: &Statistics) -> BlkioStats {
    let entry = |disk: &DiskStatistics, op: &str, value: u64| json!({ "major": disk.major, "minor": disk.minor, "op": op, "value": value });
    let both = |read: fn(&DiskStatistics) -> u64, written: fn(&DiskStatistics) -> u64| {
        let disks = statistics.disks.iter();
        let entries: Vec<Value> = disks
            .flat_map(|disk| [entry(disk, "read", read(disk)), entry(disk, "write", written(disk))])
            .collect();
        (!entries.is_empty()).then_some(entries)
    };
    BlkioStats {
        io_service_bytes_recursive: both(|disk| disk.read_bytes, |disk| disk.written_bytes),
        io_serviced_recursive: both(|disk| disk.reads, |disk| disk.writes),
        ..BlkioStats::default()
    }
}

fn networks(statistics: &Statistics) -> BTreeMap<String, Value> {
    let entry = |interface: &InterfaceStatistics| {
        let counters = json!({
            "rx_bytes": interface.received_bytes, "rx_packets": interface.received_packets,
            "rx_errors": interface.receive_errors, "rx_dropped": interface.receive_dropped,
            "tx_bytes": interface.sent_bytes, "tx_packets": interface.sent_packets,
            "tx_errors": interface.send_errors, "tx_dropped": interface.send_dropped,
        });
        (interface.name.clone(), counters)
    };
    statistics.interfaces.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use berth_protocol::agent::{CpuStatistics, MemoryStatistics};

    use super::*;

    #[test]
    fn cpu_times_are_nanoseconds_and_absent_ones_are_not_invented() {
        let cpu_statistics =
            CpuStatistics { total_us: 3, machine_total_us: 7, machine_cpus: 2, ..CpuStatistics::default() };
        let statistics = Statistics { cpu: Some(cpu_statistics), ..Statistics::default() };
        let stats = cpu(Some(&statistics));
        assert_eq!(
            (&stats["cpu_usage"]["total_usage"], &stats["system_cpu_usage"]),
            (&json!(3000), &json!(7000))
        );
        let none = cpu(None);
        assert_eq!((&none["cpu_usage"]["total_usage"], none.get("online_cpus")), (&json!(0), None));
    }

    #[test]
    fn the_machine_is_the_limit_of_who_has_none() {
        let of = |limit_bytes| {
            let counted = MemoryStatistics {
                usage_bytes: 1,
                limit_bytes,
                machine_bytes: 9,
                ..MemoryStatistics::default()
            };
            memory(&Statistics { memory: Some(counted), ..Statistics::default() })
        };
        assert_eq!((&of(0)["limit"], &of(5)["limit"]), (&json!(9), &json!(5)));
        assert_eq!(pids(&Statistics { pids: 2, ..Statistics::default() })["limit"], json!(u64::MAX));
    }

    #[test]
    fn disks_without_counters_are_null() {
        assert_eq!(blkio(&Statistics::default()).io_service_bytes_recursive, None);
        let disk = DiskStatistics { major: 254, minor: 16, written_bytes: 5, ..DiskStatistics::default() };
        let entries = blkio(&Statistics { disks: vec![disk], ..Statistics::default() });
        let entries = entries.io_service_bytes_recursive.unwrap();
        assert_eq!(entries[1], json!({ "major": 254, "minor": 16, "op": "write", "value": 5 }));
    }

    #[test]
    fn a_time_that_has_not_come_is_go_s_zero_time() {
        assert_eq!(time(None), NEVER);
        let at = Statistics { read_unix_ns: 1_000_000_000, ..Statistics::default() };
        assert_eq!(time(Some(&at)), "1970-01-01T00:00:01Z");
    }
}
