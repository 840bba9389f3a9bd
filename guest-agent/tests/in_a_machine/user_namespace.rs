//! A container whose root is nobody in its machine, and whose files are on its disks as they would be without.

use std::io::Read;

use berth_protocol::agent::request::Operation;
use berth_protocol::agent::{
    BoundSocket, Capabilities, Device, ErrorCode, IdRange, Mount, Namespace, ProcessLimit, ReadProcessTable,
    StartContainer, reply,
};

use crate::client::Client;
use crate::container::{Change, exec, first, process, script};
use crate::machine::Machine;

/// Docker's default set.
const DOCKERS: u64 = 0xa804_25fb;

fn mapped(text: &str) -> StartContainer {
    script("c1", text).with(|container| {
        let range = |outside| vec![IdRange { inside: 0, outside, count: 65_536 }];
        (container.users, container.groups) = (range(100_000), range(200_000));
        first(container).capabilities = dockers();
    })
}

fn dockers() -> Option<Capabilities> {
    let bits = DOCKERS;
    Some(Capabilities { bounding: bits, permitted: bits, effective: bits, ..Capabilities::default() })
}

fn said(client: &mut Client, container: StartContainer) -> String {
    client.start(container).unwrap();
    let said = client.stdout("c1");
    client.wait("c1");
    client.remove("c1").unwrap();
    said
}

#[test]
fn a_containers_root_is_nobody_in_the_machine() {
    let Some(machine) = Machine::boot("a_containers_root_is_nobody_in_the_machine") else { return };
    let mut client = machine.client();
    let look = "tr -s ' ' < /proc/self/uid_map; tr -s ' ' < /proc/self/gid_map; id; stat -c '%u %g' / /bin/sh /etc/hosts; \
                grep -E 'CapEff|Seccomp:' /proc/self/status; cat /proc/self/cgroup /proc/sys/net/ipv4/ping_group_range; \
                echo x > /dev/null && head -c 2 /dev/zero | wc -c; stat -c '%u %t' /dev/null; \
                mknod /tmp/null c 1 3 2>/dev/null || echo no node; ls /sys/class/net; hostname; \
                cut -d' ' -f2-4 /proc/mounts | sed 's/,relatime.*//; s/,size=.*//' | grep -E '^/(proc|sys|dev|dev/shm|sys/fs/cgroup|dev/mqueue) ' | sort; \
                touch /dev/shm/x && echo shm; echo hello > /dev/stdout; cat /proc/kcore | wc -c; \
                echo x 2>/dev/null > /proc/sysrq-trigger || echo ro";
    let seen = said(&mut client, mapped(look));
    let expected = " 0 100000 65536\n 0 200000 65536\nuid=0 gid=0\n0 0\n0 0\n0 0\n\
                    CapEff:\t00000000a80425fb\nSeccomp:\t0\n0::/\n0\t65535\n2\n65534 1\nno node\nlo\nberth-test\n\
                    /dev tmpfs rw,nosuid\n/dev/mqueue mqueue rw,nosuid,nodev,noexec\n\
                    /dev/shm tmpfs rw,nosuid,nodev,noexec\n/proc proc rw,nosuid,nodev,noexec\n\
                    /sys sysfs ro,nosuid,nodev,noexec\n/sys/fs/cgroup cgroup2 ro,nosuid,nodev,noexec\nshm\nhello\n0\nro\n";
    let seen = seen
        .replace("uid=0(root) gid=0(root)", "uid=0 gid=0")
        .replace(" groups=0(root)", "")
        .replace(" groups=0", "");
    assert_eq!(seen, expected);
}

#[test]
fn sockets_of_the_hosts_and_memory_for_several_are_in_it_too() {
    let test = "sockets_of_the_hosts_and_memory_for_several_are_in_it_too";
    let Some(machine) = Machine::boot(test) else { return };
    let mut client = machine.client();
    let look = "stat -c '%F %a %u' /run/x.sock; touch /dev/shm/x && stat -c '%a %u' /dev/shm /dev/shm/x; \
                grep -c ' /run/x.sock tmpfs ro' /proc/mounts";
    let socket = BoundSocket { number: 3, mode: 0o660, user_id: 0, group_id: 0 };
    let container = mapped(look).with(|container| {
        container.shareable_shm = true;
        container.mounts = vec![Mount {
            kind: "socket".into(),
            target: "/run/x.sock".into(),
            options: vec!["ro".into()],
            socket: Some(socket),
            ..Mount::default()
        }];
    });
    // The machine's root is nobody there.
    assert_eq!(said(&mut client, container), "socket 660 65534\n1777 65534\n644 0\n1\n");
}

