//! `GET /containers/{id}/top`: the container's processes as ps(1) prints them, in the columns that it is asked for.

use axum::Json;
use axum::extract::{Path, State as Extracted};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::State;
use crate::api::error::{ApiError, ApiResult};
use crate::api::params::Params;
use crate::engine::ProcessRow;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct Top {
    titles: Vec<&'static str>,
    processes: Vec<Vec<String>>,
}

pub(in crate::api) async fn top(
    Extracted(daemon): State,
    Path(id): Path<String>,
    params: Params,
) -> ApiResult<Json<Top>> {
    let columns = columns(params.text("ps_args").unwrap_or("-ef"))?;
    let table = daemon.engine.processes(&id).await?;
    let whole = Whole { now: Timestamp::now(), machine_bytes: table.machine_bytes };
    Ok(Json(print(&columns, &table.rows, whole)))
}

fn print(columns: &[Column], rows: &[ProcessRow], whole: Whole) -> Top {
    let print = |row: &ProcessRow| columns.iter().map(|column| (column.print)(row, whole)).collect();
    Top {
        titles: columns.iter().map(|column| column.title).collect(),
        processes: rows.iter().map(print).collect(),
    }
}

/// The reply about one process.
#[cfg(test)]
pub(in crate::api) fn example() -> serde_json::Value {
    let columns = columns("-ef").expect("everybody asks for these");
    let whole = Whole { now: Timestamp::UNIX_EPOCH, machine_bytes: 0 };
    serde_json::to_value(print(&columns, &[ProcessRow::default()], whole)).expect("words have JSON")
}

/// What a process is measured against.
#[derive(Clone, Copy, Debug)]
struct Whole {
    now: Timestamp,
    /// 0 if the agent does not say.
    machine_bytes: u64,
}

/// A column: what `-o` calls it, what stands above it, and what of a process stands in it.
#[derive(Clone, Copy, Debug)]
struct Column {
    names: &'static [&'static str],
    title: &'static str,
    print: fn(&ProcessRow, Whole) -> String,
}

#[rustfmt::skip]
const COLUMNS: [Column; 22] = [
    Column { names: &["uid_name"], title: "UID", print: |row, _| user(row) },
    Column { names: &["user", "euser", "uname"], title: "USER", print: |row, _| user(row) },
    Column { names: &["uid", "euid"], title: "UID", print: |row, _| row.user_id.to_string() },
    Column { names: &["pid", "tgid"], title: "PID", print: |row, _| row.pid.to_string() },
    Column { names: &["ppid"], title: "PPID", print: |row, _| row.parent_pid.to_string() },
    Column { names: &["c"], title: "C", print: |row, all| tenths_of_cpu(row, all.now).div_euclid(10).min(99).to_string() },
    Column { names: &["%cpu", "pcpu"], title: "%CPU", print: |row, all| tenths(tenths_of_cpu(row, all.now)) },
    Column { names: &["%mem", "pmem"], title: "%MEM", print: |row, all| tenths(tenths_of_memory(row, all.machine_bytes)) },
    Column { names: &["vsz", "vsize"], title: "VSZ", print: |row, _| (row.virtual_bytes >> 10).to_string() },
    Column { names: &["rss", "rssize"], title: "RSS", print: |row, _| (row.resident_bytes >> 10).to_string() },
    Column { names: &["stime", "start_time"], title: "STIME", print: |row, all| started(row, all.now) },
    Column { names: &["start", "bsdstart"], title: "START", print: |row, all| started(row, all.now) },
    Column { names: &["tty", "tt", "tname"], title: "TTY", print: |row, _| terminal(row) },
    Column { names: &["stat"], title: "STAT", print: |row, _| state(row) },
    Column { names: &["s", "state"], title: "S", print: |row, _| row.state.clone() },
    Column { names: &["time", "cputime"], title: "TIME", print: |row, _| clock(row.cpu_time_ms / 1000) },
    Column { names: &["bsdtime"], title: "TIME", print: |row, _| minutes(row.cpu_time_ms / 1000) },
    Column { names: &["etime"], title: "ELAPSED", print: |row, all| clock(age_s(row, all.now)) },
    Column { names: &["ni", "nice"], title: "NI", print: |row, _| row.nice.to_string() },
    Column { names: &["nlwp", "thcount"], title: "NLWP", print: |row, _| row.threads.to_string() },
    Column { names: &["comm", "ucmd", "ucomm"], title: "COMMAND", print: |row, _| row.name.clone() },
    Column { names: &["args", "command"], title: "COMMAND", print: |row, _| row.command.clone() },
];
const CMD: Column = Column { names: &["cmd"], title: "CMD", print: |row, _| row.command.clone() };

/// The options that ps of today knows as sets of columns, and lists of columns.
fn columns(arguments: &str) -> ApiResult<Vec<Column>> {
    let named = |names: &str| -> ApiResult<Vec<Column>> {
        names.split([',', ' ']).filter(|name| !name.is_empty()).map(column).collect()
    };
    match arguments.trim().trim_start_matches('-') {
        "ef" | "fe" | "eF" | "f" => named("uid_name pid ppid c stime tty time cmd"),
        "e" | "A" | "" => named("pid tty time cmd"),
        flags if is_bsd(flags) => named("user pid %cpu %mem vsz rss tty stat start bsdtime command"),
        other => match list(other) {
            Some(list) => {
                let columns = named(list)?;
                if columns.iter().all(|column| column.title != "PID") {
                    return Err(ApiError::internal("Couldn't find PID field in ps output"));
                }
                Ok(columns)
            }
            None => Err(ApiError::not_supported(format!(
                "the ps arguments \"{arguments}\" are not supported by berth yet: \
                 -ef, aux and -o with a list of columns are"
            ))),
        },
    }
}

