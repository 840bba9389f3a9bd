//! A machine that hangs: whoever asks for something that only its guest can tell hears in bounded time what was waited
//! for, and the container can be ended.

use std::thread;
use std::time::{Duration, Instant};

use berth_tests::{Api, Host, Reply};
use serde_json::json;

use super::text;

/// What the slowest of these waits for a guest, and a busy host.
const BOUND: Duration = Duration::from_secs(90);

fn in_time(api: &Api, method: &'static str, path: &str) -> thread::JoinHandle<Reply> {
    let (api, path) = (api.clone(), path.to_owned());
    thread::spawn(move || {
        let start = Instant::now();
        let reply = api.ask(method, &path);
        assert!(start.elapsed() < BOUND, "{} s for {reply:?}", start.elapsed().as_secs());
        reply
    })
}

#[test]
fn whoever_waits_for_a_machine_that_hangs_hears_what_for_and_its_container_is_ended() {
    let Some(host) = Host::start() else { return };
    let (client, api) = (host.berth(), host.api());
    for name in ["stopped", "killed", "asked"] {
        client.run(["run", "-dt", "--name", name, "busybox", "sleep", "1000"]).exits_with(0);
    }
    let exec = json!({ "Cmd": ["true"], "AttachStdout": true });
    let exec = api.send("POST", "/containers/asked/exec", &exec).is(201).json();
    let exec = text(&exec["Id"]);
    host.freeze_machines(true);

    // What needs no guest is told at once.
    let start = Instant::now();
    assert_eq!(api.ask("GET", "/containers/asked/json").is(200).json()["State"]["Status"], "running");
    assert!(start.elapsed() < Duration::from_secs(5), "{} ms", start.elapsed().as_millis());

    let ending = [
        in_time(&api, "POST", "/containers/stopped/stop?t=1"),
        in_time(&api, "POST", "/containers/killed/kill"),
    ];
    let waits = [
        (in_time(&api, "GET", "/containers/asked/top"), "waited for its list of processes"),
        (in_time(&api, "GET", "/containers/asked/stats?stream=0"), "waited for its statistics"),
        (in_time(&api, "POST", "/containers/asked/kill?signal=USR1"), "waited for a signal to be passed on"),
        (in_time(&api, "POST", "/containers/asked/resize?h=10&w=10"), "waited for the terminal's new size"),
        (in_time(&api, "POST", "/containers/asked/pause"), "waited for its processes to stand still"),
    ];
    let outlived = [
        in_time(&api, "GET", "/containers/asked/export"),
        thread::spawn({
            let (api, path) = (api.clone(), format!("/exec/{exec}/start"));
            move || api.send("POST", &path, &json!({}))
        }),
    ];
    for (asked, waited_for) in waits {
        let reply = asked.join().unwrap().is(500);
        assert!(reply.message().contains(waited_for), "{reply:?}");
    }
    for ended in ending {
        let _no_content = ended.join().unwrap().is(204);
    }
    for name in ["stopped", "killed"] {
        let state = &api.ask("GET", &format!("/containers/{name}/json")).is(200).json()["State"];
        assert_eq!((&state["Status"], &state["ExitCode"]), (&json!("exited"), &json!(137)), "{state}");
        let wait = api.ask("POST", &format!("/containers/{name}/wait")).is(200).json();
        assert_eq!(wait["StatusCode"], 137);
    }

    let _gone = in_time(&api, "DELETE", "/containers/asked?force=1").join().unwrap().is(204);
    // Its end is everybody's answer.
    for asked in outlived {
        let reply = asked.join().unwrap();
        assert!([409, 500].contains(&reply.status), "{reply:?}");
    }
    client.run(["rm", "stopped", "killed"]).exits_with(0);
    host.has_nothing_left_of_machines();
}