#[test]
fn what_it_writes_is_on_its_disks_as_it_sees_it() {
    let Some(machine) = Machine::boot("what_it_writes_is_on_its_disks_as_it_sees_it") else { return };
    let mut client = machine.client();
    let change = "mkdir /made && echo one > /made/root && echo two > /made/web && chown 33:34 /made/web; \
                  chown 7:8 /etc/passwd; mv /bin/garbage /made/moved; rm /bin/no-interpreter; mkdir -p /data/new/deep; chmod u+s /made/root; \
                  ls -ln /made | tr -s ' ' | cut -d' ' -f1,3,4,9; stat -c '%u %g' /etc/passwd; echo done; sleep 1000";
    client.start(mapped(change)).unwrap();
    let seen = client.stream("c1", berth_protocol::agent::StreamKind::Stdout, 0).unwrap().read_until("done");
    assert!(seen.contains("-rwSr--r-- 0 0 root\n-rw-r--r-- 33 34 web\n7 8\n"), "{seen}");
    let owners = owners(&client.archive("c1", "/").unwrap());
    let owner = |path: &str| owners.iter().find(|(name, ..)| name == path).map(|(_, uid, gid)| (*uid, *gid));
    assert_eq!((owner("made/root"), owner("made/web")), (Some((0, 0)), Some((33, 34))));
    assert_eq!((owner("etc/passwd"), owner("bin/")), (Some((7, 8)), Some((0, 0))));
    assert!(owners.iter().all(|(_, uid, gid)| *uid < 65_534 && *gid < 65_534), "{owners:?}");

    let ReplyTable(users) = table(&mut client);
    assert!(!users.is_empty() && users.iter().all(|user| *user == 100_000), "outside: {users:?}");
    client.remove("c1").unwrap();

    // Without a namespace of its own the same disk is the same.
    let look = "stat -c '%u %g' /made/root /made/web /etc/passwd /data/new/deep; cat /made/web; id -u";
    assert_eq!(said(&mut client, script("c1", look)), "0 0\n33 34\n7 8\n0 0\ntwo\n0\n");
    // And back again.
    assert_eq!(
        said(&mut client, mapped("echo three > /made/web; stat -c %u /made/web; cat /made/root /made/web")),
        "33\none\nthree\n"
    );
}

#[test]
fn further_processes_and_terminals_are_in_its_namespace() {
    let Some(machine) = Machine::boot("further_processes_and_terminals_are_in_its_namespace") else { return };
    let mut client = machine.client();
    client.start(mapped("sleep 1000").with(|container| container.init = true)).unwrap();
    let look = "tr -s ' ' < /proc/self/uid_map; id -u; id -G; echo x > /dev/stderr; echo y > /dev/stdout; cat /proc/self/oom_score_adj; \
                ulimit -l; touch /dev/shm/mine && stat -c %u /dev/shm/mine; rm -f /dev/shm/mine";
    for (id, user, ids) in [("e1", "", "0\n0"), ("e2", "33:34", "33\n34")] {
        let further = process(id, &["sh", "-c", look]).with(|process| {
            process.user = user.into();
            process.capabilities = dockers();
            process.oom_score_adj = -300;
            process.limits = vec![ProcessLimit { resource: 8, soft: u64::MAX, hard: u64::MAX }];
        });
        client.exec(exec("c1", further)).unwrap();
        let owner = ids.split('\n').next().unwrap();
        assert_eq!(client.stdout(id), format!(" 0 100000 65536\n{ids}\ny\n-300\nunlimited\n{owner}\n"));
    }
    let namespaces = "[ $(readlink /proc/self/ns/user) = $(readlink /proc/1/ns/user) ] && echo the same";
    client.exec(exec("c1", process("e4", &["sh", "-c", namespaces]))).unwrap();
    assert_eq!(client.stdout("e4"), "the same\n");
    let terminal = process("e3", &["sh", "-c", "tty; stat -c %u $(tty); id -u"]).with(|process| {
        process.terminal = true;
        process.user = "33".into();
        process.capabilities = dockers();
    });
    client.exec(exec("c1", terminal)).unwrap();
    assert_eq!(client.stdout("e3"), "/dev/pts/0\r\n33\r\n33\r\n");
    client.remove("c1").unwrap();

    let first_terminal = mapped("tty; stat -c %u /dev/console; cat /proc/self/oom_score_adj; ulimit -l")
        .with(|container| {
            first(container).terminal = true;
            first(container).oom_score_adj = -7;
            first(container).limits = vec![ProcessLimit { resource: 8, soft: u64::MAX, hard: u64::MAX }];
        });
    assert_eq!(said(&mut client, first_terminal), "/dev/pts/0\r\n0\r\n-7\r\nunlimited\r\n");
}

