//! What the processes of a container may do, and with which devices.

use berth_protocol::agent::{
    Capabilities, Device, DeviceKind, DeviceRule, ErrorCode, Namespace, Process, ProcessLimit,
    SystemCallFilter,
};

use crate::client::Client;
use crate::container::{Change, exec, first, process, script};
use crate::machine::Machine;

/// CAP_CHOWN, CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_NET_RAW.
const SOME: u64 = 1 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 13;

/// `struct sock_filter`: code, jt, jf, k. Loads the call's number.
const LOAD_NUMBER: [u8; 8] = [0x20, 0, 0, 0, 0, 0, 0, 0];
const ALLOW: [u8; 8] = [0x06, 0, 0, 0, 0, 0, 0xff, 0x7f];
/// SECCOMP_RET_ERRNO with EPERM.
const REFUSE: [u8; 8] = [0x06, 0, 0, 0, 1, 0, 5, 0];
/// SECCOMP_RET_KILL_PROCESS.
const KILL: [u8; 8] = [0x06, 0, 0, 0, 0, 0, 0, 0x80];

/// Skips the next instruction unless the number is this.
fn if_call(number: u32) -> [u8; 8] {
    let [a, b, c, d] = number.to_le_bytes();
    [0x15, 0, 0, 1, a, b, c, d]
}

fn filter(instructions: &[[u8; 8]]) -> Option<SystemCallFilter> {
    Some(SystemCallFilter { program: instructions.concat(), flags: 0 })
}

fn capabilities(bits: u64) -> Option<Capabilities> {
    Some(Capabilities { bounding: bits, permitted: bits, effective: bits, ..Capabilities::default() })
}

/// What a script says as the first process of a container that is removed again.
fn said(client: &mut Client, text: &str, change: impl FnOnce(&mut Process)) -> String {
    client.start(script("c1", text).with(|container| change(first(container)))).unwrap();
    let said = client.stdout("c1");
    client.wait("c1");
    client.remove("c1").unwrap();
    said
}

#[test]
fn a_process_has_the_capabilities_it_was_given_and_no_others() {
    let Some(machine) = Machine::boot("a_process_has_the_capabilities_it_was_given_and_no_others") else {
        return;
    };
    let mut client = machine.client();
    let look = "sed -n 's/^Cap\\(...\\):\\t0*/\\1 /p' /proc/self/status; grep NoNewPrivs /proc/self/status; \
                chown 1 /tmp 2>/dev/null && echo chown; mount -t tmpfs x /tmp 2>/dev/null || echo no mount";
    let as_root = said(&mut client, look, |process| process.capabilities = capabilities(SOME));
    assert_eq!(as_root, "Inh \nPrm 21e1\nEff 21e1\nBnd 21e1\nAmb \nNoNewPrivs:\t0\nchown\nno mount\n");

    let as_user = said(&mut client, look, |process| {
        process.capabilities = capabilities(SOME);
        process.user = "33".into();
        process.no_new_privileges = true;
    });
    assert_eq!(as_user, "Inh \nPrm \nEff \nBnd 21e1\nAmb \nNoNewPrivs:\t1\nno mount\n");

    let ambient = said(&mut client, look, |process| {
        let held = Capabilities { inheritable: 1, ambient: 1, ..capabilities(SOME).unwrap() };
        process.capabilities = Some(held);
        process.user = "33".into();
    });
    assert_eq!(ambient, "Inh 1\nPrm 1\nEff 1\nBnd 21e1\nAmb 1\nNoNewPrivs:\t0\nchown\nno mount\n");

    // An exec has its own set, and an init no more than its program, but for passing on signals.
    let idle = script("c1", "sleep 1000").with(|container| {
        container.init = true;
        first(container).capabilities = capabilities(1);
    });
    client.start(idle).unwrap();
    let look = "grep -h CapEff /proc/1/status /proc/self/status";
    let other =
        process("e1", &["sh", "-c", look]).with(|process| process.capabilities = capabilities(SOME | 1 << 1));
    client.exec(exec("c1", other)).unwrap();
    assert_eq!(client.stdout("e1"), "CapEff:\t0000000000000021\nCapEff:\t00000000000021e3\n");
    client.remove("c1").unwrap();
}

#[test]
fn a_filter_of_system_calls_holds_for_the_program_and_its_children() {
    let Some(machine) = Machine::boot("a_filter_of_system_calls_holds_for_the_program_and_its_children")
    else {
        return;
    };
    let mut client = machine.client();
    // mkdir is 83 on x86-64; 322 is execveat, which nothing here makes.
    let text = "mkdir /tmp/x 2>/dev/null || echo refused; sh -c 'mkdir /tmp/y 2>/dev/null || echo refused'; \
                grep Seccomp: /proc/self/status";
    let no_mkdir = || filter(&[LOAD_NUMBER, if_call(83), REFUSE, ALLOW]);
    for no_new_privileges in [false, true] {
        let seen = said(&mut client, text, |process| {
            process.system_call_filter = no_mkdir();
            process.no_new_privileges = no_new_privileges;
            process.capabilities = capabilities(SOME);
            process.user = "33".into();
        });
        assert_eq!(seen, "refused\nrefused\nSeccomp:\t2\n");
    }

    let start = |client: &mut Client, filter| {
        let request = script("c1", "true").with(|container| first(container).system_call_filter = filter);
        client.start(request).unwrap_err()
    };
    let (code, message) = start(&mut client, filter(&[KILL]));
    assert_eq!(code, ErrorCode::InvalidRequest);
    assert!(message.contains("seccomp profile does not allow"), "{message}");
    let (code, message) = start(&mut client, filter(&[LOAD_NUMBER]));
    assert_eq!(code, ErrorCode::InvalidRequest, "no end: {message}");
}