/// `aux` and its like.
fn is_bsd(flags: &str) -> bool {
    flags.contains('u') && flags.chars().all(|flag| "auxw".contains(flag))
}

/// What follows the `o` of "-o pid,cmd", "-eo pid,cmd" or "o pid,cmd".
fn list(arguments: &str) -> Option<&str> {
    let (flags, list) = arguments.split_once('o')?;
    let list = list.trim_start_matches(['=', ' ']);
    (flags.chars().all(|flag| "eaxA -".contains(flag)) && !list.is_empty()).then_some(list)
}

fn column(name: &str) -> ApiResult<Column> {
    if CMD.names.contains(&name) {
        return Ok(CMD);
    }
    let found = COLUMNS.iter().find(|column| column.names.contains(&name)).copied();
    found.ok_or_else(|| ApiError::invalid(format!("ps: unknown user-defined format specifier \"{name}\"")))
}

/// Names of users are the container's own business; the one that everybody has is root.
fn user(row: &ProcessRow) -> String {
    if row.user_id == 0 { "root".to_owned() } else { row.user_id.to_string() }
}

fn terminal(row: &ProcessRow) -> String {
    if row.terminal.is_empty() { "?".to_owned() } else { row.terminal.clone() }
}

/// The letters that ps puts behind the state.
fn state(row: &ProcessRow) -> String {
    let nice = match row.nice {
        ..0 => "<",
        0 => "",
        1.. => "N",
    };
    let leads = if row.session == row.pid { "s" } else { "" };
    let threads = if row.threads > 1 { "l" } else { "" };
    let foreground = if row.foreground_group == row.group && !row.terminal.is_empty() { "+" } else { "" };
    format!("{}{nice}{leads}{threads}{foreground}", row.state)
}

fn age_s(row: &ProcessRow, now: Timestamp) -> u64 {
    u64::try_from(now.as_second().saturating_sub(row.started_unix_s)).unwrap_or(0)
}

/// CPU time against the time since the start.
fn tenths_of_cpu(row: &ProcessRow, now: Timestamp) -> u64 {
    row.cpu_time_ms.checked_div(age_s(row, now)).unwrap_or(0)
}

/// Resident memory against the machine's.
fn tenths_of_memory(row: &ProcessRow, machine_bytes: u64) -> u64 {
    row.resident_bytes.saturating_mul(1000).checked_div(machine_bytes).unwrap_or(0)
}

fn tenths(tenths: u64) -> String {
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// The time of day, of a process of another day its date.
fn started(row: &ProcessRow, now: Timestamp) -> String {
    let at = |time: Timestamp| time.to_zoned(TimeZone::system());
    let Ok(started) = Timestamp::from_second(row.started_unix_s) else { return "?".to_owned() };
    let format = if at(started).date() == at(now).date() { "%H:%M" } else { "%b%d" };
    at(started).strftime(format).to_string()
}

fn clock(seconds: u64) -> String {
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let days = hours / 24;
    let days = if days > 0 { format!("{days}-") } else { String::new() };
    format!("{days}{:02}:{minutes:02}:{:02}", hours % 24, seconds % 60)
}

fn minutes(seconds: u64) -> String {
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(arguments: &str) -> Result<Vec<&'static str>, String> {
        let columns = columns(arguments).map_err(|error| error.message)?;
        Ok(columns.iter().map(|column| column.title).collect())
    }

    #[test]
    fn the_usual_arguments_have_the_usual_columns() {
        assert_eq!(titles("-ef").unwrap(), ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
        assert_eq!(titles("aux").unwrap()[..4], ["USER", "PID", "%CPU", "%MEM"]);
        for list in ["-o pid,cmd", "-eo pid,cmd", "o pid,cmd", "-opid,cmd", "axo pid,cmd"] {
            assert_eq!(titles(list).unwrap(), ["PID", "CMD"], "{list}");
        }
    }

    #[test]
    fn other_arguments_are_refused_by_name() {
        assert_eq!(titles("-o cmd").unwrap_err(), "Couldn't find PID field in ps output");
        assert!(titles("-o pid,wings").unwrap_err().contains("\"wings\""));
        assert!(titles("--forest").unwrap_err().contains("\"--forest\""));
    }

    #[test]
    fn a_row_is_printed_as_ps_would() {
        let all = Whole { now: Timestamp::from_second(100_000).unwrap(), machine_bytes: 512 << 20 };
        let row = ProcessRow {
            pid: 7,
            session: 7,
            group: 7,
            foreground_group: 7,
            terminal: "pts/0".into(),
            state: "S".into(),
            nice: 5,
            threads: 2,
            cpu_time_ms: 3_723_000,
            resident_bytes: 64 << 20,
            started_unix_s: 90_000,
            command: "sleep 9".into(),
            ..ProcessRow::default()
        };
        let printed = |name: &str| (column(name).unwrap().print)(&row, all);
        assert_eq!([printed("user"), printed("tty"), printed("stat")], ["root", "pts/0", "SNsl+"]);
        assert_eq!([printed("time"), printed("etime"), printed("cmd")], ["01:02:03", "02:46:40", "sleep 9"]);
        assert_eq!([printed("c"), printed("%cpu")], ["37", "37.2"]);
        assert_eq!([printed("%mem"), printed("bsdtime")], ["12.5", "62:03"]);
        assert_eq!(clock(90_061), "1-01:01:01");
    }
}
