//! A container's life: created, started, stopped, killed, restarted, waited for, removed.

use std::time::{Duration, Instant};

use berth_tests::{Client, Host, eventually};

/// A shell that ends with `code` when asked to with TERM; without the trap, the first process ignores it.
fn obedient(code: u8) -> String {
    format!("trap 'exit {code}' TERM; echo ready; while true; do sleep 0.1; done")
}

fn status(client: &Client, name: &str) -> String {
    client.run(["inspect", "--format", "{{.State.Status}}", name]).exits_with(0).text()
}

fn start_obedient(client: &Client, name: &str, code: u8) {
    client.run(["run", "-d", "--name", name, "busybox", "sh", "-c", &obedient(code)]).exits_with(0);
    eventually("the trap is set", || client.run(["logs", name]).stdout.contains("ready"));
}

#[test]
fn created_started_waited_for_and_removed() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        let id =
            client.run(["create", "--name", "one", "busybox", "sh", "-c", "exit 7"]).exits_with(0).text();
        assert_eq!(id.len(), 64, "{id}");
        assert_eq!(status(&client, "one"), "created");
        client.run(["start", "one"]).exits_with(0).prints_exactly("one");
        client.run(["wait", "one"]).exits_with(0).prints_exactly("7");
        assert_eq!(status(&client, &id[..12]), "exited");
        client.run(["ps", "-a", "--format", "{{.Names}} {{.Status}}"]).prints("one Exited (7)");
        client.run(["rm", "one"]).exits_with(0).prints_exactly("one");
        client.run(["inspect", "one"]).exits_with(1);
    }
}

#[test]
fn a_detached_container_runs_on_until_it_is_stopped() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        start_obedient(&client, "server", 3);
        client.run(["ps", "--format", "{{.Names}}: {{.Status}}"]).prints("server: Up");
        let start = Instant::now();
        client.run(["stop", "server"]).exits_with(0).prints_exactly("server");
        assert!(start.elapsed() < Duration::from_secs(8), "it was not asked but killed");
        let code = client.run(["inspect", "--format", "{{.State.ExitCode}}", "server"]).text();
        assert_eq!(code, "3");
        client.run(["ps", "-q"]).prints_exactly("");
        client.run(["stop", "server"]).exits_with(0);
        client.run(["rm", "server"]).exits_with(0);
    }
}

#[test]
fn a_container_that_does_not_listen_is_killed_when_its_time_is_up() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        client.run(["run", "-d", "--name", "deaf", "busybox", "sleep", "1000"]).exits_with(0);
        client.run(["stop", "-t", "1", "deaf"]).exits_with(0);
        assert_eq!(client.run(["inspect", "--format", "{{.State.ExitCode}}", "deaf"]).text(), "137");
        client.run(["rm", "deaf"]).exits_with(0);
    }
}

#[test]
fn signals_arrive_by_name_and_by_number() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        let script =
            "trap 'echo usr1' USR1; trap 'echo hup; exit 9' HUP; echo ready; while true; do sleep 0.1; done";
        client.run(["run", "-d", "--name", "ear", "busybox", "sh", "-c", script]).exits_with(0);
        eventually("the traps are set", || client.run(["logs", "ear"]).stdout.contains("ready"));
        client.run(["kill", "-s", "SIGUSR1", "ear"]).exits_with(0);
        eventually("it heard USR1", || client.run(["logs", "ear"]).stdout.contains("usr1"));
        client.run(["kill", "-s", "1", "ear"]).exits_with(0);
        client.run(["wait", "ear"]).prints_exactly("9");
        client.run(["kill", "ear"]).exits_with(1).complains("is not running");
        client.run(["rm", "ear"]).exits_with(0);
    }
}

#[test]
fn a_restart_is_a_new_machine_with_the_old_files() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        let script = "cat /proc/sys/kernel/random/boot_id >> /boots; echo ready; trap 'exit 0' TERM; while true; do sleep 0.1; done";
        client.run(["run", "-d", "--name", "phoenix", "busybox", "sh", "-c", script]).exits_with(0);
        eventually("it runs", || client.run(["logs", "phoenix"]).stdout.contains("ready"));
        client.run(["restart", "-t", "5", "phoenix"]).exits_with(0);
        let boots = || client.run(["exec", "phoenix", "sort", "-u", "/boots"]).stdout.lines().count();
        eventually("it has run twice", || boots() == 2);
        client.run(["rm", "-f", "phoenix"]).exits_with(0);
    }
}

#[test]
fn a_running_container_is_removed_only_by_force() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        client.run(["run", "-d", "--name", "busy", "busybox", "sleep", "1000"]).exits_with(0);
        client
            .run(["rm", "busy"])
            .exits_with(1)
            .complains("cannot remove container \"/busy\": container is running");
        client.run(["rm", "-f", "busy"]).exits_with(0).prints_exactly("busy");
        client.run(["ps", "-aq"]).prints_exactly("");
        host.has_nothing_left_of_machines();
    }
}

#[test]
fn a_container_that_asked_to_be_removed_is_gone_when_it_ends() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        client.run(["run", "--rm", "--name", "brief", "busybox", "true"]).exits_with(0);
        client.run(["ps", "-aq"]).prints_exactly("");
        host.has_nothing_left_of_machines();
    }
}

#[test]
fn inspect_tells_what_was_asked_for_and_how_the_start_went() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        let create = [
            "run", "-d", "--name", "subject", "-m", "64m", "-e", "A=1", "-u", "nobody", "busybox", "sleep",
            "99",
        ];
        client.run(create).exits_with(0);
        let subject = &client.run(["inspect", "subject"]).exits_with(0).json()[0];
        assert_eq!(subject["Name"], "/subject");
        assert_eq!(subject["State"]["Running"], true);
        assert_eq!(subject["Config"]["User"], "nobody");
        assert_eq!(subject["Config"]["Cmd"], serde_json::json!(["sleep", "99"]));
        assert_eq!(subject["HostConfig"]["Memory"], 64 << 20);
        assert!(subject["Config"]["Env"].to_string().contains("A=1"), "{subject}");
        assert!(subject.to_string().contains("kernel"), "the start's timeline: {subject}");
        client.run(["rm", "-f", "subject"]).exits_with(0);
    }
}
