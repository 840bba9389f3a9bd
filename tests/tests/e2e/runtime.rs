//! What a container may do and use, and what is asked of one that runs: the wiring from a client's words to the guest.

use berth_tests::{Client, Host, eventually};

/// What a script prints in a container that was started with these options.
fn said(client: &Client, options: &[&str], script: &str) -> String {
    let command = ["busybox", "sh", "-c", script];
    let outcome = client.run([&["run", "--rm"], options, &command].concat()).exits_with(0);
    outcome.stdout
}

#[test]
fn privileges_are_dockers_unless_asked_otherwise() {
    let Some(host) = Host::start() else { return };
    let profile = host.path("no-mkdir.json");
    let rule = r#"{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}"#;
    std::fs::write(&profile, format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{rule}]}}"#))
        .unwrap();
    let custom = format!("seccomp={}", profile.display());
    for client in host.clients() {
        let look = "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; mkdir /x 2>/dev/null && echo made; \
                    unshare -m true 2>/dev/null && echo unshared; ls /dev/fuse 2>/dev/null; grep -c ' /proc/keys ' /proc/mounts; true";
        assert_eq!(
            said(&client, &[], look),
            "CapEff:\t00000000a80425fb\nNoNewPrivs:\t0\nSeccomp:\t2\nmade\n1\n"
        );
        let less = ["--cap-drop", "ALL", "--cap-add", "chown", "--security-opt", "no-new-privileges"];
        assert_eq!(
            said(&client, &[&less[..], &["--security-opt", &custom]].concat(), look),
            "CapEff:\t0000000000000001\nNoNewPrivs:\t1\nSeccomp:\t2\n1\n"
        );
        let more = said(&client, &["--privileged"], look);
        assert!(
            more.starts_with(
                "CapEff:\t000001ffffffffff\nNoNewPrivs:\t0\nSeccomp:\t0\nmade\nunshared\n/dev/fuse\n"
            ),
            "{more}"
        );
    }
}

#[test]
fn limits_devices_and_namespaces_are_as_asked() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        let options = [
            "--name",
            "all",
            "-d",
            "--ulimit",
            "nofile=100:200",
            "--sysctl",
            "net.core.somaxconn=77",
            "--device",
            "/dev/fuse:/dev/hatch:rw",
            "--device-cgroup-rule",
            "c 1:1 r",
            "--oom-score-adj",
            "300",
            "--cpu-shares",
            "512",
            "--cpuset-cpus",
            "0",
            "--memory",
            "64m",
            "--memory-reservation",
            "32m",
            "--device-write-bps",
            "/dev/vdb:1mb",
            "--pid",
            "host",
            "--ipc",
            "none",
            "--shm-size",
            "1m",
            "--group-add",
            "7",
        ];
        client.run([&["run"], &options[..], &["busybox", "sleep", "1000"]].concat()).exits_with(0);
        let look = "ulimit -n; ulimit -Hn; cat /proc/sys/net/core/somaxconn; [ -c /dev/hatch ] && echo hatch; \
                    cat /proc/self/oom_score_adj; cd /sys/fs/cgroup; cat cpu.weight cpuset.cpus memory.low; \
                    cut -d' ' -f3 io.max; cat /proc/1/comm; ls -d /dev/shm 2>/dev/null; id -G";
        let seen = client.run(["exec", "all", "sh", "-c", look]).exits_with(0);
        assert_eq!(seen.stdout, "100\n200\n77\nhatch\n300\n20\n0\n33554432\nwbps=1048576\ninit\n0 7\n",);
        let config = &client.run(["inspect", "all"]).exits_with(0).json()[0]["HostConfig"];
        assert_eq!(
            (&config["CpuShares"], &config["PidMode"], &config["OomScoreAdj"]),
            (&512.into(), &"host".into(), &300.into())
        );
        assert_eq!(config["Devices"][0]["PathInContainer"], "/dev/hatch");
        assert_eq!(config["Ulimits"][0]["Hard"], 200);
        client.run(["rm", "-f", "all"]).exits_with(0);
    }
}

