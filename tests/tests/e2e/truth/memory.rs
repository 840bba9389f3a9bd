//! A container that wants more memory than it may have, as one sees it from outside.

use berth_tests::Host;
use serde_json::json;

/// Writes that many MiB into memory and keeps them for a moment.
fn fill(mib: u32) -> String {
    format!("dd if=/dev/zero of=/dev/shm/x bs=1M count={mib} 2>/dev/null")
}

#[test]
fn who_takes_more_than_the_limit_is_killed_and_it_is_said() {
    let Some(host) = Host::start() else { return };
    let (client, api) = (host.berth(), host.api());
    let limits = ["-m", "64m", "--memory-swap", "64m", "--shm-size", "200m"];
    let run = |name: &str, script: &str| {
        let command = ["busybox", "sh", "-c", script];
        client.run([&["run", "--name", name], &limits[..], &command].concat())
    };
    let state =
        |name: &str| api.ask("GET", &format!("/containers/{name}/json")).is(200).json()["State"].take();

    run("greedy", &format!("exec {}", fill(100))).exits_with(137);
    let greedy = state("greedy");
    assert_eq!((&greedy["OOMKilled"], &greedy["ExitCode"]), (&json!(true), &json!(137)), "{greedy}");
    let events = ["events", "--since", "1h", "--until", "0s", "--filter", "container=greedy", "--format"];
    let events = client.run(events.into_iter().chain(["{{.Action}}"])).exits_with(0).text();
    let (oom, die) = (events.find("oom"), events.find("die"));
    assert!(oom.is_some() && oom < die, "{events}");

    // What is allowed is there to be used, and the machine's own need comes on top.
    run("modest", &format!("{}; echo $?", fill(56))).exits_with(0).prints_exactly("0");
    assert_eq!(state("modest")["OOMKilled"], false);

    // Another process is killed, not the first one: the container goes on and ends as it likes.
    run("parent", &format!("sh -c 'exec {}'; echo child $?; rm -f /dev/shm/x; exit 3", fill(100)))
        .exits_with(3)
        .prints("child 137");
}
