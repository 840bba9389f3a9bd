//! The verb ReadProcessTable: every process of a container as /proc describes it, whoever started it.

use std::fs;
use std::path::{Path, PathBuf};

use berth_protocol::agent::{ProcessRow, ProcessTable};

use super::cgroup::statistics;
use super::no_such_container;
use crate::agent::Agent;
use crate::clock;
use crate::failure::Failure;

/// /proc counts times in these (`USER_HZ`).
const TICK_MS: u64 = 10;
const PAGE_BYTES: u64 = 4096;
/// More of a command line than fits on a screen.
const MAX_COMMAND_BYTES: usize = 4096;
/// A table within the bound of a frame.
const MAX_ROWS: usize = 4096;

/// # Errors
/// NO_SUCH_CONTAINER.
pub(crate) fn read(agent: &Agent, container_id: &str) -> Result<ProcessTable, Failure> {
    let container = agent.containers.get(container_id).ok_or_else(|| no_such_container(container_id))?;
    let pids = container.cgroup.pids().into_iter().take(MAX_ROWS);
    let booted_unix_ms =
        clock::unix_time_ns() / 1_000_000 - i64::try_from(clock::since_boot_us() / 1000).unwrap_or(i64::MAX);
    let mut rows: Vec<ProcessRow> = pids.filter_map(|pid| row(pid, booted_unix_ms)).collect();
    rows.sort_by_key(|row| row.pid);
    Ok(ProcessTable { rows, machine_bytes: statistics::machine_bytes() })
}

/// None once the process has ended.
fn row(pid: u32, booted_unix_ms: i64) -> Option<ProcessRow> {
    let directory = PathBuf::from(format!("/proc/{pid}"));
    let mut row = from_stat(&fs::read_to_string(directory.join("stat")).ok()?, booted_unix_ms)?;
    row.pid = pid;
    row.user_id = effective_user(&fs::read_to_string(directory.join("status")).ok()?)?;
    row.command = command(&directory, &row.name);
    Some(row)
}

/// `pid (name) state …`, proc_pid_stat(5). A name may hold parentheses and spaces.
fn from_stat(stat: &str, booted_unix_ms: i64) -> Option<ProcessRow> {
    let (front, back) = stat.rsplit_once(')')?;
    let name = front.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = back.split_whitespace().collect();
    // The first field here is the manual's third.
    let field = |number: usize| fields.get(number - 3).copied();
    let count = |number: usize| field(number).and_then(|text| text.parse::<u64>().ok());
    let id = |number: usize| count(number).and_then(|count| u32::try_from(count).ok());
    let started_ms = i64::try_from(count(22)?.saturating_mul(TICK_MS)).ok()?;
    Some(ProcessRow {
        name,
        state: field(3)?.to_owned(),
        parent_pid: id(4)?,
        group: id(5)?,
        session: id(6)?,
        terminal: terminal(field(7)?.parse().ok()?),
        // -1 without a terminal.
        foreground_group: id(8).unwrap_or(0),
        cpu_time_ms: count(14)?.saturating_add(count(15)?).saturating_mul(TICK_MS),
        nice: field(19)?.parse().ok()?,
        threads: id(20)?,
        started_unix_s: booted_unix_ms.saturating_add(started_ms).div_euclid(1000),
        virtual_bytes: count(23)?,
        resident_bytes: count(24)?.saturating_mul(PAGE_BYTES),
        ..ProcessRow::default()
    })
}

/// The minor number is in bits 31 to 20 and 7 to 0, the major number in bits 15 to 8.
fn terminal(device: i32) -> String {
    let device = device.cast_unsigned();
    let (major, minor) = (device >> 8 & 0xff, device & 0xff | device >> 12 & 0xf_ff00);
    match major {
        0 => String::new(),
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        _ => "?".to_owned(),
    }
}

fn effective_user(status: &str) -> Option<u32> {
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_whitespace().nth(1)?.parse().ok()
}

/// The arguments with spaces between them; a process without any (a zombie) in brackets.
fn command(directory: &Path, name: &str) -> String {
    let mut bytes = fs::read(directory.join("cmdline")).unwrap_or_default();
    bytes.truncate(MAX_COMMAND_BYTES);
    let text = String::from_utf8_lossy(&bytes);
    let words = text.trim_end_matches('\0').replace('\0', " ");
    if words.is_empty() { format!("[{name}]") } else { words }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "17 (a (b) c) S 1 17 16 34816 18 4194560 1 2 3 4 150 50 7 8 20 -5 3 0 1234 8192 2 9 9";

    #[test]
    fn a_line_of_stat_is_read_behind_the_last_parenthesis() {
        let row = from_stat(STAT, 1_000_000).unwrap();
        assert_eq!((row.name.as_str(), row.state.as_str()), ("a (b) c", "S"));
        assert_eq!((row.parent_pid, row.group, row.session, row.foreground_group), (1, 17, 16, 18));
        assert_eq!((row.terminal.as_str(), row.cpu_time_ms), ("pts/0", 2000));
        assert_eq!((row.nice, row.threads, row.started_unix_s), (-5, 3, 1012));
        assert_eq!((row.virtual_bytes, row.resident_bytes), (8192, 8192));
        assert_eq!(from_stat("17 (x) S 1", 0), None);
        assert_eq!(from_stat("", 0), None);
    }

    #[test]
    fn terminals_have_the_names_of_their_numbers() {
        assert_eq!(terminal(0), "");
        assert_eq!(terminal(136 << 8 | 5), "pts/5");
        assert_eq!(terminal(137 << 8 | 1), "pts/257");
        assert_eq!(terminal(4 << 8 | 1), "?");
    }

    #[test]
    fn this_process_is_found_with_its_arguments() {
        let row = row(std::process::id(), 0).unwrap();
        assert_eq!(row.user_id, rustix::process::geteuid().as_raw());
        assert!(row.command.contains(std::env::args().next().unwrap().as_str()));
        assert!(row.threads >= 1);
    }
}
