//! What is asked of a container that runs: to stand still, to keep to other limits, and how it does.

use std::time::Duration;

use berth_protocol::agent::request::Operation;
use berth_protocol::agent::{
    DeviceThrottle, ErrorCode, Freeze, ReadProcessTable, ReadStatistics, Resources, Statistics,
    UpdateResources, reply,
};

use crate::client::Client;
use crate::container::{Change, exec, process, script};
use crate::machine::Machine;

fn statistics(client: &mut Client) -> Statistics {
    match client.ask(Operation::ReadStatistics(ReadStatistics { container_id: "c1".into() })) {
        Ok(reply::Result::Statistics(statistics)) => statistics,
        other => panic!("{other:?}"),
    }
}

fn cpu_us(client: &mut Client) -> u64 {
    statistics(client).cpu.unwrap().total_us
}

fn freeze(client: &mut Client, frozen: bool) {
    let done = client.ask(Operation::Freeze(Freeze { container_id: "c1".into(), frozen }));
    assert!(matches!(done, Ok(reply::Result::Done(_))), "{done:?}");
}

#[test]
fn a_frozen_container_does_nothing_until_it_is_thawed() {
    let Some(machine) = Machine::boot("a_frozen_container_does_nothing_until_it_is_thawed") else { return };
    let mut client = machine.client();
    client.start(script("c1", "while true; do :; done")).unwrap();
    freeze(&mut client, true);
    let at_rest = cpu_us(&mut client);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(cpu_us(&mut client), at_rest);
    freeze(&mut client, false);
    while cpu_us(&mut client) == at_rest {
        std::thread::sleep(Duration::from_millis(20));
    }
    freeze(&mut client, true);
    client.signal("c1", 9).unwrap();
    assert_eq!(client.wait("c1").code, 137, "a frozen process can be killed");
    client.remove("c1").unwrap();
    let gone = client.ask(Operation::Freeze(Freeze { container_id: "c1".into(), frozen: true }));
    assert_eq!(gone.unwrap_err().0, ErrorCode::NoSuchContainer);
}

#[test]
fn limits_of_a_container_that_runs_can_be_replaced() {
    let Some(machine) = Machine::boot("limits_of_a_container_that_runs_can_be_replaced") else { return };
    let mut client = machine.client();
    let limits = Resources { memory_bytes: 32 << 20, pids: 9, cpu_weight: 7, ..Resources::default() };
    client.start(script("c1", "sleep 1000").with(|container| container.resources = Some(limits))).unwrap();
    let throttle = DeviceThrottle {
        path: "/dev/vdb".into(),
        write_bytes_per_second: 1 << 20,
        ..DeviceThrottle::default()
    };
    let others = Resources {
        memory_bytes: 48 << 20,
        memory_reservation_bytes: 1 << 20,
        cpu_quota_us: 20_000,
        cpu_period_us: 50_000,
        cpus: "0".into(),
        io_throttles: vec![throttle],
        ..Resources::default()
    };
    let update = |resources| {
        Operation::UpdateResources(UpdateResources { container_id: "c1".into(), resources: Some(resources) })
    };
    client.ask(update(others)).unwrap();
    let look = "cd /sys/fs/cgroup; cat memory.max memory.low pids.max cpu.max cpu.weight cpuset.cpus; cut -d' ' -f2- io.max";
    client.exec(exec("c1", process("e1", &["sh", "-c", look]))).unwrap();
    let expected = "50331648\n1048576\nmax\n20000 50000\n100\n0\nrbps=max wbps=1048576 riops=max wiops=max\n";
    assert_eq!(client.stdout("e1"), expected);

    let impossible = Resources { cpus: "4000".into(), ..Resources::default() };
    let (code, message) = client.ask(update(impossible)).unwrap_err();
    assert_eq!(code, ErrorCode::ResourceLimit);
    assert!(message.contains("cpuset.cpus to 4000"), "{message}");
    client.remove("c1").unwrap();
}

#[test]
fn a_container_is_counted_and_its_processes_listed() {
    let Some(machine) = Machine::boot("a_container_is_counted_and_its_processes_listed") else { return };
    let mut client = machine.client();
    let limits = Resources { memory_bytes: 32 << 20, pids: 9, ..Resources::default() };
    let text = "head -c 100000 /dev/zero > /tmp/file; sync; sleep 1000 & exec sleep 2000";
    let started =
        client.start(script("c1", text).with(|container| container.resources = Some(limits))).unwrap();
    let rows = loop {
        let table = Operation::ReadProcessTable(ReadProcessTable { container_id: "c1".into() });
        let Ok(reply::Result::ProcessTable(table)) = client.ask(table) else { panic!("no table") };
        if table.rows.len() == 2 && table.rows.iter().all(|row| row.name == "sleep") {
            assert!(table.machine_bytes > 100 << 20, "{table:?}");
            break table.rows;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let commands: Vec<_> = rows.iter().map(|row| row.command.as_str()).collect();
    assert_eq!(commands, ["sleep 2000", "sleep 1000"]);
    assert_eq!((rows[0].pid, rows[1].parent_pid, rows[0].user_id), (started.pid, started.pid, 0));
    assert!(rows[0].resident_bytes > 0 && rows[0].threads == 1 && rows[0].terminal.is_empty());

    let counted = statistics(&mut client);
    let (cpu, memory) = (counted.cpu.unwrap(), counted.memory.unwrap());
    assert!(cpu.total_us > 0 && cpu.machine_total_us > 0 && cpu.machine_cpus == 1, "{cpu:?}");
    assert!(memory.usage_bytes > 0 && memory.machine_bytes > 100 << 20, "{memory:?}");
    assert_eq!((memory.limit_bytes, counted.pids, counted.pids_limit), (32 << 20, 2, 9));
    assert!(memory.counts.iter().any(|count| count.name == "file" && count.value > 0), "{memory:?}");
    client.remove("c1").unwrap();
}
