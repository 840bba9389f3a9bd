//! How fast a container may be on a network, asked for by options of its place there or of the network: what it sends and
//! what it receives is held to it, from the start and from a connection on, through a daemon's death, and no longer than it
//! is connected.
//!
//! Nothing here is demanded of a clock but that time has passed: what came by then is at most what a rate lets through.

use std::time::Instant;

use berth_tests::{Client, Host, Namespace, eventually};

const FILE_KIB: u64 = 640;
/// A web server with one word, and a file.
const SERVER: &str = "mkdir /w; echo ahoy > /w/index.html; dd if=/dev/zero of=/w/large bs=1k count=640 2>/dev/null; \
    exec httpd -f -p 80 -h /w";
/// What passes at once, and what a last frame may be in debt for.
const BURST_AND_DEBT_KIB: u64 = 64 + 64;

fn address(client: &Client, container: &str, network: &str) -> String {
    let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
    client.run(["inspect", "--format", &format, container]).exits_with(0).text()
}

/// Begins to fetch the file into one of that name.
fn begin_to_fetch(client: &Client, from: &str, name: &str) {
    let script = format!("wget -q -O /tmp/{name} http://{from}/large");
    client.run(["exec", "-d", "reader", "sh", "-c", &script]).exits_with(0);
}

fn fetched_bytes(client: &Client, name: &str) -> u64 {
    let script = format!("wc -c < /tmp/{name} 2>/dev/null || echo 0");
    client.run(["exec", "reader", "sh", "-c", &script]).exits_with(0).text().parse().unwrap_or(0)
}

/// Some of it comes, and no more than the rate allows since `begun`.
fn is_held_to_2_kib_a_second(client: &Client, name: &str, begun: Instant) {
    eventually("the first of it comes", || fetched_bytes(client, name) > 0);
    let bytes = fetched_bytes(client, name);
    let allowed_kib = BURST_AND_DEBT_KIB + 2 * (begun.elapsed().as_secs() + 1);
    assert!(bytes <= allowed_kib << 10, "{bytes} bytes came in {:?}", begun.elapsed());
}

#[test]
fn a_containers_rates_are_kept_to_as_long_as_it_is_connected() {
    let Some(namespace) = Namespace::new() else { return };
    let Some(mut host) = Host::with_networks(&namespace) else { return };
    let Some(docker) = host.docker() else { return };
    docker.run(["network", "create", "web"]).exits_with(0);
    let of_network = ["-o", "berth.rate.in=2k", "-o", "berth.burst.in=64k"];
    docker.run([&["network", "create"][..], &of_network, &["slow"]].concat()).exits_with(0);
    let place = |rate: &str| format!("name=slow,driver-opt=berth.rate.in=1g,driver-opt={rate}");
    let server = [
        &["run", "-d", "--name", "server", "--network", "web"][..],
        &["--network", &place("berth.rate.out=200k"), "busybox", "sh", "-c", SERVER],
    ];
    docker.run(server.concat()).exits_with(0);
    docker
        .run(["run", "-d", "--name", "reader", "--network", "web", "busybox", "sleep", "1000"])
        .exits_with(0);
    let (fast, slow) = (address(&docker, "server", "web"), address(&docker, "server", "slow"));

    // What it sends, from the start: at most the burst and a debt are ahead of the rate.
    eventually("the server answers", || namespace.get(&slow, 80).stdout.contains("ahoy"));
    let begun = Instant::now();
    let script = format!(
        "exec 3<>/dev/tcp/{slow}/80 && printf 'GET /large HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3 | wc -c"
    );
    let count: u64 = namespace.run(&["bash", "-c", &script]).text().parse().unwrap_or(0);
    assert!(count > FILE_KIB << 10, "{count}");
    let least_s = (FILE_KIB - BURST_AND_DEBT_KIB) / 200;
    assert!(begun.elapsed().as_secs() >= least_s, "{:?}", begun.elapsed());

    // What it receives, from when it comes to the network, and through a daemon's death.
    let begun = Instant::now();
    docker.run(["network", "connect", "slow", "reader"]).exits_with(0);
    begin_to_fetch(&docker, &slow, "held");
    is_held_to_2_kib_a_second(&docker, "held", begun);
    host.kill_daemon();
    host.start_daemon();
    is_held_to_2_kib_a_second(&docker, "held", begun);
    // Its other network is as fast as ever: with that rate this would take five minutes.
    begin_to_fetch(&docker, &fast, "whole");
    eventually("the other network is not held", || fetched_bytes(&docker, "whole") == FILE_KIB << 10);
    is_held_to_2_kib_a_second(&docker, "held", begun);

    // What it asks for when it comes again counts, and no longer what the card was held to before.
    docker.run(["network", "disconnect", "slow", "reader"]).exits_with(0);
    let again = ["network", "connect", "--driver-opt", "berth.rate.in=1g", "slow", "reader"];
    docker.run(again).exits_with(0);
    begin_to_fetch(&docker, &slow, "again");
    eventually("the old rate is gone", || fetched_bytes(&docker, "again") == FILE_KIB << 10);
    docker.run(["rm", "-f", "server", "reader"]).exits_with(0);
}
