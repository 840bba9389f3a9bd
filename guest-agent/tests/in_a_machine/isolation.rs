//! What a container sees of its machine: its own of everything, and little else.

use berth_protocol::agent::Mount;

use crate::container::{Change, container, first, script};
use crate::machine::Machine;

#[test]
fn a_container_has_its_own_world() {
    let Some(machine) = Machine::boot("a_container_has_its_own_world") else { return };
    let mut client = machine.client();
    let look = "echo $$; ls /proc > /seen; grep -c '^[0-9]' /seen; cat /proc/self/cgroup; ls /sys/class/net; \
                ping -c 1 -W 1 127.0.0.1 >/dev/null && echo lo; ls /init /run 2>/dev/null; \
                echo fd: $(ls /proc/self/fd); cat /proc/self/oom_score_adj";
    client.start(script("c1", look)).unwrap();
    let seen = client.stdout("c1");
    // Who lists /proc runs beside the shell; `ls` has the directory itself open.
    let expected = "1\n2\n0::/\nlo\nlo\nfd: 0 1 2 3\n0\n";
    assert_eq!(seen, expected);
    client.remove("c1").unwrap();

    // Not by a shell, which has its own mind about signals.
    client.start(container("c1", &["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"])).unwrap();
    assert_eq!(client.stdout("c1"), "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
    client.remove("c1").unwrap();
}

#[test]
fn the_usual_mounts_are_there_and_as_strict_as_usual() {
    let Some(machine) = Machine::boot("the_usual_mounts_are_there_and_as_strict_as_usual") else { return };
    let mut client = machine.client();
    let look = "cut -d' ' -f2-4 /proc/mounts; for f in null zero full random urandom tty ptmx fd stdin stdout stderr; \
                do [ -e /dev/$f ] || echo no /dev/$f; done; cat /etc/hosts; \
                cat /proc/kcore | wc -c; ls /sys/firmware | wc -l; echo x 2>/dev/null > /proc/sysrq-trigger || echo ro; \
                mkdir /sys/fs/cgroup/x 2>/dev/null || echo ro; echo hello > /dev/stdout; stat -c %a /dev/null /dev/shm";
    client.start(script("c1", look).with(|container| container.shm_size_bytes = 1 << 20)).unwrap();
    let seen = client.stdout("c1");
    for line in [
        "/ overlay rw",
        "/proc proc rw,nosuid,nodev,noexec",
        "/dev tmpfs rw,nosuid",
        "/dev/pts devpts rw,nosuid,noexec",
        "/sys sysfs ro,nosuid,nodev,noexec",
        "/sys/fs/cgroup cgroup2 ro,nosuid,nodev,noexec",
        "/dev/mqueue mqueue rw,nosuid,nodev,noexec",
        "/dev/shm tmpfs rw,nosuid,nodev,noexec",
        "/etc/hosts tmpfs rw",
        "127.0.0.1\tlocalhost",
    ] {
        assert!(seen.lines().any(|seen| seen.starts_with(line)), "no {line:?} in {seen}");
    }
    assert!(seen.contains("size=1024k"), "{seen}");
    assert!(!seen.contains("of-the-lower") && !seen.contains("no /dev"), "{seen}");
    assert!(seen.ends_with("0\n0\nro\nro\nhello\n666\n1777\n"), "{seen}");
    client.remove("c1").unwrap();
}

#[test]
fn a_read_only_root_is_writable_only_where_asked() {
    let Some(machine) = Machine::boot("a_read_only_root_is_writable_only_where_asked") else { return };
    let mut client = machine.client();
    let mounts = vec![
        Mount {
            kind: "tmpfs".into(),
            target: "/made/up".into(),
            options: vec!["size=1m".into(), "noexec".into()],
            ..Default::default()
        },
        Mount {
            kind: "tmpfs".into(),
            target: "/home/web".into(),
            options: vec!["mode=0700".into()],
            ..Default::default()
        },
    ];
    let text = "touch /x 2>/dev/null || echo ro; echo x 2>/dev/null > /etc/hosts || echo ro; touch /made/up/x && echo rw; \
                touch /dev/shm/x && echo rw; stat -c %a /home/web; pwd; grep -c 'made/up tmpfs rw,noexec' /proc/mounts";
    let request = script("c1", text).with(|container| {
        container.readonly_rootfs = true;
        container.mounts = mounts;
        container.extra_hosts = vec!["10.0.0.1 db".into()];
        first(container).working_directory = "/work".into();
    });
    client.start(request).unwrap();
    assert_eq!(client.stdout("c1"), "ro\nro\nrw\nrw\n700\n/work\n1\n");
    client.remove("c1").unwrap();
}

#[test]
fn links_in_the_root_do_not_lead_out_of_it() {
    let Some(machine) = Machine::boot("links_in_the_root_do_not_lead_out_of_it") else { return };
    let mut client = machine.client();
    // The first run prepares traps on the scratch disk, the second runs into them.
    let traps = "rm /etc/hosts; umount /etc/hosts /etc/hostname 2>/dev/null; rm -f /etc/hosts /etc/hostname; \
                 ln -s /../../../../run/escaped /etc/hosts; ln -s ../../../../init /etc/hostname; ln -s / /loop; echo set";
    client.start(script("c1", traps)).unwrap();
    assert!(client.stdout("c1").ends_with("set\n"));
    client.remove("c1").unwrap();

    client.start(script("c1", "head -1 /run/escaped; cat /init; ls /loop/loop/bin/busybox")).unwrap();
    let seen = client.stdout("c1");
    assert_eq!(
        seen, "127.0.0.1\tlocalhost\nberth-test\n/loop/loop/bin/busybox\n",
        "the links were followed inside"
    );
    client.remove("c1").unwrap();
}