#[test]
fn a_container_that_runs_is_paused_counted_and_limited_anew() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        let script = "sleep 2000 & exec sleep 1000";
        client.run(["run", "-d", "--name", "box", "-m", "64m", "busybox", "sh", "-c", script]).exits_with(0);
        let top = client.run(["top", "box"]).exits_with(0);
        assert!(top.stdout.starts_with("UID") && top.stdout.contains("sleep 2000"), "{top:?}");
        client.run(["top", "box", "-o", "pid,cmd"]).exits_with(0).prints("sleep 2000");

        client.run(["pause", "box"]).exits_with(0);
        client.run(["ps"]).exits_with(0).prints("(Paused)");
        let state = &client.run(["inspect", "box"]).exits_with(0).json()[0]["State"];
        assert_eq!(
            (&state["Status"], &state["Paused"], &state["Running"]),
            (&"paused".into(), &true.into(), &true.into())
        );
        let refused = client.run(["exec", "box", "true"]);
        assert!(refused.stderr.contains("is paused, unpause the container before exec"), "{refused:?}");
        assert!(client.run(["pause", "box"]).stderr.contains("is already paused"));
        client.run(["unpause", "box"]).exits_with(0);
        client.run(["exec", "box", "true"]).exits_with(0);

        client
            .run(["update", "--memory", "48m", "--pids-limit", "20", "--cpu-shares", "2", "box"])
            .exits_with(0);
        let files = "cd /sys/fs/cgroup; cat memory.max pids.max cpu.weight";
        client.run(["exec", "box", "sh", "-c", files]).exits_with(0).prints_exactly("50331648\n20\n1");
        let stats =
            client.run(["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.MemUsage}}", "box"]);
        let stats = stats.exits_with(0);
        assert!(stats.stdout.starts_with("box 2 ") && stats.stdout.contains("/ 48MiB"), "{stats:?}");

        client.run(["pause", "box"]).exits_with(0);
        client.run(["stop", "-t", "1", "box"]).exits_with(0);
        eventually("a paused container is stopped", || client.run(["ps", "-q"]).text().is_empty());
        client.run(["rm", "box"]).exits_with(0);
    }
}

#[test]
fn memory_is_the_containers_and_what_its_machine_needs_comes_on_top() {
    let Some(host) = Host::start() else { return };
    let client = host.berth();
    let total = "sed -n 's/MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo";
    let mib = |options: &[&str]| said(&client, options, total).trim().parse::<u64>().unwrap() >> 10;
    let usual = mib(&[]);
    assert!((440..512).contains(&usual), "as --machine-memory says, without the kernel: {usual} MiB");
    assert_eq!(mib(&["-m", "64m"]), usual, "a small limit makes no small machine");

    let touch = |mib: u32| format!("exec dd if=/dev/zero of=/dev/null bs={mib}M count=1");
    let within = client.run(["run", "--rm", "-m", "600m", "busybox", "sh", "-c", &touch(597)]);
    within.exits_with(0);
    let beyond = ["run", "--name", "box", "-m", "600m", "busybox", "sh", "-c", &touch(601)];
    client.run(beyond).exits_with(137);
    let state = &client.run(["inspect", "box"]).exits_with(0).json()[0]["State"];
    assert_eq!((&state["OOMKilled"], &state["ExitCode"]), (&true.into(), &137.into()));
    let events = client.run(["events", "--since", "10m", "--until", "0s", "--filter", "event=oom"]);
    events.exits_with(0).prints("container oom");
    client.run(["rm", "box"]).exits_with(0);
}

#[test]
fn machines_have_the_share_of_the_host_that_their_containers_ask_for() {
    let Some(host) = Host::start() else { return };
    let Some(controls) = CpuControls::of_this_process() else {
        eprintln!("skipped: machines_have_the_share_of_the_host: no control group of CPU time can be made");
        return;
    };
    let parent = format!("/berth-test-{}", std::process::id());
    for (client, options) in host.clients().iter().zip([&[][..], &["--cgroup-parent", &parent]]) {
        let asked = ["run", "-d", "--name", "box", "--cpu-shares", "2048", "--blkio-weight", "300"];
        client.run([&asked[..], options, &["busybox", "sleep", "1000"]].concat()).exits_with(0);
        let group = controls.group_of(host.machine_processes()[0].0);
        let place = if options.is_empty() { "berth-machines" } else { &parent[1..] };
        assert!(group.parent().unwrap().ends_with(place), "{}", group.display());
        assert_eq!(controls.share(&group), 2048);
        client.run(["update", "--cpu-shares", "512", "box"]).exits_with(0);
        assert_eq!(controls.share(&group), 512);
        client.run(["rm", "-f", "box"]).exits_with(0);
        eventually("the machine's group is gone", || !group.exists());
        if !options.is_empty() {
            assert!(group.parent().unwrap().exists(), "the parent is not the daemon's to remove");
        }
    }
    controls.remove(&parent);
}

/// The host's hierarchy that shares out CPU time.
struct CpuControls {
    root: &'static str,
    /// What stands before its paths in /proc/PID/cgroup.
    prefix: &'static str,
}

