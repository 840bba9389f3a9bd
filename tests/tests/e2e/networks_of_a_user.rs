//! Networks of a daemon that an ordinary user started: each container alone with its gateway, and published ports. The daemon
//! lives in a network namespace of the test's own, as nobody.

use std::time::{Duration, Instant};

use berth_tests::{Client, Host, Namespace, eventually};

/// A web server that says one word, or many.
const SERVER: &str = "mkdir /w; echo ahoy > /w/index.html; dd if=/dev/zero of=/w/large bs=1k count=640 2>/dev/null; \
    exec httpd -f -p 80 -h /w";
/// One that says every datagram back, without modules: an IPv4 socket for datagrams, port 9000 of all addresses.
const ECHO: &str = "socket(S, 2, 2, 17); bind(S, pack('S n N x8', 2, 9000, 0)) or die; \
    while (my $from = recv(S, $said, 1500, 0)) { send(S, $said, 0, $from) }";
/// All that perl takes on Debian, beside the words of its program.
const PERL: &str = "tar -chf - -C / usr/bin/perl $(ldd /usr/bin/perl | grep -o '/[^ ]*' | sed 's:^/::')";

fn port(client: &Client, container: &str, port: &str) -> u16 {
    let told = client.run(["port", container, port]).exits_with(0).text();
    let number = told.lines().next().and_then(|line| line.rsplit_once(':')).map(|(_, number)| number.parse());
    number.and_then(Result::ok).unwrap_or_else(|| panic!("no port in {told:?}"))
}

/// What comes back of a datagram to that place.
fn datagram(namespace: &Namespace, address: &str, port: u16) -> String {
    let script = format!("exec 3<>/dev/udp/{address}/{port}; echo hello >&3; timeout 5 head -n 1 <&3");
    namespace.run(&["bash", "-c", &script]).stdout
}

#[test]
fn an_ordinary_user_publishes_ports_and_keeps_the_hosts_loopback_closed() {
    let Some(namespace) = Namespace::new() else { return };
    let Some(mut host) = Host::of_a_user(&namespace) else { return };
    let Some(docker) = host.docker() else { return };
    let info = docker.run(["info"]).exits_with(0).prints("Networks: user mode (passt)");
    info.complains("containers do not reach each other but by published ports");

    let published = ["-p", "8080:80", "-p", "127.0.0.1:8081:80", "-p", "7000-7001:80", "-p", "81"];
    let slow = ["--network", "name=bridge,driver-opt=berth.rate.out=200k,driver-opt=berth.burst.out=64k"];
    let server =
        [&["run", "-d", "--name", "server"][..], &published, &slow, &["busybox", "sh", "-c", SERVER]]
            .concat();
    docker.run(server).exits_with(0);
    docker.run(["run", "-d", "--name", "other", "busybox", "sleep", "1000"]).exits_with(0);
    let ours = namespace.ip().to_string();
    eventually("the server answers", || namespace.get("127.0.0.1", 8080).stdout.contains("ahoy"));
    namespace.get(&ours, 8080).prints("ahoy");
    namespace.get("127.0.0.1", 8081).prints("ahoy");
    assert!(!namespace.get(&ours, 8081).stdout.contains("ahoy"), "it is for 127.0.0.1");
    namespace.get("127.0.0.1", port(&docker, "server", "80/tcp")).prints("ahoy");
    assert_ne!(port(&docker, "server", "81/tcp"), 0);
    a_rate_is_kept_to(&docker, &namespace);

    datagrams_are_answered(&docker, &namespace, &host);

    // What a container reaches: what is published at an address of the host's, and not what listens on its loopback.
    let ask = |address: &str, port: u16| {
        // Its end of the connection stays open until the answer is there: this passt loses what follows a half-close.
        let script = format!(
            "(printf 'GET / HTTP/1.0\\r\\n\\r\\n'; sleep 2) | timeout 10 nc -w 5 {address} {port} 2>/dev/null"
        );
        docker.run(["exec", "other", "sh", "-c", &script]).stdout
    };
    assert!(ask(&ours, 8080).contains("ahoy"));
    assert!(!ask("172.17.0.1", 8081).contains("ahoy"), "the gateway leads to the host's loopback");
    assert!(!ask("172.17.0.1", 8080).contains("ahoy"), "the gateway leads to the host's loopback");
    let its_own = docker.run(["inspect", "--format", "{{.NetworkSettings.IPAddress}}", "server"]).text();
    assert!(its_own.starts_with("172.17.0.") && !ask(&its_own, 80).contains("ahoy"), "{its_own}");

    what_takes_bridges_is_refused(&docker);

    // A daemon that dies takes nothing with it, and the next one knows all.
    host.kill_daemon();
    namespace.get("127.0.0.1", 8080).prints("ahoy");
    host.start_daemon();
    namespace.get("127.0.0.1", 8080).prints("ahoy");
    let taken = docker.run(["run", "--rm", "-p", "8080:80", "busybox", "true"]).exits_with(125);
    taken.complains("failed to bind host port 0.0.0.0:8080/tcp: address already in use");
    // Who has gone has given its ports back, in time for itself.
    docker.run(["restart", "-t", "0", "server"]).exits_with(0);
    eventually("the server answers", || namespace.get("127.0.0.1", 8080).stdout.contains("ahoy"));
    docker.run(["rm", "-f", "server", "other"]).exits_with(0);
    host.has_nothing_left_of_machines();
    assert!(!namespace.get("127.0.0.1", 8080).stdout.contains("ahoy"));
}

