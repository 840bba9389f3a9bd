//! `logs`: what a container printed, kept and followed.

use berth_tests::{Host, eventually};

#[test]
fn everything_printed_is_kept_in_its_stream() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        client.run([
            "run",
            "--name",
            "talker",
            "busybox",
            "sh",
            "-c",
            "echo out; echo err >&2; printf 'no newline'",
        ]);
        let logs = client.run(["logs", "talker"]).exits_with(0);
        assert_eq!((logs.stdout.as_str(), logs.stderr.as_str()), ("out\nno newline", "err\n"));
        client.run(["rm", "talker"]).exits_with(0);
    }
}

#[test]
fn the_last_lines_and_their_times() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        client.run(["run", "--name", "counter", "busybox", "seq", "1000"]).exits_with(0);
        client.run(["logs", "--tail", "2", "counter"]).prints_exactly("999\n1000");
        let stamped = client.run(["logs", "-t", "--tail", "1", "counter"]).text();
        let (time, line) = stamped.split_once(' ').unwrap();
        assert!(time.starts_with("20") && time.ends_with('Z') && line == "1000", "{stamped}");
        client.run(["logs", "--since", "1h", "--tail", "1", "counter"]).prints_exactly("1000");
        client.run(["logs", "--since", "2100-01-01T00:00:00Z", "counter"]).prints_exactly("");
        client.run(["rm", "counter"]).exits_with(0);
    }
}

#[test]
fn following_shows_lines_as_they_come_and_ends_with_the_container() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        let script = "echo first; while [ ! -e /go ]; do sleep 0.1; done; echo second";
        client.run(["run", "-d", "--name", "serial", "busybox", "sh", "-c", script]).exits_with(0);
        let mut follower = client.spawn(["logs", "-f", "serial"]);
        assert_eq!(follower.line(), "first");
        client.run(["exec", "serial", "touch", "/go"]).exits_with(0);
        assert_eq!(follower.line(), "second");
        follower.ends().exits_with(0).prints_exactly("");
        eventually("it ended", || client.run(["ps", "-q"]).text().is_empty());
        client.run(["rm", "serial"]).exits_with(0);
    }
}

#[test]
fn the_log_of_a_container_that_does_not_exist_is_an_error() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        client.run(["logs", "nosuch"]).exits_with(1).complains("No such container: nosuch");
    }
}
