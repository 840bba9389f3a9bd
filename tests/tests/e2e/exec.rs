//! `exec`: further processes in a container that runs.

use berth_tests::{Client, Host, eventually};

fn with_container(story: impl Fn(&Client)) {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        client.run(["run", "-d", "--name", "box", "busybox", "sleep", "1000"]).exits_with(0);
        story(&client);
        client.run(["rm", "-f", "box"]).exits_with(0);
    }
}

#[test]
fn a_process_joins_the_container_and_gives_its_exit_code() {
    with_container(|client| {
        client
            .run(["exec", "box", "sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '; exit 11"])
            .exits_with(11)
            .prints("sleep 1000");
        client
            .run(["exec", "box", "hostname"])
            .exits_with(0)
            .prints_exactly(&client.run(["inspect", "--format", "{{.Config.Hostname}}", "box"]).text());
    });
}

#[test]
fn stdin_environment_directory_and_user_are_as_asked() {
    with_container(|client| {
        client
            .run_with_input(["exec", "-i", "box", "cat"], b"through and back")
            .exits_with(0)
            .prints_exactly("through and back");
        client.run(["exec", "-e", "A=1 2", "box", "sh", "-c", "echo $A"]).prints_exactly("1 2");
        client.run(["exec", "-w", "/bin", "box", "pwd"]).prints_exactly("/bin");
        client.run(["exec", "-u", "nobody", "box", "id", "-un"]).prints_exactly("nobody");
    });
}

#[test]
fn a_terminal_is_a_terminal() {
    with_container(|client| {
        client
            .run_on_terminal(&["exec", "-it", "box", "sh", "-c", "tty; exit 4"], "")
            .exits_with(4)
            .prints("/dev/pts/");
    });
}

#[test]
fn a_detached_process_goes_on_alone() {
    with_container(|client| {
        client
            .run(["exec", "-d", "box", "sh", "-c", "sleep 0.3; touch /done"])
            .exits_with(0)
            .prints_exactly("");
        eventually("it did its work", || client.run(["exec", "box", "test", "-e", "/done"]).code == 0);
    });
}

#[test]
fn many_at_once_all_give_their_own_codes() {
    with_container(|client| {
        let running: Vec<_> = (0..20)
            .map(|n| client.spawn(["exec", "box", "sh", "-c", &format!("echo {n}; exit {n}")]))
            .collect();
        for (n, exec) in running.into_iter().enumerate() {
            exec.ends().exits_with(i32::try_from(n).unwrap()).prints_exactly(&n.to_string());
        }
    });
}

#[test]
fn what_cannot_be_executed_is_told_as_docker_tells_it() {
    with_container(|client| {
        let outcome = client.run(["exec", "box", "nosuch"]).exits_with(127);
        assert!(
            (outcome.stdout + &outcome.stderr)
                .contains("exec: \"nosuch\": executable file not found in $PATH")
        );
        let outcome = client.run(["exec", "box", "/etc/passwd"]).exits_with(126);
        assert!((outcome.stdout + &outcome.stderr).contains("exec: \"/etc/passwd\": permission denied"));
        client.run(["exec", "nosuch", "true"]).exits_with(1).complains("No such container: nosuch");
    });
}

#[test]
fn a_container_that_does_not_run_takes_no_process() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        client.run(["create", "--name", "idle", "busybox"]).exits_with(0);
        client.run(["exec", "idle", "true"]).exits_with(1).complains("is not running");
        client.run(["rm", "idle"]).exits_with(0);
    }
}
