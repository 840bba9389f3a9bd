//! Many at once and many in a row.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use berth_tests::{Api, Host, eventually};
use serde_json::json;

use super::text;

/// What a daemon may keep of a crowd that is gone: its allocator's arenas, not more.
const MEMORY_SLACK_KIB: u64 = 48 << 10;

#[test]
fn a_hundred_processes_at_once_give_a_hundred_answers() {
    let Some(host) = Host::start() else { return };
    let api = host.api();
    host.berth().run(["run", "-d", "--name", "box", "busybox", "sleep", "1000"]).exits_with(0);
    let before = host.daemon_descriptors();
    let execs: Vec<_> = (0..100)
        .map(|number| {
            let api = api.clone();
            thread::spawn(move || one_exec(&api, number))
        })
        .collect();
    execs.into_iter().for_each(|exec| exec.join().unwrap());
    eventually("the daemon has as many descriptors as before", || host.daemon_descriptors() <= before);
}

/// Its output and its code are its own, and nobody else's.
fn one_exec(api: &Api, number: u32) {
    let script = format!("echo out {number}; echo err {number} >&2; exit {number}");
    let exec = json!({ "Cmd": ["sh", "-c", script], "AttachStdout": true, "AttachStderr": true });
    let exec = api.send("POST", "/containers/box/exec", &exec).is(201).json();
    let exec = text(&exec["Id"]);
    let output = api.open("POST", &format!("/exec/{exec}/start"), Some(&json!({}))).rest();
    let output = String::from_utf8_lossy(&output).into_owned();
    let [out, err] = [format!("out {number}\n"), format!("err {number}\n")];
    assert!(output.contains(&out) && output.contains(&err), "{number}: {output:?}");
    assert_eq!(output.matches(char::is_whitespace).count(), 4, "{number}: more than its own: {output:?}");
    let inspect = api.ask("GET", &format!("/exec/{exec}/json")).is(200).json();
    assert_eq!((&inspect["Running"], &inspect["ExitCode"]), (&json!(false), &json!(number)), "{inspect}");
}

/// Until the time is up, and at least fifty containers.
#[test]
fn containers_that_come_and_go_leave_nothing() {
    let Some(host) = Host::start() else { return };
    come_and_go(&host, Duration::from_secs(25));
}

#[test]
#[ignore = "minutes: BERTH_TEST_SOAK_S says how many seconds; `cargo xtask soak` runs it"]
fn soak_containers_that_come_and_go() {
    let Some(host) = Host::start() else { return };
    come_and_go(&host, super::soak_time());
}

fn come_and_go(host: &Host, time: Duration) {
    let api = host.api();
    // Once, so that what is made at first use is there.
    one_life(&api, 0);
    one_life(&api, 1);
    host.has_nothing_left_of_machines();
    let (descriptors, memory_kib) = (host.daemon_descriptors(), host.daemon_memory_kib());
    let (start, lives) = (Instant::now(), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let number = lives.fetch_add(1, Ordering::Relaxed);
                    if number >= 50 && start.elapsed() > time {
                        return;
                    }
                    one_life(&api, number);
                }
            });
        }
    });
    assert_eq!(api.ask("GET", "/containers/json?all=1").is(200).json(), json!([]));
    host.has_nothing_left_of_machines();
    eventually("containers' directories go", || {
        std::fs::read_dir(host.path("data/containers")).is_ok_and(|mut left| left.next().is_none())
    });
    eventually("the daemon has as many descriptors as before", || host.daemon_descriptors() <= descriptors);
    let grown_kib = host.daemon_memory_kib().saturating_sub(memory_kib);
    assert!(grown_kib < MEMORY_SLACK_KIB, "{grown_kib} KiB more after {lives:?} containers");
}

/// Every tenth runs; the others only were about to.
fn one_life(api: &Api, number: usize) {
    let code = number % 200;
    let create = json!({ "Image": "busybox", "Cmd": ["sh", "-c", format!("exit {code}")] });
    let created = api.send("POST", "/containers/create", &create).is(201).json();
    let id = text(&created["Id"]);
    if number % 10 == 1 {
        let _started = api.ask("POST", &format!("/containers/{id}/start")).is(204);
        let end = api.ask("POST", &format!("/containers/{id}/wait")).is(200).json();
        assert_eq!(end["StatusCode"], code, "{end}");
    }
    let _removed = api.ask("DELETE", &format!("/containers/{id}?force=1")).is(204);
}
