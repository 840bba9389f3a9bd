//! Further processes in a container that runs.

use berth_protocol::agent::{ErrorCode, StreamKind};

use crate::container::{self, Change, exec, process, script};
use crate::machine::Machine;

const FOREVER: &str = "echo ready; while true; do sleep 1; done";

#[test]
fn an_exec_is_in_the_same_container() {
    let Some(machine) = Machine::boot("an_exec_is_in_the_same_container") else { return };
    let mut client = machine.client();
    let started = client.start(script("c1", &format!("echo made > /tmp/made; {FOREVER}"))).unwrap();
    client.stream("c1", StreamKind::Stdout, 0).unwrap().read_until("ready\n");

    let look = "cat /tmp/made; hostname; cat /proc/1/comm; cat /proc/self/cgroup; id -un; pwd; echo $A; \
                for kind in mnt uts ipc net pid cgroup; do \
                [ $(readlink /proc/1/ns/$kind) = $(readlink /proc/self/ns/$kind) ] || echo other $kind; done; exit 5";
    let looking = process("e1", &["sh", "-c", look]).with(|process| {
        process.working_directory = "/data".into();
        process.env.push("A=b".into());
    });
    let execed = client.exec(exec("c1", looking)).unwrap();
    assert_ne!(execed.pid, started.pid);
    assert_eq!(client.stdout("e1"), "made\nberth-test\nsh\n0::/\nroot\n/data\nb\n");
    assert_eq!(client.wait("e1").code, 5);
    client.remove("c1").unwrap();
}

#[test]
fn an_exec_has_a_terminal_of_its_own_in_the_same_container() {
    let Some(machine) = Machine::boot("an_exec_has_a_terminal_of_its_own_in_the_same_container") else {
        return;
    };
    let mut client = machine.client();
    let first = script("c1", FOREVER).with(|container| container::first(container).terminal = true);
    client.start(first).unwrap();
    let shell = process("e1", &["sh", "-c", "tty; id -u; ls -l $(tty) | awk '{print $3}'"]);
    let shell = shell.with(|process| {
        process.terminal = true;
        process.user = "web".into();
    });
    client.exec(exec("c1", shell)).unwrap();
    assert_eq!(client.stdout("e1"), "/dev/pts/1\r\n33\r\nweb\r\n");
    assert_eq!(client.wait("e1").code, 0);
    client.remove("c1").unwrap();
}

#[test]
fn an_exec_is_forgotten_when_the_host_has_everything() {
    let Some(machine) = Machine::boot("an_exec_is_forgotten_when_the_host_has_everything") else { return };
    let mut client = machine.client();
    client.start(script("c1", FOREVER)).unwrap();
    client.exec(exec("c1", process("e1", &["echo", "hello"]))).unwrap();
    assert_eq!(client.wait("e1").code, 0);
    assert_eq!(client.wait("e1").code, 0, "its output is still here, so its status is too");
    assert_eq!(client.stdout("e1"), "hello\n");
    assert_eq!(client.output("e1", StreamKind::Stderr), "");
    client.exec(exec("c1", process("e2", &["true"]))).unwrap();
    let left: Vec<String> = client.processes("c1").into_iter().map(|process| process.process_id).collect();
    assert_eq!(left, ["c1", "e2"]);
    client.remove("c1").unwrap();
}

#[test]
fn signals_reach_their_process_only() {
    let Some(machine) = Machine::boot("signals_reach_their_process_only") else { return };
    let mut client = machine.client();
    client.start(script("c1", &format!("trap 'echo first; exit 0' USR1; {FOREVER}"))).unwrap();
    client.exec(exec("c1", process("e1", &["sleep", "100"]))).unwrap();
    client.signal("e1", 9).unwrap();
    let killed = client.wait("e1");
    assert_eq!((killed.code, killed.signal), (137, 9));
    assert_eq!(client.signal("e1", 9).unwrap_err().0, ErrorCode::NoSuchProcess);
    assert_eq!(client.signal("c1", 0).unwrap_err().0, ErrorCode::InvalidRequest);
    assert_eq!(client.signal("c1", 65).unwrap_err().0, ErrorCode::InvalidRequest);
    assert!(client.processes("c1").iter().any(|process| process.process_id == "c1" && process.running));

    client.stream("c1", StreamKind::Stdout, 0).unwrap().read_until("ready\n");
    client.signal("c1", 10).unwrap();
    assert_eq!(client.wait("c1").code, 0);
    client.remove("c1").unwrap();
}

#[test]
fn the_end_of_the_first_process_ends_the_others() {
    let Some(machine) = Machine::boot("the_end_of_the_first_process_ends_the_others") else { return };
    let mut client = machine.client();
    client.start(script("c1", FOREVER)).unwrap();
    client.exec(exec("c1", process("e1", &["sleep", "100"]))).unwrap();
    client.signal("c1", 9).unwrap();
    assert_eq!(client.wait("c1").code, 137);
    assert_eq!(client.wait("e1").code, 137);
    let late = client.exec(exec("c1", process("e2", &["true"]))).unwrap_err();
    assert_eq!(late.0, ErrorCode::NoSuchContainer);
    client.remove("c1").unwrap();
}