impl CpuControls {
    fn of_this_process() -> Option<Self> {
        let versions = [
            ("/sys/fs/cgroup/cpu", ":cpu:"),
            ("/sys/fs/cgroup/cpu,cpuacct", ":cpu,cpuacct:"),
            ("/sys/fs/cgroup", "0::"),
        ];
        let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let is_used = |(root, prefix): &(&'static str, &'static str)| {
            own.lines().any(|line| line.contains(prefix))
                && std::path::Path::new(root).join("cgroup.procs").exists()
        };
        let (root, prefix) = versions.into_iter().find(is_used)?;
        let trial = std::path::Path::new(root).join(format!("berth-trial-{}", std::process::id()));
        std::fs::create_dir(&trial).ok()?;
        let is_there = ["cpu.shares", "cpu.weight"].iter().any(|file| trial.join(file).exists());
        std::fs::remove_dir(&trial).ok()?;
        is_there.then_some(Self { root, prefix })
    }

    fn group_of(&self, pid: u32) -> std::path::PathBuf {
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("the process lives");
        let line = groups.lines().find(|line| line.contains(self.prefix)).expect("it is in a group");
        let path = line.rsplit(':').next().expect("a split gives something");
        std::path::Path::new(self.root).join(path.trim_start_matches('/'))
    }

    /// In version 1's measure.
    fn share(&self, group: &std::path::Path) -> u64 {
        let read = |file: &str| std::fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok();
        read("cpu.shares").or_else(|| Some(read("cpu.weight")? * 1024 / 100)).expect("a group has a share")
    }

    /// A group that the test named, in every hierarchy that machines have groups in.
    fn remove(&self, group: &str) {
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup")
            .expect("there are groups")
            .flatten()
            .map(|entry| entry.path());
        for hierarchy in hierarchies.chain([self.root.into()]) {
            let _not_there: std::io::Result<()> = std::fs::remove_dir(hierarchy.join(&group[1..]));
        }
    }
}

#[test]
fn users_of_containers_are_others_in_their_machines_where_that_is_set() {
    let Some(mut host) = Host::with_flags(&["--userns-remap=default"]) else { return };
    host.berth().run(["load", "--quiet", "--input", &host.image_archive("busybox")]).exits_with(0);
    for client in host.clients() {
        let own = "tr -s ' ' < /proc/self/uid_map | grep -v ' 0 0 '; id -u; stat -c %u /bin /etc/hosts /tmp";
        let seen = said(&client, &["--init", "--user", "0"], own);
        assert!(seen.ends_with(" 65536\n0\n0\n0\n0\n"), "{seen}");
        let out = said(&client, &["--userns", "host"], "tr -s ' ' < /proc/self/uid_map; id -u");
        assert_eq!(out, " 0 0 4294967295\n0\n");
        client.run(["info"]).exits_with(0).prints("userns");
        for (option, message) in [
            ("--privileged", "privileged mode is incompatible with user namespaces."),
            ("--pid=host", "cannot share the host PID namespace when user namespaces are enabled"),
        ] {
            let refused = client.run(["run", "--rm", option, "busybox", "true"]);
            assert!(refused.code == 125 && refused.stderr.contains(message), "{refused:?}");
        }
        client.run(["run", "--rm", "--privileged", "--userns=host", "busybox", "true"]).exits_with(0);
    }

    let client = host.berth();
    let write = "[ -e /made ] || { echo kept > /made; chown 33 /made; }; sleep 1000";
    client.run(["run", "-d", "--name", "box", "busybox", "sh", "-c", write]).exits_with(0);
    let look = ["exec", "--user", "33", "box", "sh", "-c", "cat /made; id -u; echo more >> /made"];
    eventually("the container has written", || client.run(look).stdout == "kept\n33\n");
    let mode = &client.run(["inspect", "box"]).exits_with(0).json()[0]["HostConfig"]["UsernsMode"];
    assert_eq!(mode, "");
    client.run(["stop", "-t", "0", "box"]).exits_with(0);
    // The setting is the daemon's, and so is taking it back: the disk is the same without.
    eventually("its machine has written everything", || host.machine_processes().is_empty());
    host.stop_daemon();
    host.set_flags(&[]);
    host.start_daemon();
    client.run(["start", "box"]).exits_with(0);
    let look = "stat -c %u /made; grep -c more /made; grep -c ' 0 4294967295' /proc/self/uid_map";
    client.run(["exec", "box", "sh", "-c", look]).exits_with(0).prints_exactly("33\n1\n1");
    client.run(["rm", "-f", "box"]).exits_with(0);
}
