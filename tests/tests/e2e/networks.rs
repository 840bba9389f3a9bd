//! Networks: containers that reach each other, the host and what is published, and nothing else; and what a daemon leaves.
//! Each test's daemon lives in a network namespace of its own.

use berth_tests::{Client, Host, Namespace, eventually};

/// A web server that says one word.
const SERVER: &str = "mkdir /w; echo ahoy > /w/index.html; exec httpd -f -p 80 -h /w";

fn links(namespace: &Namespace) -> Vec<String> {
    let listed = namespace.run(&["ip", "-brief", "link"]).exits_with(0).stdout;
    let name = |line: &str| line.split([' ', '@']).next().unwrap_or_default().to_owned();
    listed.lines().map(name).filter(|name| name != "lo").collect()
}

fn address(client: &Client, container: &str, network: &str) -> String {
    let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
    client.run(["inspect", "--format", &format, container]).exits_with(0).text()
}

#[test]
fn containers_are_on_networks_and_their_ports_on_the_host() {
    let Some(namespace) = Namespace::new() else { return };
    let Some(mut host) = Host::with_networks(&namespace) else { return };
    let Some(docker) = host.docker() else { return };

    // What is there without anybody's asking.
    docker
        .run(["network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"])
        .prints_exactly("bridge bridge local\nhost host local\nnone null local");
    docker.run(["network", "create", "web"]).exits_with(0);
    docker.run(["network", "create", "web"]).exits_with(1).complains("network with name web already exists");
    docker
        .run(["network", "rm", "bridge"])
        .exits_with(1)
        .complains("pre-defined network and cannot be removed");

    let published = ["-p", "8080:80", "-p", "127.0.0.1:8081:80"];
    let server = [
        &["run", "-d", "--name", "server", "--network", "web"][..],
        &published,
        &["busybox", "sh", "-c", SERVER],
    ];
    docker.run(server.concat()).exits_with(0);
    docker.run(["run", "-d", "--name", "other", "busybox", "sleep", "1000"]).exits_with(0);
    docker.run(["port", "server"]).prints("80/tcp -> 0.0.0.0:8080").prints("80/tcp -> 127.0.0.1:8081");
    docker.run(["ps", "--filter", "publish=80", "--format", "{{.Names}}"]).prints_exactly("server");
    docker.run(["ps", "--filter", "network=bridge", "--format", "{{.Names}}"]).prints_exactly("other");

    // The host reaches the server by its loopback addresses of both versions, and by another.
    eventually("the server answers", || namespace.get("127.0.0.1", 8080).stdout.contains("ahoy"));
    namespace.get("127.0.0.1", 8081).prints("ahoy");
    namespace.get("::1", 8080).prints("ahoy");
    namespace.get(&namespace.ip().to_string(), 8080).prints("ahoy");
    assert!(!namespace.get(&namespace.ip().to_string(), 8081).stdout.contains("ahoy"), "it is for 127.0.0.1");

    // A container of another network reaches what is published, and not the server itself.
    let (its_own, gateway) = (address(&docker, "server", "web"), "172.17.0.1");
    let ask = |address: &str, port: &str| {
        let script = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {address} {port}");
        docker.run(["exec", "other", "sh", "-c", &script])
    };
    ask(gateway, "8080").prints("ahoy");
    assert!(!ask(&its_own, "80").stdout.contains("ahoy"), "networks are closed to each other");
    // What the container sees of itself.
    docker.run(["exec", "server", "ip", "route"]).prints("default via 172.18.0.1 dev eth0");
    docker.run(["exec", "server", "cat", "/etc/hosts"]).prints(&its_own);

    // Who has a port keeps it, and a start that fails for it leaves nothing.
    let taken = docker.run(["run", "--name", "late", "-p", "8080:80", "busybox", "true"]).exits_with(125);
    taken.complains("failed to bind host port 0.0.0.0:8080/tcp: address already in use");
    docker.run(["rm", "late"]).exits_with(0);
    assert_eq!(links(&namespace).iter().filter(|name| name.starts_with("bt")).count(), 2);

    // A daemon that dies takes nothing with it, and the next one knows all.
    host.kill_daemon();
    namespace.get("127.0.0.1", 8080).prints("ahoy");
    host.start_daemon();
    namespace.get("127.0.0.1", 8080).prints("ahoy");
    namespace.get("::1", 8080).prints("ahoy");
    assert_eq!(address(&docker, "server", "web"), its_own);
    docker.run(["network", "rm", "web"]).exits_with(1).complains("has active endpoints (name:\"server\"");
    docker
        .run(["run", "--rm", "-p", "8080:80", "busybox", "true"])
        .exits_with(125)
        .complains("already in use");

    // What had ports and addresses is gone for its clients at once, so somebody else may have them.
    docker.run(["rm", "-f", "server"]).exits_with(0);
    docker.run(["network", "rm", "web"]).exits_with(0);
    docker.run(["run", "--rm", "-p", "8080:80", "busybox", "true"]).exits_with(0);
    docker.run(["rm", "-f", "other"]).exits_with(0);
    eventually("cards go with their containers", || {
        links(&namespace).iter().all(|name| !name.starts_with("bt"))
    });
    assert!(!namespace.get("127.0.0.1", 8080).stdout.contains("ahoy"));
    docker.run(["network", "create", "unused"]).exits_with(0);
    docker.run(["network", "prune", "-f"]).exits_with(0).prints("unused");
    assert_eq!(links(&namespace), ["berth0"]);
}

