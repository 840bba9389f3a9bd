//! Unix sockets of the host's in containers: the daemon's own, as so many tools want it, and others.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::thread::JoinHandle;

use berth_tests::{Client, Host, Outcome, eventually};
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;
use serde_json::Value;

/// A daemon with the image whose program connects to sockets.
fn host() -> Option<Host> {
    if !geteuid().is_root() {
        eprintln!("skipped: sockets: sharing takes root's rights");
        return None;
    }
    let host = Host::empty()?;
    host.berth().run(["load", "--quiet", "--input", &host.image_archive("reaper")]).exits_with(0);
    Some(host)
}

fn exec(client: &Client, flags: &[&str], script: &str) -> Outcome {
    client.run([&["exec"], flags, &["box", "sh", "-c", script]].concat())
}

/// Asks something of an engine at that socket in the container.
fn ask(client: &Client, flags: &[&str], socket: &str, path: &str) -> Outcome {
    let script = format!("reaper ask {socket} {path}");
    exec(client, flags, &script)
}

/// Whoever connects there is heard to the end, and then told who that was and what was said.
fn listen(path: &Path) -> JoinHandle<()> {
    let listener = UnixListener::bind(path).expect("a new socket");
    fs::set_permissions(path, Permissions::from_mode(0o666)).expect("it is ours");
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.expect("it listens");
            let peer = socket_peercred(&client).expect("the kernel knows it");
            let mut said = String::new();
            client.read_to_string(&mut said).expect("text");
            let who = (peer.uid.as_raw(), peer.gid.as_raw());
            if said.trim() == "end" {
                return;
            }
            write!(client, "{} {} {}", who.0, who.1, said.len()).expect("it waits for that");
        }
    })
}

#[test]
fn the_daemons_socket_is_in_a_container_also_for_the_next_daemon() {
    let Some(mut host) = host() else { return };
    let berth = host.berth();
    let socket = host.path("berthd.sock");
    let [plain, read_only] =
        ["/var/run/docker.sock", "/ro.sock:ro"].map(|target| format!("{}:{target}", socket.display()));
    let run = ["run", "-d", "--name", "box", "-v", &plain, "-v", &read_only, "--read-only", "reaper"];
    berth.run([&run[..], &["sleep", "1000"]].concat()).exits_with(0);

    // It is a socket as the host's is, which root may use and others may not; read-only or not.
    let metadata = fs::metadata(&socket).unwrap();
    let expected = format!("socket {:o} {}", metadata.mode() & 0o7777, metadata.uid());
    exec(&berth, &[], "stat -c '%F %a %u' /var/run/docker.sock").prints_exactly(&expected);
    ask(&berth, &[], "/var/run/docker.sock", "/containers/box/json")
        .exits_with(0)
        .prints("\"Name\":\"/box\"");
    ask(&berth, &[], "/ro.sock", "/_ping").exits_with(0).prints("OK");
    let anybody = metadata.mode() & 0o006 == 0o006;
    if !anybody {
        ask(&berth, &["-u", "33"], "/var/run/docker.sock", "/_ping")
            .exits_with(1)
            .complains("Permission denied");
    }
    let shown = berth.run(["inspect", "--format", "{{json .Mounts}}", "box"]).exits_with(0).text();
    let shown: Value = serde_json::from_str(&shown).expect("it was asked for as JSON");
    assert_eq!((&shown[0]["Type"], &shown[0]["RW"]), (&"bind".into(), &false.into()), "{shown}");

    // What is connected breaks with its daemon, and what connects meanwhile waits for the next.
    let events = berth.spawn(["exec", "box", "reaper", "ask", "/ro.sock", "/events"]);
    eventually("the listener has come", || exec(&berth, &[], "pidof reaper").code == 0);
    host.kill_daemon();
    drop(events);
    host.start_daemon();
    eventually("the connection to the old daemon has ended", || exec(&berth, &[], "pidof reaper").code != 0);
    ask(&berth, &[], "/var/run/docker.sock", "/containers/box/json")
        .exits_with(0)
        .prints("\"Name\":\"/box\"");
}

#[test]
fn a_container_reaches_its_own_sockets_and_no_others() {
    let Some(host) = host() else { return };
    let berth = host.berth();
    let directory = host.path("shared");
    fs::create_dir(&directory).unwrap();
    let at = |name: &str| directory.join(name);
    let listening = listen(&at("talk.sock"));
    let bind = |name: &str, target: &str| format!("{}:{target}", at(name).display());
    let (socket, whole) = (bind("talk.sock", "/talk.sock"), bind("", "/shared"));
    let run = ["run", "-d", "--name", "box", "-v", &socket, "-v", &whole, "reaper", "sleep", "1000"];
    berth.run(run).exits_with(0);

    // Both halves: the answer comes after all was said. Who connects is who it is in the container.
    let talk = "seq 1 100000 | reaper connect /talk.sock";
    exec(&berth, &[], talk).exits_with(0).prints_exactly("0 0 588895");
    exec(&berth, &["-u", "33:34"], "echo hi | reaper connect /talk.sock").prints_exactly("33 34 3");
    let many = "for i in $(seq 20); do echo \"said $(seq 10 | reaper connect /talk.sock)\" & done; wait";
    let told = exec(&berth, &[], many).exits_with(0).text();
    assert!(told.lines().all(|line| line == "said 0 0 21") && told.lines().count() == 20, "{told}");

    // In a directory that is shared it is a file, and nobody listens behind it: also not in another's machine.
    exec(&berth, &[], "reaper connect /shared/talk.sock < /dev/null").exits_with(1).complains("refused");
    let lodger = ["run", "--rm", "--network", "container:box", "reaper", "reaper", "connect", "/talk.sock"];
    berth.run(lodger).exits_with(1).complains("No such file");
    // But it may have sockets of its own.
    let own = ["run", "--rm", "--network", "container:box", "-v", &socket, "-i", "reaper", "reaper"];
    berth.run_with_input([&own[..], &["connect", "/talk.sock"]].concat(), b"me").prints_exactly("0 0 2");

    // What the container puts in its place leads nowhere else.
    let (engine, place) = (host.path("berthd.sock"), "/shared/talk.sock");
    exec(&berth, &[], &format!("ln -sf {} {place}", engine.display())).exits_with(0);
    let refused = ask(&berth, &[], "/talk.sock", "/_ping");
    assert_eq!(refused.stdout, "", "{refused:?}");
    fs::remove_file(at("talk.sock")).unwrap();
    // A service that starts again is found again.
    let again = listen(&at("talk.sock"));
    exec(&berth, &[], "echo hi | reaper connect /talk.sock").prints_exactly("0 0 3");
    exec(&berth, &[], "echo end | reaper connect /talk.sock").exits_with(0);
    again.join().unwrap();
    drop(listening);
}

#[test]
fn what_is_no_stream_is_refused_by_name() {
    let Some(host) = host() else { return };
    let path = host.path("datagrams.sock");
    let _socket = UnixDatagram::bind(&path).unwrap();
    let link = host.path("link.sock");
    symlink(&path, &link).unwrap();
    let bound = format!("{}:/x.sock", link.display());
    for client in host.clients() {
        let refused = client.run(["run", "--rm", "-v", &bound, "reaper", "true"]).exits_with(125);
        refused.complains("it is a unix socket for datagrams");
    }
}
