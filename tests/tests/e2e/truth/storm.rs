//! Several clients that do whatever comes to their minds to the same few containers: each answer is one of Docker's,
//! and in the end everybody tells the same story.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use berth_tests::{Api, Host, Reply, eventually};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::text;

const CLIENTS: u64 = 6;
const NAMES: [&str; 3] = ["red", "green", "blue"];

/// What can be done to a container, and how Docker may answer.
const VERBS: [(&str, &str, &[u16]); 22] = [
    ("POST", "/containers/{}/start", &[204, 304, 404, 409]),
    ("POST", "/containers/{}/start", &[204, 304, 404, 409]),
    ("POST", "/containers/{}/start", &[204, 304, 404, 409]),
    ("POST", "/containers/{}/stop?t=0", &[204, 304, 404]),
    ("POST", "/containers/{}/stop?t=2", &[204, 304, 404]),
    ("POST", "/containers/{}/restart?t=0", &[204, 404, 409]),
    ("POST", "/containers/{}/kill", &[204, 404, 409]),
    ("POST", "/containers/{}/kill?signal=USR1", &[204, 404, 409]),
    ("POST", "/containers/{}/pause", &[204, 404, 409]),
    ("POST", "/containers/{}/unpause", &[204, 404, 409]),
    ("POST", "/containers/{}/unpause", &[204, 404, 409]),
    ("POST", "/containers/{}/rename?name={other}", &[204, 400, 404, 409]),
    ("POST", "/containers/{}/update", &[200, 404, 409]),
    ("POST", "/containers/{}/exec", &[201, 404, 409]),
    ("POST", "/containers/{}/exec", &[201, 404, 409]),
    ("POST", "/containers/{}/resize?h=20&w=20", &[200, 404, 409]),
    ("GET", "/containers/{}/json", &[200, 404]),
    ("GET", "/containers/{}/logs?stdout=1&tail=3", &[200, 404]),
    ("GET", "/containers/{}/top", &[200, 404, 409]),
    ("GET", "/containers/{}/stats?stream=0&one-shot=1", &[200, 404]),
    ("DELETE", "/containers/{}?force=1", &[204, 404, 409]),
    ("POST", "/containers/create?name={}", &[201, 409]),
];

#[test]
fn clients_that_do_anything_to_the_same_containers_get_dockers_answers_and_one_truth() {
    storm(Duration::from_secs(30));
}

#[test]
#[ignore = "minutes: BERTH_TEST_SOAK_S says how many seconds; `cargo xtask soak` runs it"]
fn soak_clients_that_do_anything() {
    storm(super::soak_time());
}

fn storm(time: Duration) {
    let Some(mut host) = Host::start() else { return };
    let seed = rand::random::<u64>();
    eprintln!("the storm's seed is {seed}");
    let api = host.api();
    for name in NAMES {
        let _made = create(&api, name).is(201);
    }
    let descriptors = host.daemon_descriptors();
    let end = Instant::now() + time;
    // Whoever waits hears of one end or another.
    let waits: Vec<_> = NAMES
        .iter()
        .map(|name| api.open("POST", &format!("/containers/{name}/wait?condition=removed"), None))
        .collect();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let api = api.clone();
            thread::spawn(move || client(&api, StdRng::seed_from_u64(seed.wrapping_add(number)), end))
        })
        .collect();
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    for client in clients {
        for answer in client.join().expect("a client has Docker's answers only") {
            *answers.entry(answer).or_default() += 1;
        }
    }
    eprintln!("the storm's answers: {answers:#?}");
    assert!(answers.keys().any(|answer| answer.contains("start: 204")), "nothing ever ran");

    let settled = truth(&api);
    host.kill_daemon();
    host.start_daemon();
    assert_eq!(truth(&api), settled, "another daemon tells another story");

    for container in api.ask("GET", "/containers/json?all=1").is(200).json().as_array().expect("a list") {
        let id = text(&container["Id"]);
        let _removed = api.ask("DELETE", &format!("/containers/{id}?force=1")).is(204);
    }
    drop(waits);
    host.has_nothing_left_of_machines();
    eventually("the daemon has as many descriptors as before", || host.daemon_descriptors() <= descriptors);
    host.has_a_sound_store();
}

