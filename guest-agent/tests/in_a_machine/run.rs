//! A container from its start to its end.

use berth_protocol::PROTOCOL_VERSION;
use berth_protocol::agent::StreamKind;

use crate::container::{Change, container, first, script};
use crate::machine::Machine;

#[test]
fn a_container_runs_and_reports_its_end() {
    let Some(machine) = Machine::boot("a_container_runs_and_reports_its_end") else { return };
    assert_eq!(machine.ready.protocol_version, PROTOCOL_VERSION);
    assert!(machine.ready.agent_ready_us > machine.ready.agent_started_us);
    eprintln!(
        "agent ready {} us after its start",
        machine.ready.agent_ready_us - machine.ready.agent_started_us
    );

    let mut client = machine.client();
    client.start(script("c1", "echo out; echo err >&2; exit 3")).unwrap();
    assert_eq!(client.stdout("c1"), "out\n");
    assert_eq!(client.output("c1", StreamKind::Stderr), "err\n");
    let status = client.wait("c1");
    assert_eq!((status.code, status.signal, status.oom_killed), (3, 0, false));
    client.remove("c1").unwrap();
    assert_eq!(client.processes(""), []);
}

#[test]
fn a_process_gets_what_it_was_asked_to_have() {
    let Some(machine) = Machine::boot("a_process_gets_what_it_was_asked_to_have") else { return };
    let mut client = machine.client();
    let show =
        "id -u; id -g; id -G; pwd; echo $HOME; echo $COLOUR; umask; hostname; cat /etc/hostname; ulimit -n";
    let request = script("c1", show).with(|container| {
        first(container).user = "web:staff".into();
        first(container).additional_groups = vec!["7".into()];
        first(container).working_directory = "/made/on/the/way".into();
        first(container).env.push("COLOUR=blue".into());
    });
    client.start(request).unwrap();
    let expected = "33\n50\n50 7\n/made/on/the/way\n/home/web\nblue\n0022\nberth-test\nberth-test\n1048576\n";
    assert_eq!(client.stdout("c1"), expected);
    client.remove("c1").unwrap();
}

#[test]
fn an_init_reaps_forwards_and_ends_as_its_program() {
    let Some(machine) = Machine::boot("an_init_reaps_forwards_and_ends_as_its_program") else { return };
    let mut client = machine.client();
    let text = "trap 'echo got it; exit 7' TERM; (sleep 0.1 &) ; echo $$; sleep 0.5; ps -o stat,comm | grep -c ^Z; \
                echo waiting; while true; do sleep 0.1; done";
    client.start(script("c1", text).with(|container| container.init = true)).unwrap();
    let mut stdout = client.stream("c1", StreamKind::Stdout, 0).unwrap();
    let seen = stdout.read_until("waiting\n");
    assert!(seen.starts_with("2\n0\n"), "the program is the init's child, and no zombie is left: {seen:?}");
    client.signal("c1", 15).unwrap();
    assert_eq!(stdout.read_until("got it\n"), "got it\n");
    assert_eq!(client.wait("c1").code, 7);
    client.remove("c1").unwrap();
}

#[test]
fn a_program_that_needs_no_shell_is_found_in_path() {
    let Some(machine) = Machine::boot("a_program_that_needs_no_shell_is_found_in_path") else { return };
    let mut client = machine.client();
    client.start(container("c1", &["echo", "a b", "", "c"])).unwrap();
    assert_eq!(client.stdout("c1"), "a b  c\n");
    assert_eq!(client.wait("c1").code, 0);
    client.remove("c1").unwrap();
}
