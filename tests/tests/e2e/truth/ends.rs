//! How containers end: no code is lost, whatever happens to the daemon meanwhile, and a stop is not told before it is so.

use std::thread;
use std::time::{Duration, Instant};

use berth_tests::{Api, Client, Host, eventually};
use serde_json::{Value, json};

use super::text;

fn state(api: &Api, name: &str) -> Value {
    api.ask("GET", &format!("/containers/{name}/json")).is(200).json()["State"].take()
}

fn run(client: &Client, name: &str, options: &[&str], script: &str) {
    let command = ["busybox", "sh", "-c", script];
    client.run([&["run", "-d", "--name", name], options, &command].concat()).exits_with(0);
}

#[test]
fn a_stop_is_told_when_it_is_so_and_only_once() {
    let Some(host) = Host::start() else { return };
    let (client, api) = (host.berth(), host.api());
    run(&client, "obedient", &[], "trap 'exit 5' TERM; echo ready; while true; do sleep 0.1; done");
    run(&client, "deaf", &[], "trap '' TERM; echo ready; while true; do sleep 0.1; done");
    run(&client, "still", &[], "trap 'exit 6' TERM; echo ready; while true; do sleep 0.1; done");
    for name in ["obedient", "deaf", "still"] {
        eventually("its trap is set", || client.run(["logs", name]).stdout.contains("ready"));
    }
    let _paused = api.ask("POST", "/containers/still/pause").is(204);
    let waiting: Vec<_> = ["obedient", "deaf", "still"]
        .into_iter()
        .flat_map(|name| [name; 3])
        .map(|name| {
            let mut opened = api.open("POST", &format!("/containers/{name}/wait"), None);
            (name, thread::spawn(move || String::from_utf8(opened.some_bytes(1000)).unwrap()))
        })
        .collect();

    for (name, how, code) in [("obedient", "t=-1", 5), ("still", "t=60", 6), ("deaf", "t=1", 137)] {
        let start = Instant::now();
        // Two at once: both hear of it when it is so.
        let other = thread::spawn({
            let api = api.clone();
            move || (api.ask("POST", &format!("/containers/{name}/stop?{how}")), state(&api, name))
        });
        let reply = api.ask("POST", &format!("/containers/{name}/stop?{how}"));
        let after = [state(&api, name), other.join().unwrap().1];
        for after in after {
            assert_eq!((&after["Running"], &after["ExitCode"]), (&json!(false), &json!(code)), "{after}");
        }
        assert!([204, 304].contains(&reply.status), "{reply:?}");
        assert!(name != "deaf" || start.elapsed() >= Duration::from_secs(1), "it was not given its time");
        let _already = api.ask("POST", &format!("/containers/{name}/stop")).is(304);
    }
    for (name, told) in waiting {
        let code = match name {
            "obedient" => 5,
            "still" => 6,
            _ => 137,
        };
        assert!(told.join().unwrap().contains(&format!("{{\"StatusCode\":{code}}}")), "{name}");
    }

    let _started = api.ask("POST", "/containers/deaf/start").is(204);
    let _stopped = api.ask("POST", "/containers/deaf/stop?t=0").is(204);
    assert_eq!(state(&api, "deaf")["ExitCode"], 137);
    let _never = api.ask("POST", "/containers/nosuch/stop").is(404);
}

#[test]
fn every_code_of_many_short_runs_arrives() {
    let Some(host) = Host::start() else { return };
    short_runs(&host.berth(), 10);
}

fn short_runs(client: &Client, count: usize) {
    let runs: Vec<_> = (0..count)
        .map(|_| {
            let code = rand::random_range(1..=255);
            (code, client.spawn(["run", "--rm", "busybox", "sh", "-c", &format!("echo {code}; exit {code}")]))
        })
        .collect();
    for (code, run) in runs {
        run.ends().exits_with(code).prints_exactly(&code.to_string());
    }
    client.run(["ps", "-aq"]).prints_exactly("");
}

#[test]
fn a_daemon_that_is_killed_in_the_middle_of_short_runs_forgets_no_code() {
    let Some(mut host) = Host::start() else { return };
    runs_over_a_kill(&mut host);
}

#[test]
#[ignore = "minutes: BERTH_TEST_SOAK_S says how many seconds; `cargo xtask soak` runs it"]
fn soak_short_runs_and_killed_daemons() {
    let Some(mut host) = Host::start() else { return };
    let start = Instant::now();
    while start.elapsed() < super::soak_time() {
        short_runs(&host.berth(), 6);
        runs_over_a_kill(&mut host);
    }
}

