//! A container with all rights in its machine sends what it likes by its network card: nothing of it leaves the card's
//! interface on the host but what is its own.
//!
//! Each frame bears a mark. A listener in the host's network hears every interface: a frame that it hears on the sender's
//! interface was sent; one that it hears on any other has passed.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use berth_tests::{Client, Host, Namespace, eventually};

/// Perl without modules, as Debian's essential package has it, can open packet sockets.
const PERL: &str = "/usr/bin/perl";

/// Sends the frames of its arguments by eth0, each as hexadecimal digits.
const SEND: &str = r#"
    socket(S, 17, 3, 0x0300) or die "socket: $!";
    open(I, "/sys/class/net/eth0/ifindex") or die "eth0: $!"; my $index = <I>;
    for my $frame (@ARGV) {
        my $to = pack("SnlSCCa8", 17, 3, $index, 0, 0, 6, "");
        defined send(S, pack("H*", $frame), 0, $to) or die "send: $!";
    }
"#;

/// Prints "INDEX MARK" of each frame with a mark that comes by an interface of this namespace, in either direction.
const LISTEN: &str = r#"
    $| = 1;
    socket(S, 17, 3, 0x0300) or die "socket: $!";
    print "listening\n";
    while (defined(my $from = recv(S, my $frame, 65536, 0))) {
        my ($family, $protocol, $index) = unpack("Snl", $from);
        while ($frame =~ /MARK-([a-z0-9-]+);/g) { print "$index $1\n"; }
    }
"#;

/// Prints the mark of each datagram for any address of this namespace.
const SERVE: &str = r#"
    $| = 1;
    socket(S, 2, 2, 17) or die "socket: $!";
    bind(S, pack("Sna4x8", 2, 9999, "\0\0\0\0")) or die "bind: $!";
    print "listening\n";
    while (defined(recv(S, my $data, 65536, 0))) { print "$1\n" if $data =~ /MARK-([a-z0-9-]+);/; }
"#;

type Mac = [u8; 6];

#[derive(Clone)]
struct Station {
    mac: Mac,
    v4: [u8; 4],
    v6: [u8; 16],
    /// The host's end of its card.
    tap: String,
}

/// What the container of that name is on this network, in its client's words.
fn station(client: &Client, container: &str, network: &str) -> Station {
    let format = format!(
        "{{{{with index .NetworkSettings.Networks \"{network}\"}}}}{{{{.MacAddress}}}} {{{{.IPAddress}}}} \
         {{{{.GlobalIPv6Address}}}} {{{{.EndpointID}}}}{{{{end}}}}"
    );
    let said = client.run(["inspect", "--format", &format, container]).exits_with(0).text();
    let [mac, v4, v6, id] = said.split(' ').collect::<Vec<_>>()[..] else { panic!("{said}") };
    let octets: Vec<u8> =
        mac.split(':').map(|pair| u8::from_str_radix(pair, 16).expect("two hexadecimal digits")).collect();
    Station {
        mac: octets.try_into().expect("six octets"),
        v4: v4.parse::<std::net::Ipv4Addr>().expect("an IPv4 address").octets(),
        v6: v6.parse::<std::net::Ipv6Addr>().map_or([0; 16], |address| address.octets()),
        tap: id[..9].to_owned(),
    }
}

fn ethernet(to: Mac, from: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), payload].concat()
}

fn mark(name: &str) -> Vec<u8> {
    format!("MARK-{name};").into_bytes()
}

fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let bytes = parts.concat();
    let sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    (!u16::try_from(folded).expect("folded to 16 bits")).to_be_bytes()
}

fn udp(from: u16, to: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + data.len()).expect("a short datagram");
    // Without a checksum, as IPv4 allows.
    [&from.to_be_bytes()[..], &to.to_be_bytes(), &length.to_be_bytes(), &[0, 0], data].concat()
}

fn ipv4(from: [u8; 4], to: [u8; 4], datagram: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + datagram.len()).expect("a short packet").to_be_bytes();
    let mut header = [&[0x45, 0], &length[..], &[0, 1, 0x40, 0, 64, 17, 0, 0], &from, &to].concat();
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum);
    [header, datagram.to_vec()].concat()
}

/// An ICMPv6 message with the hop limit that neighbours demand.
fn icmpv6(from: [u8; 16], to: [u8; 16], message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    let length = u16::try_from(message.len()).expect("a short message");
    let sum = checksum(&[&from, &to, &u32::from(length).to_be_bytes(), &[0, 0, 0, 58], &message]);
    message[2..4].copy_from_slice(&sum);
    [&[0x60, 0, 0, 0][..], &length.to_be_bytes(), &[58, 255], &from, &to, &message].concat()
}

