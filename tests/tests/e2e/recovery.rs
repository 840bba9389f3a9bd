//! The daemon dies and comes back; containers do not notice.

use berth_tests::{Host, eventually};

#[test]
fn containers_survive_a_daemon_that_is_killed() {
    let Some(mut host) = Host::start() else { return };
    let client = host.berth();
    let script = "n=0; while true; do echo line $n; n=$((n+1)); sleep 0.02; done";
    client.run(["run", "-d", "--name", "survivor", "busybox", "sh", "-c", script]).exits_with(0);
    eventually("it prints", || client.run(["logs", "survivor"]).stdout.contains("line 20"));

    host.kill_daemon();
    std::thread::sleep(std::time::Duration::from_secs(1));
    host.start_daemon();

    client.run(["ps", "--format", "{{.Names}} {{.Status}}"]).prints("survivor Up");
    client.run(["exec", "survivor", "echo", "still here"]).exits_with(0).prints_exactly("still here");
    eventually("it prints on", || client.run(["logs", "survivor"]).stdout.lines().count() > 150);
    client.run(["stop", "-t", "1", "survivor"]).exits_with(0);
    let logs = client.run(["logs", "survivor"]).exits_with(0).stdout;
    for (n, line) in logs.lines().enumerate() {
        assert_eq!(line, format!("line {n}"), "a line was lost or repeated");
    }
}

#[test]
fn an_exit_while_no_daemon_watches_is_not_lost() {
    let Some(mut host) = Host::start() else { return };
    let client = host.berth();
    let script = "while [ ! -e /go ]; do sleep 0.05; done; echo goodbye; exit 23";
    client.run(["run", "-d", "--name", "quiet", "busybox", "sh", "-c", script]).exits_with(0);
    client.run(["exec", "-d", "quiet", "sh", "-c", "sleep 1; touch /go"]).exits_with(0);

    host.kill_daemon();
    std::thread::sleep(std::time::Duration::from_secs(3));
    host.start_daemon();

    client.run(["wait", "quiet"]).exits_with(0).prints_exactly("23");
    client.run(["logs", "quiet"]).prints_exactly("goodbye");
}

#[test]
fn a_machine_that_dies_while_no_daemon_watches_is_noticed() {
    let Some(mut host) = Host::start() else { return };
    let client = host.berth();
    client.run(["run", "-d", "--name", "lost", "busybox", "sleep", "1000"]).exits_with(0);

    host.kill_daemon();
    host.kill_the_machine();
    host.start_daemon();

    client.run(["ps", "-a", "--format", "{{.Names}} {{.Status}}"]).prints("lost Exited (137)");
    host.has_nothing_left_of_machines();
}

#[test]
fn a_daemon_that_stops_in_good_order_leaves_containers_running() {
    let Some(mut host) = Host::start() else { return };
    let client = host.berth();
    client.run(["run", "-d", "--name", "steady", "busybox", "sleep", "1000"]).exits_with(0);
    host.stop_daemon();
    host.start_daemon();
    client.run(["exec", "steady", "true"]).exits_with(0);
}

#[test]
fn a_daemon_killed_at_any_moment_of_a_start_leaves_nothing_behind() {
    let Some(mut host) = Host::start() else { return };
    let client = host.berth();
    for delay_ms in [5, 40, 120, 300, 600, 900] {
        let starting = client.spawn(["run", "--rm", "busybox", "true"]);
        std::thread::sleep(std::time::Duration::from_millis(delay_ms));
        host.kill_daemon();
        drop(starting);
        host.start_daemon();
        let left = client.run(["ps", "-aq"]).exits_with(0).text();
        if !left.is_empty() {
            client.run(["rm", "-f", &left]).exits_with(0);
        }
        host.has_nothing_left_of_machines();
    }
    client.run(["run", "--rm", "busybox", "echo", "fine"]).exits_with(0).prints_exactly("fine");
}

#[test]
fn what_was_written_before_a_stop_is_there_whatever_becomes_of_the_daemon() {
    let Some(mut host) = Host::start() else { return };
    let client = host.berth();
    for (name, killed) in [("killed", true), ("stopped", false)] {
        let script = "dd if=/dev/zero of=/large bs=1M count=16 2>/dev/null; echo word > /small; echo written; exec sleep 1000";
        client.run(["run", "-d", "--name", name, "busybox", "sh", "-c", script]).exits_with(0);
        eventually("it has written", || client.run(["logs", name]).stdout.contains("written"));
        client.run(["kill", name]).exits_with(0);
        if killed {
            host.kill_daemon();
        } else {
            host.stop_daemon();
        }
        host.start_daemon();
        let copy = host.path(name);
        client.run(["cp", &format!("{name}:/small"), &copy.to_string_lossy()]).exits_with(0);
        assert_eq!(std::fs::read_to_string(copy).unwrap(), "word\n");
        client.run(["rm", name]).exits_with(0);
    }
}
