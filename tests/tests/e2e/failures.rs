//! When things go wrong: Docker's texts and codes, and nothing left behind.

use berth_tests::Host;

#[test]
fn a_program_that_is_not_there_or_not_executable() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        let run = |program: &str| client.run(["run", "--rm", "busybox", program]);
        run("nosuch").exits_with(127).complains("exec: \"nosuch\": executable file not found in $PATH");
        run("/no/such").exits_with(127).complains("no such file or directory");
        run("/etc/passwd").exits_with(126).complains("permission denied");
        client.run(["ps", "-aq"]).prints_exactly("");
        host.has_nothing_left_of_machines();
    }
}

#[test]
fn a_failed_start_stays_inspectable() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        client.run(["run", "--name", "broken", "busybox", "nosuch"]).exits_with(127);
        let state = &client.run(["inspect", "broken"]).exits_with(0).json()[0]["State"];
        assert_eq!(
            (state["Status"].as_str(), state["ExitCode"].as_i64()),
            (Some("created"), Some(127)),
            "{state}"
        );
        assert!(state["Error"].as_str().unwrap().contains("executable file not found"), "{state}");
        client.run(["rm", "broken"]).exits_with(0);
    }
}

#[test]
fn a_user_that_does_not_exist() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        let outcome = client.run(["run", "--rm", "-u", "nosuch", "busybox", "true"]);
        outcome.exits_with(125).complains("unable to find user nosuch: no matching entries in passwd file");
    }
}

#[test]
fn a_name_that_is_taken() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        client.run(["create", "--name", "taken", "busybox"]).exits_with(0);
        let again = client.run(["create", "--name", "taken", "busybox"]).exits_with(1);
        again.complains("The container name \"/taken\" is already in use");
        client.run(["rm", "taken"]).exits_with(0);
    }
}

#[test]
fn options_that_are_not_there_yet_are_refused_by_name() {
    let Some(host) = Host::start() else { return };
    let Some(docker) = host.docker() else { return };
    for propagation in ["rshared", "shared"] {
        let mount = format!("type=bind,src=/etc,dst=/x,bind-propagation={propagation}");
        let outcome = docker.run(["run", "--mount", &mount, "busybox", "true"]).exits_with(125);
        outcome.complains(&format!("propagation {propagation}"));
    }
    docker.run(["ps", "-aq"]).prints_exactly("");
}

#[test]
fn a_machine_that_is_killed_ends_its_container_and_not_the_daemon() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        client.run(["run", "-d", "--name", "victim", "busybox", "sleep", "1000"]).exits_with(0);
        host.kill_the_machine();
        client.run(["wait", "victim"]).exits_with(0).prints_exactly("137");
        let state = &client.run(["inspect", "victim"]).exits_with(0).json()[0]["State"];
        assert!(state["Error"].as_str().unwrap().contains("killed by signal 9"), "{state}");
        assert_eq!(state["ExitCode"], 137, "{state}");
        host.has_nothing_left_of_machines();
        client.run(["start", "victim"]).exits_with(0);
        client.run(["rm", "-f", "victim"]).exits_with(0);
    }
}

#[test]
fn a_guest_that_panics_fails_the_start_with_the_consoles_last_words() {
    let Some(host) = Host::whose_guests_panic() else { return };
    for client in host.clients() {
        let outcome = client.run(["run", "--name", "martyr", "busybox", "true"]).exits_with(125);
        outcome.complains("its guest reset itself").complains("Kernel panic");
        client.run(["rm", "martyr"]).exits_with(0);
        host.has_nothing_left_of_machines();
    }
}