#[test]
fn limits_and_kernel_parameters_are_as_asked() {
    let Some(machine) = Machine::boot("limits_and_kernel_parameters_are_as_asked") else { return };
    let mut client = machine.client();
    let look = "ulimit -n; ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj; \
                cat /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax; ls /dev/shm 2>/dev/null || echo no shm";
    let request = script("c1", look).with(|container| {
        container.sysctls = [("net.core.somaxconn", "77"), ("kernel.msgmax", "7777")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        container.no_shm = true;
        let process = first(container);
        process.limits = vec![
            ProcessLimit { resource: 7, soft: 100, hard: 200 },
            ProcessLimit { resource: 4, soft: 0, hard: u64::MAX },
        ];
        process.oom_score_adj = 321;
        process.capabilities = capabilities(SOME);
    });
    client.start(request).unwrap();
    assert_eq!(client.stdout("c1"), "100\n200\n0\n321\n77\n7777\nno shm\n");
    client.remove("c1").unwrap();

    let wrong = script("c1", "true").with(|container| {
        container.sysctls = [("net.no.such".to_owned(), "1".to_owned())].into();
    });
    let (code, message) = client.start(wrong).unwrap_err();
    assert_eq!(code, ErrorCode::InvalidRequest);
    assert!(message.contains("net.no.such"), "{message}");
}

#[test]
fn devices_are_used_only_where_that_was_asked_for() {
    let Some(machine) = Machine::boot("devices_are_used_only_where_that_was_asked_for") else { return };
    let mut client = machine.client();
    // The second scratch disk is nobody's here.
    let look = "mknod /tmp/disk b $(sed 's/:/ /' /sys/block/vdc/dev) 2>/dev/null; \
                head -c 4 /tmp/disk 2>/dev/null | wc -c; head -c 4 /dev/disk 2>/dev/null | wc -c; \
                [ -b /dev/disk ] && (: > /dev/disk) 2>/dev/null && echo writable; head -c 2 /dev/zero | wc -c; ls /dev/fuse 2>/dev/null; rm -f /tmp/disk";
    let disk =
        |access: &str| Device { path: "/dev/vdc".into(), target: "/dev/disk".into(), access: access.into() };
    client.start(script("c1", look)).unwrap();
    assert_eq!(client.stdout("c1"), "0\n0\n2\n", "nothing was asked for");
    client.remove("c1").unwrap();

    client.start(script("c1", look).with(|container| container.devices = vec![disk("r")])).unwrap();
    assert_eq!(client.stdout("c1"), "4\n4\n2\n", "reading was");
    client.remove("c1").unwrap();

    let rule =
        DeviceRule { kind: DeviceKind::BlockDevice.into(), access: "r".into(), ..DeviceRule::default() };
    let numbers =
        "mknod /tmp/disk b $(sed 's/:/ /' /sys/block/vdc/dev); head -c 4 /tmp/disk | wc -c; rm /tmp/disk";
    client.start(script("c1", numbers).with(|container| container.device_rules = vec![rule])).unwrap();
    assert_eq!(client.stdout("c1"), "4\n", "a rule needs no node");
    client.remove("c1").unwrap();

    let look = "head -c 4 /dev/vdc | wc -c; ls -d /dev/fuse /dev/net/tun /dev/pts/ptmx; mkdir /sys/fs/cgroup/own && echo rw; \
                rmdir /sys/fs/cgroup/own";
    client.start(script("c1", look).with(|container| container.privileged = true)).unwrap();
    assert_eq!(client.stdout("c1"), "4\n/dev/fuse\n/dev/net/tun\n/dev/pts/ptmx\nrw\n");
    client.remove("c1").unwrap();

    let missing = script("c1", "true").with(|container| {
        container.devices = vec![Device { path: "/dev/nothing".into(), ..disk("r") }];
    });
    let (code, message) = client.start(missing).unwrap_err();
    assert_eq!(code, ErrorCode::InvalidRequest);
    assert!(message.contains("\"/dev/nothing\""), "{message}");
}

#[test]
fn a_container_shares_the_namespaces_it_does_not_want() {
    let Some(machine) = Machine::boot("a_container_shares_the_namespaces_it_does_not_want") else { return };
    let mut client = machine.client();
    let look = "cat /proc/1/comm; hostname; cut -d: -f3 /proc/self/cgroup; sleep 1000 & echo done";
    let request = script("c1", look).with(|container| {
        container.outer_namespaces = [
            Namespace::PidNamespace,
            Namespace::IpcNamespace,
            Namespace::UtsNamespace,
            Namespace::CgroupNamespace,
        ]
        .map(i32::from)
        .to_vec();
    });
    client.start(request).unwrap();
    let seen = client.stdout("c1");
    assert_eq!(seen, "init\nberth\n/containers/c1\ndone\n", "and its child does not outlive it");
    assert_eq!(client.wait("c1").code, 0);
    client.remove("c1").unwrap();
}
