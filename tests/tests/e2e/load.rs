//! Many at once on a small host.

use berth_tests::Host;

#[test]
fn thirty_two_containers_started_at_once_all_start() {
    let Some(host) = Host::start() else { return };
    let client = host.berth();
    let starts: Vec<_> = (0..32)
        .map(|n| client.spawn(["run", "-d", "--name", &format!("fleet-{n}"), "busybox", "sleep", "1000"]))
        .collect();
    for start in starts {
        start.ends().exits_with(0);
    }
    assert_eq!(client.run(["ps", "-q"]).stdout.lines().count(), 32);
    let resident_mib = host.machine_memory_mib();
    assert!(resident_mib < 32 * 200, "{resident_mib} MiB for 32 machines");
    let names: Vec<String> = (0..32).map(|n| format!("fleet-{n}")).collect();
    client.run(["rm".to_owned(), "-f".to_owned()].iter().chain(&names)).exits_with(0);
}