#[test]
fn addresses_and_names_are_as_asked_for() {
    let Some(namespace) = Namespace::new() else { return };
    let Some(host) = Host::with_networks(&namespace) else { return };
    let Some(docker) = host.docker() else { return };
    let subnets =
        ["--subnet", "10.77.0.0/24", "--ip-range", "10.77.0.128/25", "--ipv6", "--subnet", "fd00:77::/64"];
    docker.run([&["network", "create"][..], &subnets, &["both"]].concat()).exits_with(0);
    docker.run(["network", "create", "--internal", "--subnet", "10.78.0.0/24", "closed"]).exits_with(0);
    docker
        .run(["network", "create", "--subnet", "10.77.0.0/16", "more"])
        .exits_with(1)
        .complains("Pool overlaps");

    let fixed = ["--ip", "10.77.0.9", "--ip6", "fd00:77::9", "--mac-address", "02:00:00:00:77:09"];
    let run =
        [&["run", "-d", "--name", "fixed", "--network", "both"][..], &fixed, &["busybox", "sleep", "1000"]];
    docker.run(run.concat()).exits_with(0);
    let seen = docker.run(["exec", "fixed", "ip", "address", "show", "eth0"]).exits_with(0);
    let seen = seen.prints("inet 10.77.0.9/24").prints("inet6 fd00:77::9/64").prints("02:00:00:00:77:09");
    drop(seen);
    docker.run(["exec", "fixed", "ping", "-c", "1", "-W", "10", "fd00:77::1"]).exits_with(0);
    let again = ["run", "--rm", "--network", "both", "--ip", "10.77.0.9", "busybox", "true"];
    docker.run(again).exits_with(125).complains("Address already in use");
    let script = "ip route; ip -brief address 2>/dev/null || ip address";
    let closed =
        docker.run(["run", "--rm", "--network", "closed", "busybox", "sh", "-c", script]).exits_with(0);
    assert!(!closed.stdout.contains("default"), "{closed:?}");
    assert!(!closed.stdout.contains("fe80"), "{closed:?}");

    // Two networks, one way out; no network; the machine's own.
    let two = [
        "create",
        "--name",
        "two",
        "--network",
        "name=both",
        "--network",
        "name=closed",
        "busybox",
        "ip",
        "route",
    ];
    docker.run(two).exits_with(0);
    let routes = docker.run(["start", "-a", "two"]).exits_with(0);
    let routes = routes.prints("default via 10.77.0.128 dev eth0").prints("10.78.0.0/24 dev eth1");
    drop(routes);
    docker
        .run(["run", "--rm", "--network", "none", "busybox", "ip", "route"])
        .exits_with(0)
        .prints_exactly("");
    docker
        .run(["run", "--rm", "--network", "nowhere", "busybox", "true"])
        .exits_with(125)
        .complains("network nowhere not found");
}