#[test]
fn it_has_the_devices_and_namespaces_it_asks_for_and_may_make_its_own() {
    let Some(machine) = Machine::boot("it_has_the_devices_and_namespaces_it_asks_for_and_may_make_its_own")
    else {
        return;
    };
    let mut client = machine.client();
    let look = "unshare -U -r sh -c 'id -u; tr -s \" \" < /proc/self/uid_map'; stat -c %t /dev/hatch; \
                cut -d: -f3 /proc/self/cgroup; ls -d /sys/fs/cgroup/containers/c1; mkdir /sys/fs/cgroup/x 2>/dev/null || echo ro; \
                hostname; mount -t tmpfs x /mnt && echo mounted; cat /proc/sys/net/core/somaxconn; touch /x 2>/dev/null || echo root ro; \
                touch /fast/x && stat -c %u /fast/x";
    let seen = said(
        &mut client,
        mapped(look).with(|container| {
            container.devices =
                vec![Device { path: "/dev/fuse".into(), target: "/dev/hatch".into(), access: "rwm".into() }];
            container.outer_namespaces =
                [Namespace::CgroupNamespace, Namespace::UtsNamespace].map(i32::from).to_vec();
            container.sysctls = [("net.core.somaxconn".to_owned(), "77".to_owned())].into();
            container.readonly_rootfs = true;
            container.mounts = ["/fast", "/mnt"]
                .map(|target| berth_protocol::agent::Mount {
                    kind: "tmpfs".into(),
                    target: target.into(),
                    options: vec!["size=1m".into()],
                    ..Default::default()
                })
                .to_vec();
            first(container).capabilities = Some(Capabilities {
                bounding: u64::MAX >> 23,
                permitted: u64::MAX >> 23,
                effective: u64::MAX >> 23,
                ..Capabilities::default()
            });
        }),
    );
    assert_eq!(
        seen,
        "0\n 0 0 1\na\n/containers/c1\n/sys/fs/cgroup/containers/c1\nro\nberth\nmounted\n77\nroot ro\n0\n"
    );

    let half = mapped("true").with(|container| container.groups.clear());
    assert_eq!(client.start(half).unwrap_err().0, ErrorCode::InvalidRequest);
    let machines_root = mapped("true").with(|container| container.users[0].outside = 0);
    assert_eq!(client.start(machines_root).unwrap_err().0, ErrorCode::InvalidRequest);
    let missing = mapped("true").with(|container| first(container).args = vec!["/no/such".into()]);
    assert_eq!(client.start(missing).unwrap_err().0, ErrorCode::CommandNotFound);
    assert_eq!(said(&mut client, mapped("echo nothing is left of it")), "nothing is left of it\n");
}

/// Path, user and group of each entry.
fn owners(archive: &[u8]) -> Vec<(String, u64, u64)> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        std::io::copy(&mut entry.by_ref(), &mut std::io::sink()).unwrap();
        let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        (path, entry.header().uid().unwrap(), entry.header().gid().unwrap())
    });
    entries.collect()
}

/// The users of a container's processes.
struct ReplyTable(Vec<u32>);

fn table(client: &mut Client) -> ReplyTable {
    let operation = Operation::ReadProcessTable(ReadProcessTable { container_id: "c1".into() });
    match client.ask(operation).unwrap() {
        reply::Result::ProcessTable(table) => ReplyTable(table.rows.iter().map(|row| row.user_id).collect()),
        other => panic!("{other:?}"),
    }
}