fn udp6(from: [u8; 16], to: [u8; 16], port: u16, to_port: u16, data: &[u8]) -> Vec<u8> {
    let datagram = udp(port, to_port, data);
    let length = u16::try_from(datagram.len()).expect("a short datagram").to_be_bytes();
    [&[0x60, 0, 0, 0][..], &length, &[17, 255], &from, &to, &datagram].concat()
}

/// `operation` 1 asks, 2 answers.
fn arp(operation: u8, mac: Mac, address: [u8; 4], of: Mac, asked: [u8; 4], name: &str) -> Vec<u8> {
    [&[0, 1, 8, 0, 6, 4, 0, operation][..], &mac, &address, &of, &asked, &mark(name)].concat()
}

const EVERYBODY: Mac = [0xff; 6];
const STRANGER: Mac = [2, 0, 0, 0, 0x66, 0x66];
const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// ff02::1, all nodes.
const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];

/// What must not pass, by name.
fn tricks(
    me: &Station,
    victim: &Station,
    elsewhere: &Station,
    gateway: (Mac, [u8; 4]),
) -> Vec<(String, Vec<u8>)> {
    let (bridge, router) = gateway;
    let to_port = |name: &str| udp(5000, 9999, &mark(name));
    let from =
        |name: &str, mac, v4, to: &Station| ethernet(to.mac, mac, IPV4, &ipv4(v4, to.v4, &to_port(name)));
    let by_router =
        |name: &str, to: [u8; 4]| ethernet(bridge, me.mac, IPV4, &ipv4(me.v4, to, &to_port(name)));
    let lie = |name: &str, operation, mac: Mac, v4, to: Mac, asked| {
        ethernet(to, me.mac, ARP, &arp(operation, mac, v4, to, asked, name))
    };
    let stranger_v4 = [victim.v4[0], victim.v4[1], victim.v4[2], 99];
    let mut stranger_v6 = me.v6;
    stranger_v6[15] = 0x99;
    let mut router_v6 = me.v6;
    router_v6[15] = 1;
    let option = |address: Mac, name: &str| [&[2, 1][..], &address, &[0xfd, 5], &mark(name)].concat();
    let advertisement =
        |of: [u8; 16], name: &str| [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &of, &option(me.mac, name)].concat();
    let route = |name: &str| {
        [&[134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0][..], &option(me.mac, name)].concat()
    };
    let redirect =
        |name: &str| [&[137, 0, 0, 0, 0, 0, 0, 0][..], &me.v6, &elsewhere.v6, &option(me.mac, name)].concat();
    let to_all = |from: [u8; 16], message: &[u8]| {
        ethernet(ALL_NODES_MAC, me.mac, IPV6, &icmpv6(from, ALL_NODES, message))
    };
    let link_local = {
        let [a, b, c, d, e, f] = me.mac;
        [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f]
    };
    let offer = ipv4(me.v4, [255; 4], &udp(67, 68, &mark("dhcp-offer")));
    // Without a checksum nobody takes it who looks; that it was heard elsewhere would be enough.
    let advertise = udp6(link_local, ALL_NODES, 547, 546, &mark("dhcpv6-advertise"));
    let asks_as_gateway =
        [&[135, 0, 0, 0, 0, 0, 0, 0][..], &victim.v6, &option(me.mac, "ns-gateway")].concat();
    let tagged = [&[0, 7][..], &IPV4.to_be_bytes(), &ipv4(me.v4, victim.v4, &to_port("vlan"))].concat();
    let frames = [
        ("mac", from("mac", STRANGER, me.v4, victim)),
        ("mac-of-a-neighbour", from("mac-of-a-neighbour", victim.mac, victim.v4, elsewhere)),
        ("ipv4", from("ipv4", me.mac, stranger_v4, victim)),
        ("ipv4-loopback", from("ipv4-loopback", me.mac, [127, 0, 0, 1], victim)),
        ("ipv4-of-the-gateway", from("ipv4-of-the-gateway", me.mac, router, victim)),
        ("arp-gateway-reply", lie("arp-gateway-reply", 2, me.mac, router, victim.mac, victim.v4)),
        ("arp-gateway-gratuitous", lie("arp-gateway-gratuitous", 1, me.mac, router, EVERYBODY, router)),
        ("arp-neighbour-to-host", lie("arp-neighbour-to-host", 2, me.mac, victim.v4, bridge, router)),
        ("arp-other-mac", lie("arp-other-mac", 2, STRANGER, me.v4, victim.mac, victim.v4)),
        ("ipv6", to_all(stranger_v6, &[&[128, 0, 0, 0, 0, 1, 0, 1][..], &mark("ipv6")].concat())),
        ("na-gateway", to_all(me.v6, &advertisement(router_v6, "na-gateway"))),
        ("na-neighbour", to_all(link_local, &advertisement(victim.v6, "na-neighbour"))),
        ("ra", to_all(link_local, &route("ra"))),
        ("redirect", to_all(link_local, &redirect("redirect"))),
        ("dhcpv6-advertise", ethernet(ALL_NODES_MAC, me.mac, IPV6, &advertise)),
        // Who asks tells where it is itself (RFC 4861, section 4.3).
        ("ns-gateway", to_all(router_v6, &asks_as_gateway)),
        ("dhcp-offer", ethernet(EVERYBODY, me.mac, IPV4, &offer)),
        ("vlan", ethernet(victim.mac, me.mac, 0x8100, &tagged)),
        ("spanning-tree", ethernet([1, 0x80, 0xc2, 0, 0, 0], me.mac, 38, &mark("spanning-tree"))),
        ("other-network", by_router("other-network", elsewhere.v4)),
        ("loopback-service", by_router("loopback-service", [127, 0, 0, 1])),
    ];
    frames.into_iter().map(|(name, frame)| (name.to_owned(), frame)).collect()
}

