//! Containers that come to networks and leave them while they run: what they reach, what they publish, what clients see of
//! it, and what a daemon that dies meanwhile leaves.

use berth_tests::{Client, Host, Namespace, eventually};

const SERVER: &str = "mkdir /w; echo ahoy > /w/index.html; exec httpd -f -p 80 -h /w";

fn hears(client: &Client, container: &str, address: &str) -> bool {
    let script = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {address} 80");
    client.run(["exec", container, "sh", "-c", &script]).stdout.contains("ahoy")
}

fn address(client: &Client, container: &str, network: &str) -> String {
    let format =
        format!("{{{{with index .NetworkSettings.Networks \"{network}\"}}}}{{{{.IPAddress}}}}{{{{end}}}}");
    client.run(["inspect", "--format", &format, container]).exits_with(0).text()
}

fn networks(client: &Client, container: &str) -> String {
    let format = "{{range $name, $place := .NetworkSettings.Networks}}{{$name}} {{end}}";
    client.run(["inspect", "--format", format, container]).exits_with(0).text()
}

fn way_out(client: &Client, container: &str) -> String {
    let routes = client.run(["exec", container, "ip", "route"]).exits_with(0).stdout;
    let default = routes.lines().find(|line| line.starts_with("default")).unwrap_or_default();
    default.split(' ').nth(2).unwrap_or_default().to_owned()
}

#[test]
fn networks_come_and_go_while_a_container_runs() {
    let Some(namespace) = Namespace::new() else { return };
    let Some(mut host) = Host::with_networks(&namespace) else { return };
    let Some(docker) = host.docker() else { return };
    for (name, subnet) in [("web", "10.81.0.0/24"), ("db", "10.82.0.0/24"), ("more", "10.83.0.0/24")] {
        docker.run(["network", "create", "--subnet", subnet, name]).exits_with(0);
    }
    let serve = |name: &str, network: &str, port: &str| {
        let options = ["run", "-d", "--name", name, "--network", network, "-p", port];
        docker.run([&options[..], &["busybox", "sh", "-c", SERVER]].concat()).exits_with(0);
    };
    serve("front", "web", "8080:80");
    serve("back", "db", "8090:80");
    let back = address(&docker, "back", "db");
    assert!(!hears(&docker, "front", &back), "networks are closed to each other");

    // It comes to a network; the first by name has the way out, and published ports follow.
    docker.run(["network", "connect", "--alias", "store", "--ip", "10.82.0.77", "db", "front"]).exits_with(0);
    eventually("a card has its link", || hears(&docker, "front", &back));
    assert!(hears(&docker, "back", "10.82.0.77"));
    assert_eq!(way_out(&docker, "front"), "10.82.0.1");
    assert_eq!(networks(&docker, "front"), "db web");
    namespace.get("127.0.0.1", 8080).prints("ahoy");
    namespace.get("::1", 8080).prints("ahoy");
    let again = docker.run(["network", "connect", "db", "front"]).exits_with(1);
    again.complains("endpoint with name front already exists in network db");
    let full = docker.run(["network", "connect", "more", "front"]).exits_with(1);
    full.complains("its machine was started with 2 network cards, and all are in use; stop it, connect it");

    // A daemon that dies takes nothing with it, and the next one knows all.
    host.kill_daemon();
    host.start_daemon();
    assert!(hears(&docker, "front", &back));
    namespace.get("127.0.0.1", 8080).prints("ahoy");
    docker.run(["rename", "front", "facade"]).exits_with(0);
    let stations = docker.run(["network", "inspect", "--format", "{{json .Containers}}", "db"]).exits_with(0);
    stations.prints("\"facade\"").prints("10.82.0.77/24").prints("\"back\"");

    // It leaves the network that carries its ports, and they go on over the other.
    docker.run(["network", "disconnect", "db", "facade"]).exits_with(0);
    assert!(!hears(&docker, "facade", &back));
    assert_eq!(
        (way_out(&docker, "facade").as_str(), networks(&docker, "facade").as_str()),
        ("10.81.0.1", "web")
    );
    namespace.get("127.0.0.1", 8080).prints("ahoy");
    let not_there = docker.run(["network", "disconnect", "db", "facade"]).exits_with(1);
    not_there.complains("is not connected to network db");
    // The card that it gave back is there for another.
    docker.run(["network", "connect", "more", "facade"]).exits_with(0);
    assert_eq!(networks(&docker, "facade"), "more web");
    docker.run(["network", "disconnect", "web", "facade"]).exits_with(0);
    assert_eq!(way_out(&docker, "facade"), "10.83.0.1");
    namespace.get("127.0.0.1", 8080).prints("ahoy");

    // Of one that does not run, it is noted.
    docker.run(["stop", "-t", "0", "facade"]).exits_with(0);
    docker.run(["network", "connect", "db", "facade"]).exits_with(0);
    docker.run(["network", "disconnect", "more", "facade"]).exits_with(0);
    docker.run(["start", "facade"]).exits_with(0);
    assert_eq!(networks(&docker, "facade"), "db");
    assert!(hears(&docker, "facade", &back));
    docker.run(["rm", "-f", "facade", "back"]).exits_with(0);

    let filters = ["--filter", "type=network", "--filter", "event=connect", "--filter", "event=disconnect"];
    let format = ["--since", "1", "--until", "0s", "--format", "{{.Action}} {{.Actor.Attributes.name}}"];
    // Those before the daemon's second life are forgotten with the first.
    let expected = [
        "disconnect db",
        "connect more",
        "disconnect web",
        "disconnect more",
        "disconnect more",
        "connect db",
        "disconnect db",
        "disconnect db",
    ];
    // Clients ask up to a whole second.
    eventually("its comings and goings are told of", || {
        let events = docker.run([&["events"][..], &filters, &format].concat()).exits_with(0);
        events.stdout.lines().eq(expected)
    });
    eventually("cards go with their containers", || {
        !namespace.run(&["ip", "-brief", "link"]).stdout.lines().any(|line| line.starts_with("bt"))
    });
}

