//! Containers in another container's machine: `--network container:`, `--pid container:`, `--ipc container:`.

use std::fs;

use berth_tests::{Client, Host, Namespace, eventually};
use rustix::process::geteuid;

/// A web server that says one word.
const SERVER: &str = "mkdir /w; echo ahoy > /w/index.html; exec httpd -f -p 80 -h /w";
const ASK: &str = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 127.0.0.1 80";

fn inspect(client: &Client, container: &str, format: &str) -> String {
    client.run(["inspect", "--format", format, container]).exits_with(0).text()
}

fn run(client: &Client, name: &str, more: &[&str], command: &[&str]) {
    let line = [&["run", "-d", "--name", name][..], more, &["busybox"], command].concat();
    client.run(line).exits_with(0);
}

#[test]
fn a_network_is_shared_with_all_that_goes_with_it() {
    let Some(namespace) = Namespace::new() else { return };
    let Some(mut host) = Host::with_networks(&namespace) else { return };
    let Some(docker) = host.docker() else { return };
    run(&docker, "owner", &["-p", "8080:80", "--hostname", "pod"], &["sleep", "1000"]);
    run(&docker, "server", &["--network", "container:owner"], &["sh", "-c", SERVER]);
    run(&docker, "client", &["--network", "container:owner", "--memory", "64m"], &["sleep", "1000"]);
    let owner = inspect(&docker, "owner", "{{.Id}}");
    assert_eq!(inspect(&docker, "server", "{{.HostConfig.NetworkMode}}"), format!("container:{owner}"));
    assert_eq!(inspect(&docker, "server", "{{json .NetworkSettings.Networks}}"), "{}");
    assert_eq!(host.machine_processes().len(), 1, "all three are in one machine");

    // What one publishes another serves; localhost, names and addresses are the same, files and processes are not.
    eventually("the server answers", || namespace.get("127.0.0.1", 8080).stdout.contains("ahoy"));
    docker.run(["exec", "client", "sh", "-c", ASK]).prints("ahoy");
    let shared = "hostname; cat /etc/hosts /etc/resolv.conf /etc/hostname; ip address show eth0";
    let seen = |container: &str| docker.run(["exec", container, "sh", "-c", shared]).exits_with(0).text();
    assert_eq!(seen("server"), seen("owner"));
    assert!(seen("client").starts_with("pod\n"), "{}", seen("client"));
    docker.run(["exec", "client", "ls", "/w"]).exits_with(1);
    docker.run(["exec", "client", "cat", "/proc/1/cmdline"]).prints("sleep");
    docker.run(["exec", "client", "cat", "/sys/fs/cgroup/memory.max"]).prints_exactly("67108864");
    docker.run(["top", "server"]).prints("httpd");

    // The daemon dies with all of it, and the next one knows whose is whose.
    host.kill_daemon();
    host.start_daemon();
    namespace.get("127.0.0.1", 8080).prints("ahoy");
    docker.run(["exec", "client", "sh", "-c", ASK]).prints("ahoy");

    // One stands still alone, ends alone, and what it wrote is its own. Another has its room.
    docker.run(["pause", "client"]).exits_with(0);
    namespace.get("127.0.0.1", 8080).prints("ahoy");
    docker.run(["unpause", "client"]).exits_with(0);
    docker.run(["exec", "client", "sh", "-c", "echo mine > /mine"]).exits_with(0);
    docker.run(["kill", "client"]).exits_with(0);
    assert_eq!(inspect(&docker, "client", "{{.State.ExitCode}}"), "137");
    docker.run(["rm", "-f", "server"]).exits_with(0);
    run(&docker, "second", &["--network", "container:owner"], &["sh", "-c", SERVER]);
    docker.run(["start", "client"]).exits_with(0);
    docker.run(["exec", "client", "cat", "/mine"]).prints_exactly("mine");
    eventually("the second server answers", || namespace.get("127.0.0.1", 8080).stdout.contains("ahoy"));
    docker
        .run(["run", "--rm", "--network", "container:second", "busybox", "sh", "-c", "exit 5"])
        .exits_with(5);

    // With the owner everybody goes, and nobody comes before it is there again.
    docker.run(["restart", "-t", "1", "owner"]).exits_with(0);
    for lodger in ["second", "client"] {
        let ended = || inspect(&docker, lodger, "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}");
        let expected = format!("exited 137 container {owner}, whose machine it shared, has ended");
        eventually("the lodger has ended", || ended() == expected);
    }
    docker.run(["start", "client"]).exits_with(0);
    docker.run(["exec", "client", "cat", "/mine"]).prints_exactly("mine");
    docker.run(["rm", "-f", "owner", "client", "second"]).exits_with(0);
    eventually("the machine is gone", || host.machine_processes().is_empty());
}

