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
