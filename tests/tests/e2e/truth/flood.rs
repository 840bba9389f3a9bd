//! A container that prints as fast as it can: every line arrives, once and in order, at whoever reads fast and whoever
//! reads slowly, and the daemon keeps none of it in its memory.

use std::thread;
use std::time::{Duration, Instant};

use berth_tests::{Host, Running, eventually};

/// Takes about ten seconds of an emulated processor.
const LINES: u64 = 400_000;
const MEMORY_SLACK_KIB: u64 = 32 << 10;

#[test]
fn a_flood_of_lines_arrives_once_and_in_order() {
    let Some(host) = Host::start() else { return };
    let client = host.berth();
    // Made before, because an emulated processor counts more slowly than lines flow.
    let script =
        format!("seq 1 {LINES} > /lines; touch /made; while [ ! -e /go ]; do sleep 0.1; done; cat /lines");
    client.run(["run", "-d", "--name", "flood", "busybox", "sh", "-c", &script]).exits_with(0);
    eventually("the lines are made", || client.run(["exec", "flood", "test", "-e", "/made"]).code == 0);
    let memory_kib = host.daemon_memory_kib();
    // Nobody reads this one while the container runs.
    let api = host.api();
    let mut slow = api.open("GET", "/containers/flood/logs?follow=1&stdout=1", None);
    let mut fast = client.spawn(["logs", "--follow", "flood"]);
    let fast = thread::spawn(move || count(&mut fast));
    client.run(["exec", "flood", "touch", "/go"]).exits_with(0);
    let start = Instant::now();
    client.run(["wait", "flood"]).exits_with(0).prints_exactly("0");
    let elapsed_ms = start.elapsed().as_millis();
    eprintln!("{} lines per millisecond", u128::from(LINES) / elapsed_ms.max(1));
    assert_eq!(fast.join().unwrap(), LINES, "lines at a fast reader");
    let grown_kib = host.daemon_memory_kib().saturating_sub(memory_kib);
    assert!(grown_kib < MEMORY_SLACK_KIB, "{grown_kib} KiB more for a slow reader");

    assert!(slow.rest() == framed_lines(), "the lines at a slow reader are others");
    let mut again = client.spawn(["logs", "flood"]);
    assert_eq!(count(&mut again), LINES, "lines in the log");
}

/// All lines, each behind the header that says its stream and its length.
fn framed_lines() -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 1..=LINES {
        let line = format!("{number}\n");
        let length = u32::try_from(line.len()).expect("a short line");
        bytes.extend([1, 0, 0, 0].into_iter().chain(length.to_be_bytes()));
        bytes.extend(line.bytes());
    }
    bytes
}

/// Reads to the end, and demands that every line is the one after that before.
fn count(reader: &mut Running) -> u64 {
    let mut expected = 0;
    while let Some(line) = reader.next_line() {
        expected += 1;
        assert_eq!(line, expected.to_string(), "the line after {}", expected - 1);
    }
    expected
}

#[test]
fn who_is_attached_and_does_not_read_holds_up_the_process_and_nobody_else() {
    let Some(host) = Host::start() else { return };
    let client = host.berth();
    let script = "while [ ! -e /go ]; do sleep 0.1; done; i=0; while true; do seq 1 10000; done";
    client.run(["run", "-d", "--name", "held", "busybox", "sh", "-c", script]).exits_with(0);
    let attached = host.api().open("POST", "/containers/held/attach?stream=1&stdout=1", None);
    assert_eq!(attached.status, 101);
    client.run(["exec", "held", "touch", "/go"]).exits_with(0);
    let log = || {
        let id = client.run(["inspect", "--format", "{{.LogPath}}", "held"]).text();
        std::fs::metadata(id).map_or(0, |file| file.len())
    };
    // As with Docker: it stands still when all buffers on the way are full.
    let mut before = 0;
    eventually("the process is held up", || {
        thread::sleep(Duration::from_secs(1));
        let now = log();
        let stands = now > 0 && now == before;
        before = now;
        stands
    });
    client.run(["exec", "held", "true"]).exits_with(0);
    // Its reader goes away: the process goes on.
    drop(attached);
    eventually("the process goes on", || log() > before + (1 << 20));
    client.run(["rm", "-f", "held"]).exits_with(0);
}