#[test]
fn processes_are_shared_and_rooms_run_out() {
    let Some(mut host) = Host::start() else { return };
    let Some(docker) = host.docker() else { return };
    run(&docker, "owner", &[], &["sh", "-c", "exec sleep 4711"]);
    let see = ["run", "--rm", "--pid", "container:owner", "busybox", "ps"];
    docker.run(see).exits_with(0).prints("sleep 4711");

    // Refused as Docker does.
    let refused = |more: &[&str], code: i32, words: &str| {
        let line = [&["run", "--rm"][..], more, &["busybox", "true"]].concat();
        docker.run(line).exits_with(code).complains(words);
    };
    refused(&["--network", "container:nobody"], 125, "No such container: nobody");
    refused(
        &["--network", "container:owner", "--hostname", "x"],
        125,
        "conflicting options: hostname and the network mode",
    );
    docker.run(["create", "--name", "idle", "busybox", "true"]).exits_with(0);
    refused(&["--network", "container:idle"], 125, "cannot join network of a non running container");
    let missing = ["run", "--rm", "--network", "container:owner", "busybox", "nosuchprogram"];
    docker.run(missing).exits_with(127).complains("executable file not found in $PATH");

    for number in 0..7 {
        run(&docker, &format!("lodger{number}"), &["--network", "container:owner"], &["sleep", "1000"]);
    }
    refused(&["--network", "container:owner"], 125, "has no room for further containers: 7 share it already");
    docker.run(["rm", "-f", "lodger3"]).exits_with(0);
    run(&docker, "late", &["--network", "container:owner", "--rm"], &["sleep", "1000"]);

    // A daemon that was killed finds that their machine is gone.
    host.kill_daemon();
    host.kill_the_machine();
    host.start_daemon();
    let up = docker.run(["ps", "--format", "{{.Names}}"]).exits_with(0).text();
    assert_eq!(up, "");
    let reason = inspect(&docker, "lodger1", "{{.State.ExitCode}} {{.State.Error}}");
    assert!(reason.starts_with("137 ") && reason.contains("whose machine it shared has ended"), "{reason}");
}

/// Mounts of anything of that path in any process's table.
fn mounts_of(path: &str) -> usize {
    let processes = fs::read_dir("/proc").expect("Linux has it");
    let tables = processes.flatten().map(|process| process.path().join("mountinfo"));
    tables.filter(|table| fs::read_to_string(table).is_ok_and(|table| table.contains(path))).count()
}

/// As compose does it: all containers are made before the first is started, and the owner has no volume itself.
#[test]
fn who_shares_a_machine_has_volumes_binds_and_images_of_its_own() {
    if !geteuid().is_root() {
        eprintln!("skipped: lodgers: sharing takes root's rights");
        return;
    }
    let Some(mut host) = Host::start() else { return };
    let Some(docker) = host.docker() else { return };
    fs::create_dir(host.path("tree")).unwrap();
    fs::write(host.path("tree/file"), "from the host\n").unwrap();
    let tree = host.path("tree").display().to_string();
    let (whole, single) = (format!("{tree}:/tree"), format!("{tree}/file:/etc/single:ro"));
    docker.run(["create", "--name", "owner", "busybox", "sleep", "1000"]).exits_with(0);
    let mounts = [
        ["-v", "data:/data"],
        ["-v", "/own"],
        ["-v", &whole],
        ["--tmpfs", "/memory"],
        ["--mount", "type=image,src=hello-world,dst=/hello"],
    ];
    let create = ["create", "--name", "app", "--network", "container:owner", "--memory", "32m"];
    let create = [&create[..], &mounts.concat(), &["busybox", "sleep", "1000"]].concat();
    docker.run(create).exits_with(0).complains("HostConfig.Memory counts within the machine");
    docker.run(["start", "owner", "app"]).exits_with(0);
    assert_eq!(host.machine_processes().len(), 1);
    let sh = |name: &str, script: &str| docker.run(["exec", name, "sh", "-c", script]);
    let script =
        "echo kept > /data/file; touch /own/x /memory/y; cat /tree/file; ls /hello; echo new > /tree/made";
    sh("app", script).exits_with(0).prints_exactly("from the host\nhello");
    assert_eq!(fs::read_to_string(host.path("tree/made")).unwrap(), "new\n");
    sh("owner", "ls -d /data /tree /hello").exits_with(1);

    // One that comes while others run, with a volume that one of them has; and its limit is its own.
    let late = ["run", "--rm", "--network", "container:owner", "-v", "data:/data:ro", "-v", &single];
    let script = "cat /data/file /etc/single; touch /data/x || echo x > /etc/single || echo read-only";
    let late = docker.run([&late[..], &["busybox", "sh", "-c", script]].concat());
    late.exits_with(0).prints_exactly("kept\nfrom the host\nread-only");
    let greedy = ["run", "--name", "greedy", "--pid", "container:owner", "--memory", "16m", "busybox"];
    docker.run([&greedy[..], &["tail", "/dev/zero"]].concat()).exits_with(137);
    assert_eq!(inspect(&docker, "greedy", "{{.State.OOMKilled}}"), "true");
    sh("app", "cat /data/file").prints_exactly("kept");

    // The next daemon knows what is in use, and what goes with whom: the machine stays, and what is shared with it does not.
    host.kill_daemon();
    host.start_daemon();
    docker.run(["volume", "rm", "data"]).exits_with(1).complains("volume is in use");
    sh("app", "cat /data/file /tree/made").prints_exactly("kept\nnew");
    docker.run(["rm", "--force", "--volumes", "app"]).exits_with(0);
    eventually("nothing is shared any more", || mounts_of(&tree) == 0);
    docker.run(["volume", "rm", "data"]).exits_with(0);
    assert_eq!(host.machine_processes().len(), 1);
    // A new one in the place of the old, of which the machine's kernel remembers nothing.
    let anew = ["run", "--rm", "--network", "container:owner", "-v", "data:/data", "-v", &whole, "busybox"];
    docker
        .run([&anew[..], &["ls", "/data", "/tree/made"]].concat())
        .exits_with(0)
        .prints_exactly("/tree/made\n\n/data:");

    // A machine that was started when nobody wanted to share anything says how to get there.
    docker.run(["run", "-d", "--name", "plain", "busybox", "sleep", "1000"]).exits_with(0);
    let second = [
        "run",
        "-d",
        "--name",
        "second",
        "--network",
        "container:plain",
        "-v",
        &whole,
        "busybox",
        "sleep",
        "1000",
    ];
    docker.run(second).exits_with(125).complains("has no shares").complains("restart");
    docker.run(["restart", "-t", "0", "plain"]).exits_with(0);
    docker.run(["start", "second"]).exits_with(0);
    sh("second", "cat /tree/file").prints_exactly("from the host");
}

