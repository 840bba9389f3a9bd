//! One container's whole life in a machine on `/dev/kvm`, also where that is software KVM and takes a minute.
//!
//! One machine for everything, because there its boot is most of the time.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use berth_tests::{Host, Namespace, eventually};

/// Ends when asked to, and answers by its network; few processes, for each takes its time.
const OBEDIENT: &str = "trap 'exit 7' TERM; httpd -f -p 80 & echo ready; sleep 100000 & wait";

/// Software KVM runs programs on the host's processor, which tells them of registers that such a machine does not keep for
/// them. The C library is asked not to use them.
const FEW_REGISTERS: &str = "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX512VL";

#[test]
fn a_container_lives_and_ends_in_a_machine_on_kvm() {
    let namespace = Namespace::new();
    let Some(host) = Host::on_kvm(namespace.as_ref()) else { return };
    let client = host.berth();
    let network = namespace.filter(|_| client.run(["info"]).stdout.contains("Networks: user mode"));
    let published: &[&str] = if network.is_some() { &["-p", "8080:80"] } else { &[] };
    let run = [
        &["run", "-d", "--name", "box", "-e", FEW_REGISTERS][..],
        published,
        &["busybox", "sh", "-c", OBEDIENT],
    ]
    .concat();
    client.run(run).exits_with(0);
    eventually("the container speaks", || client.run(["logs", "box"]).stdout.contains("ready"));
    assert!(client.run(["inspect", "box"]).json()[0].to_string().contains("\"Accelerator\":\"kvm\""));

    if let Some(network) = &network {
        // From behind the jail: a stack of the machine's user's, and a card that is a stream to it.
        eventually("it answers by its network", || network.get("127.0.0.1", 8080).stdout.contains("HTTP/1"));
    }
    let groups = the_machine_is_jailed(&host);

    let write_and_read = "echo kept > /file; read line < /file; echo $line; exit 11";
    client.run(["exec", "box", "sh", "-c", write_and_read]).exits_with(11).prints_exactly("kept");

    a_paused_machine_does_nothing(&host);
    let asked = unix_time_s();
    let clock: u64 = client.run(["exec", "box", "date", "+%s"]).exits_with(0).text().parse().unwrap();
    assert!((asked..=unix_time_s()).contains(&clock), "the machine's clock says {clock}, asked at {asked}");

    client.run(["stop", "-t", "100", "box"]).exits_with(0);
    assert_eq!(client.run(["inspect", "--format", "{{.State.ExitCode}}", "box"]).text(), "7");
    client.run(["rm", "box"]).exits_with(0);
    host.has_nothing_left_of_machines();
    assert!(!groups.iter().any(|group| Path::new(group).exists()), "control groups are left: {groups:?}");
}

/// Looked at from outside; gives the directories of its control groups.
fn the_machine_is_jailed(host: &Host) -> Vec<String> {
    assert!(host.berth().run(["info"]).stdout.contains("Jail: full"));
    let mut processes = host.machine_processes();
    processes.retain(|(_, program)| program == "berth-vmm");
    let [(pid, _program)] = processes.as_slice() else { panic!("not one process: {processes:?}") };
    let read = |name: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/{name}")).expect("the machine's process lives")
    };
    let status = read("status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.expect("proc_pid_status(5) has it").split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(field("NSpid"), format!("{pid} 1"), "it is alone in its process namespace");
    assert_ne!(field("Uid").split(' ').next(), Some("0"));
    assert_eq!((field("CapEff").as_str(), field("Seccomp").as_str()), ("0000000000000000", "2"));
    assert!(read("cgroup").contains("/berth-machines/"), "{}", read("cgroup"));
    groups_of_the_machine(host).expect("the daemon wrote down what it gave the machine")
}

fn groups_of_the_machine(host: &Host) -> Option<Vec<String>> {
    let machine = std::fs::read_dir(host.path("run/machines")).ok()?.next()?.ok()?;
    let given = std::fs::read(machine.path().join("jail.json")).ok()?;
    let mut given: serde_json::Value = serde_json::from_slice(&given).ok()?;
    serde_json::from_value(given["control_groups"].take()).ok()
}

fn a_paused_machine_does_nothing(host: &Host) {
    assert_eq!(host.ask_the_machine("pause")["reply"], "done");
    assert_eq!(host.ask_the_machine("status")["state"], "paused");
    let before = vcpu_counters(host);
    sleep(Duration::from_secs(1));
    assert_eq!(vcpu_counters(host), before, "it was paused");
    assert_eq!(host.ask_the_machine("resume")["reply"], "done");
    // Its clock ticks, if nothing else.
    eventually("it goes on", || vcpu_counters(host) != before);
}

fn vcpu_counters(host: &Host) -> serde_json::Value {
    let mut counters = host.ask_the_machine("counters");
    let vcpus = counters["vcpus"].take();
    assert!(vcpus[0]["exits"].is_u64(), "this KVM counts nothing: {vcpus}");
    vcpus
}

fn unix_time_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is past 1970").as_secs()
}