fn create(api: &Api, name: &str) -> Reply {
    let script = "trap 'exit 7' TERM; trap 'echo heard' USR1; while true; do echo on; sleep 0.2; done";
    let create = json!({ "Image": "busybox", "Cmd": ["sh", "-c", script], "Tty": name == "red" });
    api.send("POST", &format!("/containers/create?name={name}"), &create)
}

/// Does things until the time is up, and tells how often each was answered how.
fn client(api: &Api, mut random: StdRng, end: Instant) -> Vec<String> {
    let mut answers = Vec::new();
    while Instant::now() < end {
        let (method, path, allowed) = VERBS[random.random_range(0..VERBS.len())];
        let name = NAMES[random.random_range(0..NAMES.len())];
        let other = NAMES[random.random_range(0..NAMES.len())];
        let path = path.replace("{}", name).replace("{other}", other);
        let start = Instant::now();
        let reply = act(api, method, &path, name);
        let verb = path.split(['?']).next().unwrap_or_default().replace(name, "…");
        assert!(allowed.contains(&reply.status), "not one of Docker's: {reply:?}");
        assert!(start.elapsed() < Duration::from_secs(300), "it took {:?}: {reply:?}", start.elapsed());
        answers.push(format!("{method} {verb}: {}", reply.status));
        if reply.status == 201 && path.ends_with("/exec") {
            answers.push(run_exec(api, &reply));
        }
    }
    answers
}

fn act(api: &Api, method: &str, path: &str, name: &str) -> Reply {
    if path.starts_with("/containers/create") {
        create(api, name)
    } else if path.ends_with("/update") {
        api.send(method, path, &json!({ "PidsLimit": 100 }))
    } else if path.ends_with("/exec") {
        api.send(method, path, &json!({ "Cmd": ["sh", "-c", "exit 3"], "AttachStdout": true }))
    } else {
        api.ask(method, path)
    }
}

/// A process that was started ends, with its own code or with its container's.
fn run_exec(api: &Api, created: &Reply) -> String {
    let id = text(&created.json()["Id"]);
    let mut opened = api.open("POST", &format!("/exec/{id}/start"), Some(&json!({})));
    let body = String::from_utf8_lossy(&opened.rest()).into_owned();
    assert!([101, 404, 409].contains(&opened.status), "exec start: {} {body}", opened.status);
    if opened.status == 101 {
        let inspect = api.ask("GET", &format!("/exec/{id}/json"));
        if inspect.status == 200 {
            let inspect = inspect.json();
            let code = inspect["ExitCode"].as_i64();
            assert!(inspect["Running"] == false && [Some(3), Some(137)].contains(&code), "{inspect}");
        }
    }
    format!("exec start: {}", opened.status)
}

/// What list and inspect say of every container; they must say the same.
fn truth(api: &Api) -> Vec<(String, String, String, Value)> {
    let list = api.ask("GET", "/containers/json?all=1").is(200).json();
    let mut containers: Vec<_> = list
        .as_array()
        .expect("a list")
        .iter()
        .map(|listed| {
            let id = text(&listed["Id"]);
            let inspect = api.ask("GET", &format!("/containers/{id}/json")).is(200).json();
            assert_eq!(listed["Names"][0], inspect["Name"], "{listed}\n{inspect}");
            assert_eq!(listed["State"], inspect["State"]["Status"], "{listed}\n{inspect}");
            let state = &inspect["State"];
            let is_up = ["running", "paused"].contains(&text(&state["Status"]).as_str());
            assert_eq!(state["Running"], is_up, "{state}");
            assert_eq!(state["Pid"].as_u64() > Some(0), is_up, "{state}");
            let (name, status) = (text(&inspect["Name"]), text(&state["Status"]));
            (id, name, status, state["ExitCode"].clone())
        })
        .collect();
    containers.sort_by(|one, other| one.0.cmp(&other.0));
    let mut names: Vec<_> = containers.iter().map(|(_, name, ..)| name.clone()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), containers.len(), "a name twice: {containers:?}");
    containers
}