#[test]
fn what_cannot_be_is_refused_in_dockers_words() {
    let Some(namespace) = Namespace::new() else { return };
    let Some(host) = Host::with_networks(&namespace) else { return };
    for client in host.clients() {
        client.run(["network", "create", "web"]).exits_with(0);
        client.run(["create", "--name", "idle", "busybox", "ip", "route"]).exits_with(0);
        client
            .run(["create", "--name", "alone", "--network", "none", "busybox", "ip", "route"])
            .exits_with(0);
        client.run(["create", "--name", "open", "--network", "host", "busybox", "true"]).exits_with(0);
        for (line, reason) in [
            ("connect web nobody", "No such container: nobody"),
            (
                "connect host idle",
                "container cannot be disconnected from host network or connected to host network",
            ),
            ("connect none idle", "multiple networks with one of the networks in private (none) mode"),
            ("connect web alone", "multiple networks with one of the networks in private (none) mode"),
            ("connect web open", "container sharing network namespace with another container or host"),
            ("connect --ip 10.1.2.3 web idle", "no configured subnet contains IP address 10.1.2.3"),
            ("disconnect web idle", "is not connected to the network web"),
            ("disconnect nope idle", "is not connected to the network nope"),
            ("disconnect nope nobody", "No such container: nobody"),
            ("disconnect -f web nobody", "endpoint nobody not found"),
            ("disconnect -f nope nobody", "network nope not found"),
        ] {
            let words: Vec<&str> = ["network"].into_iter().chain(line.split(' ')).collect();
            client.run(words).exits_with(1).complains(reason);
        }
        // As Docker: whether there is such a network is seen at the start.
        client.run(["network", "connect", "later", "idle"]).exits_with(0);
        client.run(["start", "idle"]).exits_with(1).complains("network later not found");
        client.run(["network", "disconnect", "later", "idle"]).exits_with(0);
        // A container that has left all it had, and one that is alone no longer.
        client.run(["network", "disconnect", "bridge", "idle"]).exits_with(0);
        client.run(["start", "-a", "idle"]).exits_with(0).prints_exactly("");
        client.run(["network", "disconnect", "none", "alone"]).exits_with(0);
        client.run(["network", "connect", "web", "alone"]).exits_with(0);
        client.run(["start", "-a", "alone"]).exits_with(0).prints("default via");
        client.run(["rm", "-f", "idle", "alone", "open"]).exits_with(0);
        eventually("nobody is on the network", || client.run(["network", "rm", "web"]).code == 0);
    }
}