/// Sends frames from inside the container's machine.
fn send(client: &Client, container: &str, frames: &[Vec<u8>]) {
    let hex = |frame: &Vec<u8>| frame.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let frames: Vec<String> = frames.iter().map(hex).collect();
    let words = ["exec", container, PERL, "-e", SEND];
    client.run(words.into_iter().chain(frames.iter().map(String::as_str))).exits_with(0);
}

/// The host's Perl and what it is linked with, in place.
fn give_perl(client: &Client, container: &str) -> bool {
    let linked = Command::new("ldd").arg(PERL).output().map(|output| output.stdout).unwrap_or_default();
    let linked = String::from_utf8_lossy(&linked).into_owned();
    let libraries: Vec<&str> = linked.split_whitespace().filter(|word| word.starts_with('/')).collect();
    let packing =
        Command::new("tar").args(["-C", "/", "-chP", PERL]).args(&libraries).stderr(Stdio::null()).output();
    let Ok(archive) = packing else { return false };
    if !archive.status.success() || libraries.is_empty() {
        return false;
    }
    client.run_with_input(["cp", "-", &format!("{container}:/")], &archive.stdout).exits_with(0);
    true
}

/// A Perl program in the host's network that prints what it hears.
struct Listener {
    child: std::process::Child,
    heard: std::path::PathBuf,
}

impl Listener {
    fn start(host: &Host, namespace: &Namespace, name: &str, program: &str) -> Self {
        let heard = host.path(name);
        let output = std::fs::File::create(&heard).expect("the directory is ours");
        let mut command = namespace.command(PERL);
        let child = command.args(["-e", program]).stdout(output).spawn().expect("the program starts");
        let listener = Self { child, heard };
        eventually("a listener listens", || listener.lines().first().is_some_and(|line| line == "listening"));
        listener
    }

    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.heard).expect("the file was made");
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(str::to_owned).collect()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }
}

