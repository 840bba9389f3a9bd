//! Names: containers find each other, the host and everybody else by name, and only as themselves.

use berth_tests::name_server::{self, EVERYWHERE, LONG_BYTES};
use berth_tests::{Client, Host, Namespace, Outcome, eventually};

fn run(docker: &Client, name: &str, options: &[&str]) {
    let words = [&["run", "-d", "--name", name][..], options, &["busybox", "sleep", "1000"]].concat();
    docker.run(words).exits_with(0);
}

fn look_up(docker: &Client, asker: &str, name: &str) -> Outcome {
    docker.run(["exec", asker, "nslookup", name])
}

fn ping(docker: &Client, asker: &str, name: &str) -> Outcome {
    docker.run(["exec", asker, "ping", "-c", "1", "-W", "10", name])
}

/// A TXT question for `big.`, as somebody with a stream writes it, and the length of the answer.
const ASK_BY_STREAM: &str =
    r"printf '\0\025\022\064\001\0\0\001\0\0\0\0\0\0\003big\0\0\020\0\001' | nc -w 20 127.0.0.11 53 | wc -c";

#[test]
fn containers_find_each_other_by_name() {
    let Some(namespace) = Namespace::new() else { return };
    let Some(mut host) = Host::with_networks(&namespace) else { return };
    let Some(docker) = host.docker() else { return };
    docker.run(["network", "create", "--subnet", "10.88.0.0/24", "web"]).exits_with(0);
    docker.run(["network", "create", "elsewhere"]).exits_with(0);
    run(&docker, "db", &["--network", "web", "--network-alias", "store", "--ip", "10.88.0.9"]);
    run(&docker, "app", &["--network", "web", "--link", "db:linked"]);
    run(&docker, "other", &["--network", "elsewhere"]);

    docker.run(["exec", "app", "cat", "/etc/resolv.conf"]).prints("nameserver 127.0.0.11").prints("ndots:0");
    for name in ["db", "store", "db.web", "linked", "DB"] {
        look_up(&docker, "app", name).exits_with(0).prints("10.88.0.9");
    }
    look_up(&docker, "app", "10.88.0.9").prints("db.web");
    look_up(&docker, "db", "host.docker.internal").prints("10.88.0.1");
    ping(&docker, "app", "store").exits_with(0);
    for (asker, name) in [("other", "db"), ("other", "store"), ("other", "db.web"), ("db", "linked")] {
        assert!(!look_up(&docker, asker, name).stdout.contains("10.88.0.9"), "{asker} finds {name}");
    }
    let names = "{{.NetworkSettings.Networks.web.DNSNames}} {{.NetworkSettings.Networks.web.Aliases}}";
    let shown = docker.run(["inspect", "--format", names, "db"]).exits_with(0);
    assert!(shown.stdout.starts_with("[db store ") && shown.stdout.contains("] [store]"), "{shown:?}");

    // Another name, at once; and another daemon.
    docker.run(["rename", "db", "data"]).exits_with(0);
    look_up(&docker, "app", "data").prints("10.88.0.9");
    assert!(!look_up(&docker, "app", "db").stdout.contains("10.88.0.9"));
    host.kill_daemon();
    host.start_daemon();
    ping(&docker, "app", "data").exits_with(0);
    ping(&docker, "app", "store").exits_with(0);

    // Whoever sends nonsense, and opens more connections than there are, is served afterwards.
    let flood = "yes | head -c 70000 | nc -w 5 127.0.0.11 53; for i in $(seq 40); do sleep 1 | nc 127.0.0.11 53 & done; wait";
    docker.run(["exec", "app", "sh", "-c", flood]);
    eventually("names are found after a flood", || {
        look_up(&docker, "app", "store").stdout.contains("10.88.0.9")
    });
    docker.run(["rm", "-f", "data", "app", "other"]).exits_with(0);
}

#[test]
fn others_are_asked_as_the_container_says() {
    let Some(namespace) = Namespace::new() else { return };
    let Some(host) = Host::with_networks(&namespace) else { return };
    let Some(docker) = host.docker() else { return };
    name_server::serve(&namespace);
    let server = namespace.ip().to_string();
    docker.run(["network", "create", "web"]).exits_with(0);
    docker.run(["network", "create", "--internal", "closed"]).exits_with(0);
    let dns = ["--dns", &server, "--dns-search", "a.example", "--dns-option", "timeout:20"];

    run(&docker, "app", &[&["--network", "web", "--add-host", "box:host-gateway"][..], &dns].concat());
    let conf = docker.run(["exec", "app", "cat", "/etc/resolv.conf"]).exits_with(0);
    conf.prints_exactly("nameserver 127.0.0.11\nsearch a.example\noptions timeout:20 ndots:0");
    look_up(&docker, "app", "www.example.org").prints(&EVERYWHERE.to_string());
    let length = docker.run(["exec", "app", "sh", "-c", ASK_BY_STREAM]).exits_with(0).text();
    assert_eq!(length.parse::<usize>().unwrap(), 2 + 21 + LONG_BYTES);
    docker.run(["exec", "app", "cat", "/etc/hosts"]).prints("172.17.0.1\tbox");

    run(&docker, "shut", &[&["--network", "closed"][..], &dns].concat());
    look_up(&docker, "shut", "www.example.org").prints("SERVFAIL");
    ping(&docker, "shut", "shut").exits_with(0);

    // On the default network there are no names but those of links, and the server is asked without a go-between.
    run(&docker, "plain", &dns);
    let linked = [&["run", "--rm", "--link", "plain:other"][..], &dns, &["busybox", "sh", "-c"]].concat();
    let script = "cat /etc/resolv.conf /etc/hosts; ping -c 1 -W 10 other >&2 && nslookup www.example.org";
    let seen = docker.run([&linked[..], &[script]].concat()).exits_with(0);
    let seen = seen.prints(&format!("nameserver {server}\nsearch a.example\noptions timeout:20\n"));
    seen.prints("\tother ").prints(" plain\n").prints(&EVERYWHERE.to_string());
    docker.run(["rm", "-f", "app", "shut", "plain"]).exits_with(0);
}
