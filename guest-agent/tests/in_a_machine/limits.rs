//! Limits of memory, CPU and processes.

use berth_protocol::agent::{ErrorCode, Resources};

use crate::container::{Change, container, exec, process, script};
use crate::machine::Machine;

#[test]
fn a_container_over_its_memory_is_ended_and_says_so() {
    let Some(machine) = Machine::boot("a_container_over_its_memory_is_ended_and_says_so") else { return };
    let mut client = machine.client();
    let limit = Resources { memory_bytes: 16 << 20, ..Resources::default() };
    let hungry = container("c1", &["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"]);
    client.start(hungry.with(|container| container.resources = Some(limit))).unwrap();
    let status = client.wait("c1");
    assert_eq!((status.code, status.signal, status.oom_killed), (137, 9, true));
    client.remove("c1").unwrap();
}

#[test]
fn a_memory_limit_is_the_containers_exactly() {
    let Some(machine) = Machine::boot("a_memory_limit_is_the_containers_exactly") else { return };
    let mut client = machine.client();
    // A buffer of that many MiB, touched to its end; a shell and dd take half of one.
    let touch = |mib: u32| format!("exec dd if=/dev/zero of=/dev/null bs={mib}M count=1");
    // What is written to disk counts too, and gives way; what lies in memory only does not.
    let cached = "dd if=/dev/zero of=/data/large bs=1M count=40 && dd if=/data/large of=/dev/null bs=1M && echo fits; rm /data/large";
    let in_memory = "dd if=/dev/zero of=/dev/shm/x bs=1M count=34 && echo fits";
    for (text, killed) in
        [(touch(30), false), (touch(33), true), (cached.to_owned(), false), (in_memory.to_owned(), true)]
    {
        let limit = Resources { memory_bytes: 32 << 20, ..Resources::default() };
        client.start(script("c1", &text).with(|container| container.resources = Some(limit))).unwrap();
        client.stdout("c1");
        let status = client.wait("c1");
        assert_eq!((status.oom_killed, status.code == 0), (killed, !killed), "{text}: {status:?}");
        client.remove("c1").unwrap();
    }
}

#[test]
fn an_exec_counts_towards_its_containers_memory() {
    let Some(machine) = Machine::boot("an_exec_counts_towards_its_containers_memory") else { return };
    let mut client = machine.client();
    let limit = Resources { memory_bytes: 16 << 20, ..Resources::default() };
    let idle = container("c1", &["sleep", "1000"]);
    client.start(idle.with(|container| container.resources = Some(limit))).unwrap();
    let hungry = process("e1", &["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"]);
    client.exec(exec("c1", hungry)).unwrap();
    assert!(client.wait("e1").oom_killed);
    client.exec(exec("c1", process("e2", &["true"]))).unwrap();
    assert!(!client.wait("e2").oom_killed, "that was another process");
    client.remove("c1").unwrap();
}

#[test]
fn limits_are_what_the_kernel_enforces() {
    let Some(machine) = Machine::boot("limits_are_what_the_kernel_enforces") else { return };
    let mut client = machine.client();
    let text = "cd /sys/fs/cgroup; cat cpu.max pids.max memory.max; sleep 5 & sleep 5 & sleep 5 & sleep 5 & echo all";
    let limits =
        Resources { memory_bytes: 32 << 20, nano_cpus: 500_000_000, pids: 4, ..Resources::default() };
    client.start(script("c1", text).with(|container| container.resources = Some(limits))).unwrap();
    let seen = client.stdout("c1");
    assert_eq!(seen, "50000 100000\n4\n33554432\n", "and the fourth child could not be made");
    assert_ne!(client.wait("c1").code, 0);
    client.remove("c1").unwrap();
}

#[test]
fn a_limit_that_no_process_fits_in_is_named() {
    let Some(machine) = Machine::boot("a_limit_that_no_process_fits_in_is_named") else { return };
    let mut client = machine.client();
    let limit = Resources { memory_bytes: 4096, ..Resources::default() };
    let failed = client.start(script("c1", "true").with(|container| container.resources = Some(limit)));
    let (code, message) = failed.unwrap_err();
    assert_eq!(code, ErrorCode::ResourceLimit, "{message}");
    client.start(script("c1", "true")).expect("nothing is left of it");
    client.remove("c1").unwrap();
}