/// Containers end before, while and after the daemon is killed.
fn runs_over_a_kill(host: &mut Host) {
    let api = host.api();
    let one_run = |number: u64| {
        let api = api.clone();
        move || -> std::io::Result<(String, u64)> {
            let code = rand::random_range(1..=255);
            let script = format!("sleep {}.{}; exit {code}", number / 2, number % 2 * 5);
            let create = json!({ "Image": "busybox", "Cmd": ["sh", "-c", script] });
            let created = api.try_ask("POST", "/containers/create", Some(&create))?.is(201).json();
            let id = text(&created["Id"]);
            let _started = api.try_ask("POST", &format!("/containers/{id}/start"), None)?.is(204);
            Ok((id, code))
        }
    };
    let runs: Vec<_> = (0..6).map(|number| thread::spawn(one_run(number))).collect();
    eventually("one has started", || api.ask("GET", "/containers/json").json() != json!([]));
    thread::sleep(Duration::from_millis(rand::random_range(0..3000)));
    host.kill_daemon();
    let started: Vec<_> =
        runs.into_iter().filter_map(|run| run.join().expect("a run does not panic").ok()).collect();
    host.start_daemon();
    for (id, code) in started {
        let end = api.ask("POST", &format!("/containers/{id}/wait")).is(200).json();
        assert_eq!(end["StatusCode"], code, "{end}");
    }
    for container in api.ask("GET", "/containers/json?all=1").is(200).json().as_array().expect("a list") {
        let id = text(&container["Id"]);
        let _removed = api.ask("DELETE", &format!("/containers/{id}?force=1")).is(204);
    }
    host.has_nothing_left_of_machines();
}

#[test]
fn what_runs_stands_still_or_is_to_run_again_is_so_with_the_next_daemon() {
    let Some(mut host) = Host::start() else { return };
    let (client, api) = (host.berth(), host.api());
    run(&client, "still", &[], "n=0; while true; do n=$((n+1)); echo $n > /n; sleep 0.05; done");
    let health = ["--health-cmd", "test -e /well", "--health-interval", "300ms", "--health-retries", "1"];
    run(&client, "patient", &health, "touch /well; sleep 1000");
    run(&client, "again", &["--restart", "always"], "exit 9");
    for (name, code) in [("late-1", 41), ("late-2", 42)] {
        run(&client, name, &[], &format!("while [ ! -e /go ]; do sleep 0.1; done; exit {code}"));
        client.run(["exec", "-d", name, "sh", "-c", "sleep 2; touch /go"]).exits_with(0);
    }
    eventually("it is well", || state(&api, "patient")["Health"]["Status"] == "healthy");
    eventually("it was started again", || {
        api.ask("GET", "/containers/again/json").json()["RestartCount"].as_u64() > Some(0)
    });
    let _paused = api.ask("POST", "/containers/still/pause").is(204);

    host.kill_daemon();
    thread::sleep(Duration::from_secs(3));
    host.start_daemon();

    for (name, code) in [("late-1", "41"), ("late-2", "42")] {
        client.run(["wait", name]).exits_with(0).prints_exactly(code);
    }
    let still = state(&api, "still");
    assert_eq!((&still["Status"], &still["Paused"]), (&json!("paused"), &json!(true)), "{still}");
    client.run(["exec", "still", "true"]).exits_with(1).complains("is paused");
    let _unpaused = api.ask("POST", "/containers/still/unpause").is(204);
    let number = || client.run(["exec", "still", "cat", "/n"]).exits_with(0).text();
    let before = number();
    eventually("it goes on", || number() != before);

    assert_eq!(state(&api, "patient")["Health"]["Status"], "healthy");
    client.run(["exec", "patient", "rm", "/well"]).exits_with(0);
    eventually("it is found to be ill", || state(&api, "patient")["Health"]["Status"] == "unhealthy");

    let count = || api.ask("GET", "/containers/again/json").json()["RestartCount"].as_u64().unwrap();
    let before = count();
    eventually("it is started on", || count() > before);
    let _stopped = api.ask("POST", "/containers/again/stop?t=0");
    let after = state(&api, "again");
    assert_eq!(after["Status"], "exited", "{after}");
}