#[test]
fn ipc_is_shared_with_the_memory_that_goes_with_it() {
    let Some(mut host) = Host::start() else { return };
    let Some(docker) = host.docker() else { return };
    run(&docker, "donor", &["--ipc", "shareable", "--shm-size", "2m"], &["sleep", "1000"]);
    run(&docker, "taker", &["--ipc", "container:donor"], &["sleep", "1000"]);
    run(&docker, "neighbour", &["--network", "container:donor"], &["sleep", "1000"]);
    let donor = inspect(&docker, "donor", "{{.Id}}");
    assert_eq!(inspect(&docker, "taker", "{{.HostConfig.IpcMode}}"), format!("container:{donor}"));
    assert_eq!(host.machine_processes().len(), 1, "all three are in one machine");

    // One namespace, its queues and its memory, in both directions; and nothing of it for whoever is only nearby.
    let make = "echo word > /dev/shm/one; touch /dev/mqueue/queue; readlink /proc/self/ns/ipc; ipcs -l";
    let look = "cat /dev/shm/one; ls /dev/mqueue; readlink /proc/self/ns/ipc; df -k /dev/shm | grep -o 2048; echo two > /dev/shm/two";
    let seen = |container: &str, script: &str| docker.run(["exec", container, "sh", "-c", script]).text();
    let made = seen("donor", make);
    let namespace = made.lines().next().expect("a namespace has a name");
    assert_eq!(seen("taker", look), format!("word\nqueue\n{namespace}\n2048"));
    assert_eq!(seen("donor", "cat /dev/shm/two; hostname").lines().next(), Some("two"));
    assert_eq!(seen("neighbour", "ls /dev/shm /dev/mqueue | grep -v :"), "");
    assert_ne!(seen("neighbour", "readlink /proc/self/ns/ipc"), namespace);

    // A daemon that comes later knows it, and a taker may give.
    host.kill_daemon();
    host.start_daemon();
    let further = ["run", "--rm", "--ipc", "container:taker", "busybox", "cat", "/dev/shm/two"];
    docker.run(further).exits_with(0).prints_exactly("two");

    // Who keeps its own to itself is not joined, nor who does not run.
    let refused = |of: &str, words: &str| {
        let of = format!("container:{of}");
        docker.run(["run", "--rm", "--ipc", &of, "busybox", "true"]).exits_with(125).complains(words);
    };
    refused("neighbour", "non-shareable IPC (hint: use IpcMode:shareable for the donor container)");
    refused("nobody", "No such container: nobody");
    docker.run(["rm", "-f", "taker", "neighbour", "donor"]).exits_with(0);

    // The machine's own is for all in it that ask for it.
    run(&docker, "owner", &["--ipc", "host"], &["sleep", "1000"]);
    docker.run(["exec", "owner", "sh", "-c", "echo machine > /dev/shm/one"]).exits_with(0);
    let lodger = ["run", "--rm", "--ipc", "host", "--network", "container:owner", "busybox"];
    docker.run([&lodger[..], &["cat", "/dev/shm/one"]].concat()).prints_exactly("machine");
}
