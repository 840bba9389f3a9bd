//! Volumes with a file system of their own, which machines share: sizes that hold, memory that goes, and what a killed
//! daemon and killed machines leave.

use std::fs;
use std::path::Path;

use berth_tests::{Host, eventually};
use rustix::process::geteuid;

/// The loop devices of that file.
fn loop_devices(file: &Path) -> usize {
    let devices = fs::read_dir("/sys/block").expect("Linux has it").flatten();
    let backing = devices.map(|device| device.path().join("loop/backing_file"));
    backing
        .filter(|path| fs::read_to_string(path).is_ok_and(|behind| Path::new(behind.trim()) == file))
        .count()
}

/// Two containers that run write to the same two volumes; the daemon is killed, then they are.
#[test]
fn a_size_holds_for_all_who_share_it_whoever_is_killed() {
    if !geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
        eprintln!("skipped: volumes: only root mounts, and volumes of a size need loop devices");
        return;
    }
    let Some(mut host) = Host::start() else { return };
    let berth = host.berth();
    berth.run(["volume", "create", "--opt", "size=16m", "small"]).exits_with(0);
    let memory =
        ["volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=2m", "memory"];
    berth.run(memory).exits_with(0);
    let mountpoint = berth.run(["volume", "inspect", "-f", "{{.Mountpoint}}", "small"]).exits_with(0).text();
    let disk = Path::new(mountpoint.trim()).canonicalize().unwrap().with_file_name("disk.ext4");
    let volumes = ["-v", "small:/small", "-v", "memory:/memory"];
    let run = |name: &str| {
        let arguments =
            [&["run", "-d", "--name", name], &volumes[..], &["busybox", "sleep", "1000"]].concat();
        berth.run(arguments).exits_with(0);
    };
    run("one");
    run("two");
    let sh = |name: &str, script: &str| berth.run(["exec", name, "sh", "-c", script]);
    let fills =
        "dd if=/dev/zero of=/small/large bs=1M count=17 || dd if=/dev/zero of=/memory/large bs=1M count=3";
    sh("one", fills).exits_with(1).complains("No space left on device");
    sh("one", "rm /small/large /memory/large; echo kept > /small/file; echo lost > /memory/file")
        .exits_with(0);
    sh("two", "cat /small/file /memory/file").exits_with(0).prints_exactly("kept\nlost");
    assert_eq!(loop_devices(&disk), 1);
    let table = fs::read_to_string("/proc/mounts").unwrap();
    assert!(!table.contains(disk.parent().unwrap().to_str().unwrap()), "no mount of it is the host's");

    host.kill_daemon();
    host.start_daemon();
    let late =
        berth.run(["run", "--rm", "-v", "small:/small", "busybox", "sh", "-c", "echo late >> /small/file"]);
    late.exits_with(0);
    sh("one", "cat /small/file").prints_exactly("kept\nlate");
    assert_eq!(loop_devices(&disk), 1, "a daemon that knows nothing of the first finds its device");
    let refused = berth.run(["run", "--rm", "-v", "memory:/memory", "busybox", "true"]).exits_with(125);
    refused.complains("that an earlier daemon started");

    for name in ["one", "two"] {
        let id = berth.run(["inspect", "-f", "{{.Id}}", name]).exits_with(0).text();
        host.kill_the_machine_of(id.trim());
    }
    eventually("the loop device goes with the last machine", || loop_devices(&disk) == 0);
    let script = "cat /small/file; ls /memory";
    let anew = [&["run", "--rm"], &volumes[..], &["busybox", "sh", "-c", script]].concat();
    eventually("both have ended", || berth.run(["ps", "-q"]).exits_with(0).text().trim().is_empty());
    berth.run(anew).exits_with(0).prints_exactly("kept\nlate");
}
