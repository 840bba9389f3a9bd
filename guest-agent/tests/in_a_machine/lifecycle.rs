//! Removal, restarts, several containers, several daemons, and the end of the machine.

use std::time::Duration;

use berth_protocol::agent::request::Operation;
use berth_protocol::agent::{Configure, ErrorCode, Ping, Shutdown, StreamKind, WaitProcess, reply};

use crate::container::{Change, container, exec, process, script};
use crate::machine::Machine;

#[test]
fn what_a_container_wrote_is_there_at_its_next_start() {
    let Some(machine) = Machine::boot("what_a_container_wrote_is_there_at_its_next_start") else { return };
    let mut client = machine.client();
    client.start(script("c1", "echo kept > /data/file; rm /bin/garbage; (sleep 100 &); exit 0")).unwrap();
    client.wait("c1");
    client.remove("c1").unwrap();
    client.remove("c1").expect("what is gone is removed");
    client.start(script("c1", "cat /data/file; ls /bin/garbage 2>/dev/null || echo gone")).unwrap();
    assert_eq!(client.stdout("c1"), "kept\ngone\n");
    client.remove("c1").unwrap();
}

#[test]
fn disks_may_come_after_the_boot() {
    let Some(machine) = Machine::boot_unbound("disks_may_come_after_the_boot") else { return };
    let mut client = machine.client();
    let early = client.start(script("c1", "echo too early")).unwrap_err();
    assert_eq!(early.0, ErrorCode::MountFailed, "the kernel has read zeros, and remembers them");
    machine.bind_disks();
    client.start(script("c1", "echo hello > /data/x; cat /data/x")).unwrap();
    assert_eq!(client.stdout("c1"), "hello\n");
    client.remove("c1").unwrap();
}

#[test]
fn an_end_that_nobody_was_told_of_is_kept() {
    let Some(machine) = Machine::boot("an_end_that_nobody_was_told_of_is_kept") else { return };
    let mut client = machine.client();
    client.start(container("c1", &["sleep", "1000"])).unwrap();
    let brief = process("e1", &["sh", "-c", "read line; exit 9"]).with(|process| process.stdin = true);
    client.exec(exec("c1", brief)).unwrap();
    client.send(Operation::WaitProcess(WaitProcess { process_id: "e1".into() }));
    drop(client);

    let mut next = machine.client();
    next.stream("e1", StreamKind::Stdin, 0).unwrap().send_chunk(b"");
    assert_eq!((next.stdout("e1"), next.output("e1", StreamKind::Stderr)), Default::default());
    while next.processes("c1").iter().any(|process| process.process_id == "e1" && process.running) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(next.wait("e1").code, 9);
    assert_eq!(next.processes("c1").len(), 1, "now it is forgotten");
    next.remove("c1").unwrap();
}

#[test]
fn a_running_container_can_be_removed() {
    let Some(machine) = Machine::boot("a_running_container_can_be_removed") else { return };
    let mut client = machine.client();
    client.start(script("c1", "trap '' TERM INT; while true; do sleep 1; done")).unwrap();
    client.remove("c1").unwrap();
    assert_eq!(client.processes("c1"), []);
    let gone = client.signal("c1", 9).unwrap_err();
    assert_eq!(gone.0, ErrorCode::NoSuchProcess);
}

#[test]
fn containers_of_one_machine_do_not_see_each_other() {
    let Some(machine) = Machine::boot("containers_of_one_machine_do_not_see_each_other") else { return };
    let mut client = machine.client();
    client.start(container("c1", &["sleep", "1000"])).unwrap();
    let other = script("c2", "ps -o comm | grep -c sleep; cat /proc/mounts | grep -c ext4; echo $$");
    client.start(other.with(|container| container.scratch_disk = "vdc".into())).unwrap();
    assert_eq!(client.stdout("c2"), "0\n0\n1\n");
    client.remove("c2").unwrap();
    assert!(client.processes("c1")[0].running);
    client.remove("c1").unwrap();
}

#[test]
fn a_wait_holds_up_nobody() {
    let Some(machine) = Machine::boot("a_wait_holds_up_nobody") else { return };
    let mut client = machine.client();
    client.start(container("c1", &["sleep", "1000"])).unwrap();
    let waiting = client.send(Operation::WaitProcess(WaitProcess { process_id: "c1".into() }));
    let asked = client.send(Operation::Ping(Ping {}));
    let pong = client.next_reply();
    assert_eq!(pong.id, asked);
    assert!(matches!(pong.result, Some(reply::Result::Ready(ready)) if ready == machine.ready));

    // Another daemon, while the first one's connection is still open.
    machine.client().signal("c1", 15).unwrap_or_default();
    machine.client().signal("c1", 9).unwrap();
    let ended = client.next_reply();
    assert_eq!(ended.id, waiting);
    client.remove("c1").unwrap();
}

#[test]
fn the_clock_is_what_the_host_says() {
    let Some(machine) = Machine::boot("the_clock_is_what_the_host_says") else { return };
    let mut client = machine.client();
    let moment = Configure { unix_time_ns: 1_900_000_000_500_000_000, entropy: vec![7; 64] };
    client.ask(Operation::Configure(moment)).unwrap();
    client.start(script("c1", "date +%s")).unwrap();
    let seconds: u64 = client.stdout("c1").trim().parse().unwrap();
    assert!((1_900_000_000..1_900_000_060).contains(&seconds), "{seconds}");
    let status = client.wait("c1");
    assert!((1_900_000_000..1_900_000_060).contains(&(status.finished_unix_ns / 1_000_000_000)));
    let too_much = Configure { unix_time_ns: 0, entropy: vec![7; 4096] };
    assert_eq!(client.ask(Operation::Configure(too_much)).unwrap_err().0, ErrorCode::InvalidRequest);
    client.remove("c1").unwrap();
}

#[test]
fn a_machine_that_is_shut_down_and_forgotten_ends_itself() {
    let Some(mut machine) = Machine::boot("a_machine_that_is_shut_down_and_forgotten_ends_itself") else {
        return;
    };
    let mut client = machine.client();
    client.start(container("c1", &["sleep", "1000"])).unwrap();
    assert!(matches!(client.ask(Operation::Shutdown(Shutdown {})), Ok(reply::Result::Done(_))));
    assert_eq!(client.processes(""), []);
    assert!(machine.ends_within(Duration::from_secs(60)));
}
