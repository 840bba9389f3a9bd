//! The daemon itself: what it says of itself, and several side by side.

use berth_tests::{Host, eventually};

#[test]
fn it_says_what_it_is() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        client.run(["version"]).exits_with(0).prints("1.51");
        let info = client.run(["info", "--format", "json"]).exits_with(0).json();
        assert_eq!((info["Images"].as_i64(), info["Containers"].as_i64()), (Some(2), Some(0)), "{info}");
        let text = info.to_string();
        let accelerator = if text.contains("tcg") { "tcg" } else { "kvm" };
        eprintln!("accelerator: {accelerator}");
    }
}

#[test]
fn two_daemons_side_by_side_do_not_see_each_other() {
    let (Some(one), Some(other)) = (Host::start(), Host::start()) else { return };
    one.berth().run(["create", "--name", "mine", "busybox"]).exits_with(0);
    other.berth().run(["create", "--name", "mine", "busybox"]).exits_with(0);
    other.berth().run(["rm", "mine"]).exits_with(0);
    one.berth().run(["inspect", "mine"]).exits_with(0);
}

#[test]
fn an_idle_daemon_is_small() {
    let Some(host) = Host::start() else { return };
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.daemon_pid())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident_kib: u64 = resident.trim().trim_end_matches(" kB").trim().parse().unwrap();
    assert!(resident_kib < 20 << 10, "{resident_kib} KiB resident");
}

#[test]
fn runs_leave_no_descriptor_open() {
    let Some(host) = Host::start() else { return };
    let client = host.berth();
    let run = || client.run(["run", "--rm", "-i", "busybox", "true"]).exits_with(0);
    let open = || std::fs::read_dir(format!("/proc/{}/fd", host.daemon_pid())).unwrap().count();
    run();
    host.has_nothing_left_of_machines();
    let before = open();
    for _ in 0..8 {
        run();
    }
    host.has_nothing_left_of_machines();
    eventually("all descriptors of ended runs are closed", || open() <= before);
}

#[test]
fn a_client_without_a_daemon_is_told_what_to_do() {
    let Some(mut host) = Host::empty() else { return };
    host.stop_daemon();
    host.berth().run(["ps"]).exits_with(1).complains("Is berthd running?");
}