#[test]
fn whoever_of_them_is_killed_leaves_nothing_and_the_next_start_has_it_all() {
    let Some(namespace) = Namespace::new() else { return };
    // Of root, who may choose: each machine's stack is then another user's process.
    let flags = ["--bridge", "berth0", "--network-backend", "user"];
    let Some(mut host) = Host::inside(&namespace, &flags) else { return };
    if !std::path::Path::new("/usr/bin/passt").exists() {
        eprintln!("skipped: {}: there is no passt", module_path!());
        return;
    }
    let client = host.berth();
    client.run(["load", "--quiet", "--input", &host.image_archive("busybox")]).exits_with(0);
    let links = || namespace.run(&["ip", "-brief", "link"]).exits_with(0).stdout.lines().count();
    assert_eq!(links(), 1, "loopback alone");
    let run = ["run", "-d", "--name", "server", "-p", "8080-8081:80-81", "busybox", "sh", "-c", SERVER];
    let id = client.run(run).exits_with(0).text();
    let answers = || namespace.get("127.0.0.1", 8080).stdout.contains("ahoy");
    let error = || client.run(["inspect", "-f", "{{.State.Running}} {{.State.Error}}", "server"]).text();
    eventually("the server answers", answers);
    assert_eq!((error().as_str(), links()), ("true", 1));
    kill_the_stack(&host);

    // Its network is gone, and the container says so until it is started again.
    eventually("what happened is said", || {
        error().starts_with("true its network is gone: the passt process")
    });
    assert!(!answers());
    client.run(["exec", "server", "true"]).exits_with(0);
    client.run(["restart", "-t", "0", "server"]).exits_with(0);
    eventually("the server answers again", answers);
    assert_eq!(error(), "true");

    // A daemon that was not there meanwhile sees it, too.
    host.kill_daemon();
    kill_the_stack(&host);
    host.start_daemon();
    eventually("what happened is said", || error().starts_with("true its network is gone"));

    // The machine's death is its stack's.
    client.run(["restart", "-t", "0", "server"]).exits_with(0);
    eventually("the server answers again", answers);
    host.kill_the_machine_of(&id);
    eventually("the container has ended", || {
        client.run(["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "server"]).text()
            == "exited 137"
    });
    host.has_nothing_left_of_machines();
    client.run(["start", "server"]).exits_with(0);
    eventually("the server answers again", answers);
    client.run(["rm", "-f", "server"]).exits_with(0);
    host.has_nothing_left_of_machines();
    assert!(!answers());
    assert_eq!(links(), 1);
}

/// Kills the only machine's network stack, which is not root.
fn kill_the_stack(host: &Host) {
    let stack = |(_, program): &&(u32, String)| program.starts_with("passt");
    let processes = host.machine_processes();
    let [&(pid, _)] = processes.iter().filter(stack).collect::<Vec<_>>()[..] else {
        panic!("not one stack: {processes:?}")
    };
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    assert!(!status.contains("Uid:\t0\t"), "{status}");
    host.kill(pid);
}

fn datagrams_are_answered(docker: &Client, namespace: &Namespace, host: &Host) {
    let archive = host.path("perl.tar").to_string_lossy().into_owned();
    let made = namespace.run(&["sh", "-c", &format!("{PERL} > {archive}")]);
    if !std::path::Path::new("/usr/bin/perl").exists() {
        eprintln!("skipped: {}: there is no perl", module_path!());
        return;
    }
    drop(made.exits_with(0));
    docker.run(["import", &archive, "perl"]).exits_with(0);
    let run =
        ["run", "-d", "--rm", "--name", "echo", "-p", "9000:9000/udp", "perl", "/usr/bin/perl", "-e", ECHO];
    docker.run(run).exits_with(0);
    for address in ["127.0.0.1", &namespace.ip().to_string()] {
        eventually("datagrams are answered", || datagram(namespace, address, 9000).contains("hello"));
    }
    docker.run(["rm", "-f", "echo"]).exits_with(0);
}

/// The lower bound of a time is the upper one of a rate; a slow host only adds to it.
fn a_rate_is_kept_to(docker: &Client, namespace: &Namespace) {
    let begun = Instant::now();
    let script =
        "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /large HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3 | wc -c";
    let count = namespace.run(&["bash", "-c", script]).text();
    assert!(count.parse::<usize>().is_ok_and(|bytes| bytes > 640 << 10), "{count}");
    // 640 KiB, 64 of them at once and as many on credit, at 200 a second.
    assert!(begun.elapsed() > Duration::from_millis(2400), "{:?}", begun.elapsed());
    let format = "{{json (index .NetworkSettings.Networks \"bridge\").DriverOpts}}";
    docker.run(["inspect", "--format", format, "server"]).prints("\"berth.rate.out\":\"200k\"");
    let run = ["create", "--network", "name=bridge,driver-opt=berth.rate.out=much", "busybox"];
    docker.run(run).exits_with(1).complains("invalid value for berth.rate.out: \"much\"");
}

fn what_takes_bridges_is_refused(docker: &Client) {
    let create = docker.run(["network", "create", "web"]).exits_with(1);
    create
        .complains("making network web is not possible: networks are in user mode")
        .complains("run berthd as root");
    docker
        .run(["network", "disconnect", "bridge", "other"])
        .exits_with(1)
        .complains("disconnecting from network bridge is not possible");
    let both = ["-p", "127.0.0.1:7500:80", "-p", "127.0.0.2:7500:80"];
    let twice = docker.run([&["run", "--rm"][..], &both, &["busybox", "true"]].concat()).exits_with(125);
    twice.complains("cannot be published at both 127.0.0.1 and 127.0.0.2");
    docker
        .run(["run", "--rm", "-p", "[::1]:7500:80", "busybox", "true"])
        .exits_with(125)
        .complains("of IPv6 cannot be published");
    docker
        .run(["run", "--rm", "-p", "82:80", "busybox", "true"])
        .exits_with(125)
        .complains("Permission denied");
}
