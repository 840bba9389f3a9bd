//! `run`: what goes in, what comes out, and how it ends.

use berth_tests::Host;

#[test]
fn hello_world_says_hello() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        client.run(["run", "--rm", "hello-world"]).exits_with(0).prints("Hello from Berth");
    }
}

#[test]
fn a_container_has_its_own_kernel_process_tree_and_cgroup() {
    let Some(host) = Host::start() else { return };
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    for client in host.clients() {
        let script = "uname -r; echo pid $$; cat /proc/self/cgroup; ls -d /proc/[0-9]* | wc -l";
        let outcome = client.run(["run", "--rm", "busybox", "sh", "-c", script]).exits_with(0);
        assert!(!outcome.stdout.starts_with(kernel.trim()), "the host's kernel: {outcome:?}");
        outcome.prints("pid 1\n0::/\n");
    }
}

#[test]
fn the_programs_exit_code_is_the_clients() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        client.run(["run", "--rm", "busybox", "sh", "-c", "exit 42"]).exits_with(42);
        client.run(["run", "--rm", "busybox", "sh", "-c", "sh -c 'kill -KILL $$'; exit $?"]).exits_with(137);
    }
}

#[test]
fn stdout_and_stderr_stay_apart() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        let outcome =
            client.run(["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2"]).exits_with(0);
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
    }
}

#[test]
fn piped_stdin_reaches_the_program_and_ends() {
    let Some(host) = Host::start() else { return };
    let input = "0123456789abcdef\n".repeat(64 << 10);
    let file = host.path("input");
    std::fs::write(&file, &input).unwrap();
    let oracle = std::process::Command::new("md5sum").arg(&file).output().unwrap();
    let oracle = String::from_utf8(oracle.stdout).unwrap();
    let sum = oracle.split_whitespace().next().unwrap();
    for client in host.clients() {
        let outcome =
            client.run_with_input(["run", "--rm", "-i", "busybox", "md5sum"], input.as_bytes()).exits_with(0);
        outcome.prints(sum);
    }
}

#[test]
fn a_megabyte_of_output_arrives_whole() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        let outcome =
            client.run(["run", "--rm", "busybox", "sh", "-c", "yes 0123456789abcde | head -c 4000000"]);
        let outcome = outcome.exits_with(0);
        assert_eq!(outcome.stdout.len(), 4_000_000);
        assert!(outcome.stdout.lines().rev().skip(1).all(|line| line == "0123456789abcde"));
    }
}

#[test]
fn a_terminal_is_a_terminal() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        let outcome = client
            .run_on_terminal(&["run", "--rm", "-it", "busybox", "sh", "-c", "tty; stty size; exit 3"], "");
        outcome.exits_with(3).prints("/dev/pts/0");
        let outcome =
            client.run_on_terminal(&["run", "--rm", "-it", "busybox", "sh"], "echo $((40+2))\nexit 5\n");
        outcome.exits_with(5).prints("42");
    }
}

#[test]
fn environment_directory_user_and_entrypoint_are_as_asked() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        let run = |arguments: &[&str]| client.run([&["run", "--rm"], arguments].concat()).exits_with(0);
        run(&["-e", "GREETING=good morning", "busybox", "sh", "-c", "echo $GREETING"])
            .prints_exactly("good morning");
        run(&["-w", "/made/on/demand", "busybox", "pwd"]).prints_exactly("/made/on/demand");
        run(&["-u", "nobody", "busybox", "id", "-un"]).prints_exactly("nobody");
        run(&["-u", "1234:5678", "busybox", "sh", "-c", "id -u; id -g"]).prints_exactly("1234\n5678");
        run(&["--entrypoint", "/bin/echo", "busybox", "from", "echo"]).prints_exactly("from echo");
        run(&["--hostname", "lighthouse", "busybox", "hostname"]).prints_exactly("lighthouse");
        run(&["--tmpfs", "/scratch:size=1m", "busybox", "sh", "-c", "grep /scratch /proc/mounts"])
            .prints("tmpfs /scratch");
        run(&["--read-only", "busybox", "sh", "-c", "touch /x 2>/dev/null || echo read-only"])
            .prints_exactly("read-only");
    }
}

#[test]
fn limits_are_the_containers_own() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        let script = "cd /sys/fs/cgroup; cat memory.max cpu.max pids.max";
        let limits = [
            "run",
            "--rm",
            "-m",
            "64m",
            "--cpus",
            "0.5",
            "--pids-limit",
            "32",
            "busybox",
            "sh",
            "-c",
            script,
        ];
        client.run(limits).exits_with(0).prints_exactly("67108864\n50000 100000\n32");
    }
}

#[test]
fn a_container_over_its_memory_limit_is_killed_and_says_so() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        let hog =
            ["run", "--name", "hog", "-m", "32m", "busybox", "sh", "-c", "x=a; while true; do x=$x$x; done"];
        client.run(hog).exits_with(137);
        let state = &client.run(["inspect", "hog"]).exits_with(0).json()[0]["State"];
        assert_eq!(state["OOMKilled"], true, "{state}");
        client.run(["rm", "hog"]).exits_with(0);
    }
}

#[test]
fn what_a_container_writes_is_there_when_it_starts_again() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        client
            .run(["run", "--name", "diary", "busybox", "sh", "-c", "echo line >> /diary; cat /diary"])
            .prints("line\n");
        client.run(["start", "-a", "diary"]).exits_with(0).prints_exactly("line\nline");
        client.run(["rm", "diary"]).exits_with(0);
    }
}

#[test]
fn an_init_reaps_what_nobody_waits_for() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        let script = "(sleep 0.2 &) ; sleep 1; ps -o comm,stat | grep -c ' Z' ; echo $$";
        let outcome = client.run(["run", "--rm", "--init", "busybox", "sh", "-c", script]).exits_with(0);
        let lines: Vec<&str> = outcome.stdout.lines().collect();
        assert_eq!(lines[0], "0", "{outcome:?}");
        assert_ne!(lines[1], "1", "the init is the first process: {outcome:?}");
    }
}
