//! What a container's life has beyond one run: restarts, health, other names, logs that are bounded, and an end for all.

use berth_tests::{Client, Host, eventually};

fn field(client: &Client, name: &str, format: &str) -> String {
    client.run(["inspect", "--format", format, name]).exits_with(0).text()
}

#[test]
fn what_fails_is_restarted_as_often_as_its_policy_says() {
    let Some(host) = Host::start() else { return };
    let client = host.berth();
    let run = ["run", "-d", "--name", "frail", "--restart", "on-failure:1", "busybox", "sh", "-c"];
    client.run(run.into_iter().chain(["echo run; exit 3"])).exits_with(0);
    let state = || field(&client, "frail", "{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}");
    eventually("its two runs are over", || state() == "exited 1 3");
    client.run(["logs", "frail"]).prints_exactly("run\nrun");
}

#[test]
fn what_always_runs_comes_back_until_it_is_stopped_even_with_another_daemon() {
    let Some(mut host) = Host::start() else { return };
    let client = host.berth();
    let run = ["run", "-d", "--name", "keen", "--restart", "unless-stopped", "busybox", "sleep", "1000"];
    client.run(run).exits_with(0);

    host.kill_daemon();
    host.kill_the_machine();
    host.start_daemon();
    eventually("it runs again", || field(&client, "keen", "{{.State.Running}} {{.State.Pid}}") != "true 0");
    assert_eq!(field(&client, "keen", "{{.RestartCount}}"), "1");

    client.run(["stop", "-t", "0", "keen"]).exits_with(0);
    host.kill_daemon();
    host.start_daemon();
    assert_eq!(field(&client, "keen", "{{.State.Status}}"), "exited", "it was stopped by hand");
}

#[test]
fn health_is_asked_for_and_what_is_ill_may_start_anew() {
    let Some(host) = Host::start() else { return };
    let client = host.berth();
    let check =
        ["--health-cmd", "echo asked; test -e /well", "--health-interval", "300ms", "--health-retries", "2"];
    let ill = ["--label", "berth.restart-unhealthy=true", "--stop-timeout", "0"];
    let command = ["busybox", "sh", "-c", "[ -e /twice ] && touch /well; touch /twice; sleep 1000"];
    let run = ["run", "-d", "--name", "patient"].into_iter().chain(check).chain(ill).chain(command);
    client.run(run).exits_with(0);
    eventually("it is well in its second run", || {
        client.run(["ps", "--format", "{{.Status}}"]).stdout.contains("(healthy)")
    });
    assert_eq!(field(&client, "patient", "{{.RestartCount}} {{.State.Health.FailingStreak}}"), "1 0");
    let log = field(&client, "patient", "{{json .State.Health.Log}}");
    assert!(log.contains("asked"), "{log}");
    client.run(["ps", "-q", "--filter", "health=unhealthy"]).prints_exactly("");
    let events = ["events", "--since", "1h", "--until", "0s", "--format", "{{.Action}}"];
    client.run(events).prints("health_status: unhealthy").prints("health_status: healthy");
}

#[test]
fn a_bounded_log_keeps_the_last_lines_and_is_followed_on() {
    let Some(host) = Host::start() else { return };
    let client = host.berth();
    let bounds = ["--log-opt", "max-size=100k", "--log-opt", "max-file=3"];
    let script = "seq 1 2000; while [ ! -e /go ]; do sleep 0.1; done; seq 2001 4000";
    let run =
        ["run", "-d", "--name", "chatty"].into_iter().chain(bounds).chain(["busybox", "sh", "-c", script]);
    client.run(run).exits_with(0);
    eventually("it has counted", || client.run(["logs", "--tail", "1", "chatty"]).text() == "2000");
    let mut follower = client.spawn(["logs", "-f", "--tail", "1", "chatty"]);
    assert_eq!(follower.line(), "2000");
    client.run(["exec", "chatty", "touch", "/go"]).exits_with(0);
    let followed = follower.ends().exits_with(0).stdout;
    assert!(followed.starts_with("2001\n") && followed.ends_with("4000\n"), "{followed}");
    let left = client.run(["logs", "chatty"]).exits_with(0).stdout;
    let numbers: Vec<u32> = left.lines().map(|line| line.parse().unwrap()).collect();
    assert!(numbers.len() < 4000 && numbers.last() == Some(&4000), "{} lines are left", numbers.len());
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "a line is missing");
}

#[test]
fn a_log_that_nobody_keeps_cannot_be_read() {
    let Some(host) = Host::start() else { return };
    let client = host.berth();
    let run = ["run", "--name", "mute", "--log-driver", "none", "busybox", "echo", "hi"];
    client.run(run).exits_with(0).prints_exactly("hi");
    client
        .run(["logs", "mute"])
        .exits_with(1)
        .complains("configured logging driver does not support reading");
}

#[test]
fn containers_are_renamed_and_those_that_ended_go_together() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        client.run(["create", "--name", "one", "busybox", "true"]).exits_with(0);
        client.run(["create", "--name", "two", "--label", "keep", "busybox", "true"]).exits_with(0);
        client.run(["rename", "one", "two"]).exits_with(1).complains("is already in use by container");
        client.run(["rename", "one", "three"]).exits_with(0);
        client.run(["inspect", "one"]).exits_with(1);
        client
            .run(["container", "prune", "--force", "--filter", "label!=keep"])
            .prints("Total reclaimed space");
        client.run(["ps", "-a", "--format", "{{.Names}}"]).prints_exactly("two");
        client.run(["container", "prune", "--force"]).exits_with(0);
        client.run(["ps", "-aq"]).prints_exactly("");
    }
}