#[test]
fn nothing_but_its_own_leaves_a_hostile_machine() {
    if !std::path::Path::new(PERL).exists() {
        eprintln!("skipped: nothing_but_its_own_leaves_a_hostile_machine: there is no {PERL}");
        return;
    }
    let Some(namespace) = Namespace::new() else { return };
    let Some(mut host) = Host::with_networks(&namespace) else { return };
    host.stop_daemon();
    host.set_flags(&["--bridge", "berth0", "--host", "tcp://127.0.0.1:2375"]);
    host.start_daemon();
    let Some(docker) = host.docker() else { return };
    let both = ["--subnet", "10.91.0.0/24", "--ipv6", "--subnet", "fd00:91::/64"];
    docker
        .run(
            [&["network", "create", "-o", "com.docker.network.bridge.name=brhome"][..], &both, &["home"]]
                .concat(),
        )
        .exits_with(0);
    docker.run(["network", "create", "--subnet", "10.92.0.0/24", "away"]).exits_with(0);
    for (name, network) in [("evil", "home"), ("victim", "home"), ("elsewhere", "away")] {
        let options = ["run", "-d", "--name", name, "--network", network, "--privileged"];
        docker.run([&options[..], &["busybox", "sleep", "1000"]].concat()).exits_with(0);
    }
    assert!(give_perl(&docker, "evil"), "{PERL} can be packed");
    let links = namespace.run(&["ip", "-o", "link"]).exits_with(0).stdout;
    let index_of = |part: &str| {
        let line =
            links.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("{part} in {links}"));
        line.split(':').next().expect("a first piece").to_owned()
    };
    let me = station(&docker, "evil", "home");
    let (victim, elsewhere) = (station(&docker, "victim", "home"), station(&docker, "elsewhere", "away"));
    let bridge = links.lines().find(|line| line.contains("brhome:")).expect("the bridge is listed");
    let bridge = bridge
        .split("link/ether ")
        .nth(1)
        .expect("the bridge has an address")
        .split(' ')
        .next()
        .expect("the bridge has an address");
    let bridge: Vec<u8> =
        bridge.split(':').map(|pair| u8::from_str_radix(pair, 16).expect("two hexadecimal digits")).collect();
    let gateway: (Mac, [u8; 4]) = (bridge.try_into().expect("six octets"), [10, 91, 0, 1]);

    let listener = Listener::start(&host, &namespace, "frames", LISTEN);
    let service = Listener::start(&host, &namespace, "datagrams", SERVE);
    let honest =
        |name: &str, to: Mac, v4| ethernet(to, me.mac, IPV4, &ipv4(me.v4, v4, &udp(5000, 9999, &mark(name))));
    let tricks = tricks(&me, &victim, &elsewhere, gateway);
    let names: BTreeSet<String> = tricks.iter().map(|(name, _)| name.clone()).collect();
    // Frames of a card stay in order: when the last has arrived, whatever passes has passed.
    let mut frames = vec![honest("honest-first", victim.mac, victim.v4)];
    frames.extend(tricks.into_iter().map(|(_, frame)| frame));
    frames.push(honest("honest-last", victim.mac, victim.v4));
    frames.push(honest("honest-to-the-host", gateway.0, gateway.1));
    send(&docker, "evil", &frames);

    let (its_own, victims) = (index_of(&me.tap), index_of(&victim.tap));
    let arrived = |name: &str| format!("{victims} {name}");
    eventually("honest frames arrive", || listener.lines().contains(&arrived("honest-last")));
    eventually("honest datagrams arrive", || service.lines().iter().any(|line| line == "honest-to-the-host"));
    let heard = listener.lines();
    assert!(heard.contains(&arrived("honest-first")), "{heard:#?}");
    let sent: BTreeSet<String> = heard
        .iter()
        .filter_map(|line| line.strip_prefix(&format!("{its_own} ")))
        .filter(|name| !name.starts_with("honest"))
        .map(str::to_owned)
        .collect();
    assert_eq!(sent, names, "every trick was tried");
    let leaked: Vec<&String> = heard
        .iter()
        .filter(|line| !line.contains("honest") && !line.starts_with(&format!("{its_own} ")))
        .filter(|line| *line != "listening")
        .collect();
    assert!(leaked.iter().all(|line| is_for_the_router(line, &index_of("brhome:"))), "{leaked:#?}");
    let services = service.lines();
    assert_eq!(services, ["listening", "honest-to-the-host"]);
    the_daemon_is_out_of_reach(&docker, &namespace);
}

/// It listens on loopback; and its port is closed to containers at every address of the host's, while they reach others
/// there, as with Docker.
fn the_daemon_is_out_of_reach(docker: &Client, namespace: &Namespace) {
    let listen = |address: &str| {
        let listener =
            namespace.visit(|| std::net::TcpListener::bind(address)).expect("nobody else has the port");
        listener.set_nonblocking(true).expect("it is a socket");
        listener
    };
    let closed = ["10.91.0.1:2375", "[fd00:91::1]:2375"].map(listen);
    let open = listen("10.91.0.1:9001");
    for address in ["10.91.0.1", "fd00:91::1", "127.0.0.1", &namespace.ip().to_string()] {
        let words = ["exec", "evil", "nc", "-w", "1", address, "2375"];
        assert!(!docker.run_with_input(words, b"").stdout.contains("HTTP"), "{address}");
    }
    docker.run(["exec", "-d", "evil", "nc", "-w", "60", "10.91.0.1", "9001"]).exits_with(0);
    eventually("a service of the host's is reached", || open.accept().is_ok());
    for listener in &closed {
        let reached = listener.accept().map(|(_, from)| from);
        assert!(reached.is_err(), "{reached:?} reached {listener:?}");
    }
    namespace.get("127.0.0.1", 2375).prints("HTTP/1");
}

/// What is for the gateway's own MAC address reaches the host, whose rules drop it: on its way to another network, or to
/// the host's loopback address. It is heard by the bridge, and nowhere else.
fn is_for_the_router(line: &str, bridge: &str) -> bool {
    ["other-network", "loopback-service"].iter().any(|name| *line == format!("{bridge} {name}"))
}
