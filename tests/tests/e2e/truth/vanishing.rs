//! Clients that go away in the middle: what they held is given back, on the host and in the machine.

use berth_tests::{Api, Host, Opened, eventually};
use serde_json::{Value, json};

use super::text;

/// Of each kind.
const CLIENTS: usize = 8;

/// In the middle of everything that lasts.
fn in_the_middle_of_everything(api: &Api) -> Vec<Opened> {
    let opened = |method: &str, path: &str, body: Option<&Value>, status: u16| {
        let opened = api.open(method, path, body);
        assert_eq!(opened.status, status, "{method} {path}");
        opened
    };
    let exec = |options: Value| {
        let id = api.send("POST", "/containers/box/exec", &options).is(201).json()["Id"].to_string();
        format!("/exec/{}/start", id.trim_matches('"'))
    };
    let silent = json!({ "Cmd": ["sleep", "2000"], "AttachStdout": true, "AttachStderr": true });
    let reading = json!({ "Cmd": ["cat"], "AttachStdin": true, "AttachStdout": true });
    let terminal = json!({ "Cmd": ["cat"], "AttachStdin": true, "AttachStdout": true, "Tty": true });
    let attach = "/containers/box/attach?stream=1&stdout=1&stderr=1";
    vec![
        opened("POST", attach, None, 101),
        opened("POST", &format!("{attach}&stdin=1&logs=1"), None, 101),
        opened("GET", "/containers/box/logs?follow=1&stdout=1", None, 200),
        opened("POST", "/containers/box/wait", None, 200),
        opened("POST", "/containers/box/wait?condition=removed", None, 200),
        opened("GET", "/containers/box/stats", None, 200),
        opened("GET", "/events", None, 200),
        opened("GET", "/containers/box/export", None, 200),
        opened("POST", &exec(silent), Some(&json!({})), 101),
        opened("POST", &exec(reading), Some(&json!({})), 101),
        opened("POST", &exec(terminal), Some(&json!({ "Tty": true })), 101),
    ]
}

#[test]
fn what_clients_held_that_went_away_is_given_back() {
    let Some(host) = Host::start() else { return };
    let (client, api) = (host.berth(), host.api());
    // In the machine's own process namespace, whose first process is the agent.
    let options = ["run", "-di", "--name", "box", "--privileged", "--pid", "host"];
    client.run([&options[..], &["busybox", "tail", "-f", "/dev/null"]].concat()).exits_with(0);
    let agents_descriptors = || -> usize {
        let count = client.run(["exec", "box", "sh", "-c", "ls /proc/1/fd | wc -l"]).exits_with(0).text();
        count.parse().unwrap_or_else(|error| panic!("{error} in {count:?}"))
    };
    let processes = || client.run(["top", "box", "-eo", "pid,args"]).exits_with(0).stdout;
    let end_execs = || {
        client.run(["exec", "box", "killall", "-9", "sleep", "cat"]);
        eventually("the execs have ended", || processes().lines().count() == 2);
    };
    // Once, so that what is made at first use is there.
    drop(in_the_middle_of_everything(&api));
    end_execs();
    let (before, before_inside) = (host.daemon_descriptors(), agents_descriptors());

    let clients: Vec<_> = (0..CLIENTS).map(|_| in_the_middle_of_everything(&api)).collect();
    assert!(host.daemon_descriptors() > before + CLIENTS * clients[0].len(), "they are connected");
    drop(clients);

    // What only listened is gone by itself; processes that do not read their input go on, as with Docker.
    eventually("what their connections took is back", || host.daemon_descriptors() < before + CLIENTS * 11);
    let left = processes();
    assert_eq!(left.matches("sleep 2000").count(), CLIENTS, "{left}");
    end_execs();
    eventually("the daemon has as many descriptors as before", || host.daemon_descriptors() <= before);
    eventually("the agent has as many as before", || agents_descriptors() <= before_inside);
}

#[test]
fn a_client_that_sends_no_more_still_reads() {
    let Some(host) = Host::start() else { return };
    let (client, api) = (host.berth(), host.api());
    client.run(["run", "-d", "--name", "box", "busybox", "sleep", "1000"]).exits_with(0);
    let script = "cat; sleep 1; echo done";
    let exec = json!({ "Cmd": ["sh", "-c", script], "AttachStdin": true, "AttachStdout": true });
    let exec = api.send("POST", "/containers/box/exec", &exec).is(201).json();
    let path = format!("/exec/{}/start", text(&exec["Id"]));
    let mut opened = api.open("POST", &path, Some(&json!({})));
    opened.says(b"in\n");
    opened.half_closes();
    let printed = String::from_utf8(opened.rest()).unwrap();
    assert!(printed.contains("in\n") && printed.ends_with("done\n"), "{printed:?}");

    let create =
        json!({ "Image": "busybox", "Cmd": ["sh", "-c", script], "OpenStdin": true, "StdinOnce": true });
    let _made = api.send("POST", "/containers/create?name=cat", &create).is(201);
    let mut attached = api.open("POST", "/containers/cat/attach?stream=1&stdin=1&stdout=1", None);
    let _started = api.ask("POST", "/containers/cat/start").is(204);
    attached.says(b"in\n");
    attached.half_closes();
    let printed = String::from_utf8(attached.rest()).unwrap();
    assert!(printed.contains("in\n") && printed.ends_with("done\n"), "{printed:?}");
}
