//! Clients on a terminal: what is typed and printed over a raw connection and over a WebSocket, and how they leave.

use berth_tests::{Api, Host, Opened, eventually};
use serde_json::{Value, json};

/// Ctrl-P Ctrl-Q.
const DETACH: &[u8] = b"\x10\x11";

/// Reads until `text` has come twice, as typed and as printed.
fn read_twice(connection: &mut Opened, text: &str) {
    read_twice_in(connection, text, <[u8]>::to_vec);
}

/// The same of a WebSocket, whose messages begin where they like: even within a line.
fn read_messages_twice(socket: &mut Opened, text: &str) {
    read_twice_in(socket, text, messages);
}

fn read_twice_in(connection: &mut Opened, text: &str, content: fn(&[u8]) -> Vec<u8>) {
    let mut seen = Vec::new();
    while String::from_utf8_lossy(&content(&seen)).matches(text).count() < 2 {
        let bytes = connection.some_bytes(4096);
        assert!(!bytes.is_empty(), "the connection ended after {seen:x?}, before {text:?}");
        seen.extend(bytes);
    }
}

/// What the text and binary frames carry, one behind the other; short frames of a server's (RFC 6455, section 5.2).
fn messages(mut frames: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    while let [first, length, rest @ ..] = frames {
        assert!(*length < 126, "a frame of {length} bytes is longer than what was printed");
        let Some((payload, next)) = rest.split_at_checked(usize::from(*length)) else { break };
        if matches!(first & 0x0f, 0..=2) {
            content.extend_from_slice(payload);
        }
        frames = next;
    }
    content
}

/// As a client sends it: in one frame with a mask of zeros.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("short");
    [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

fn events(api: &Api, action: &str) -> Vec<Value> {
    let filters = format!("%7B%22event%22%3A%5B%22{action}%22%5D%7D");
    let reply = api.ask("GET", &format!("/events?since=1&until=0s&filters={filters}")).is(200);
    reply.body.lines().map(|line| serde_json::from_str(line).expect("an event is JSON")).collect()
}

fn attach_and_detach(api: &Api, id: &str) {
    let mut raw = api.open("POST", &format!("/containers/{id}/attach?stream=1&stdin=1&stdout=1"), None);
    assert_eq!(raw.status, 101);
    let _started = api.ask("POST", &format!("/containers/{id}/start")).is(204);
    raw.says(b"first\n");
    read_twice(&mut raw, "first\r\n");
    assert_eq!(events(api, "detach").len(), 0);
    raw.says(DETACH);
    assert_eq!(raw.rest(), b"", "a client that detached is let go");
    assert_eq!(events(api, "detach")[0]["Actor"]["ID"], id);
}

fn attach_over_a_websocket(api: &Api, id: &str) {
    let path = format!("/containers/{id}/attach/ws?logs=1&stream=1&stdin=1&stdout=1");
    let mut socket = api.websocket(&path);
    assert_eq!(socket.status, 101);
    // What was printed before comes first.
    read_messages_twice(&mut socket, "first\r\n");
    socket.says(&masked(0x81, b"second\n"));
    read_messages_twice(&mut socket, "second\r\n");
    // Of a message in two frames, the second with a ping before it.
    socket.says(&masked(0x02, b"thi"));
    socket.says(&masked(0x89, b"?"));
    socket.says(&masked(0x80, b"rd\n"));
    read_messages_twice(&mut socket, "third\r\n");
    socket.says(&masked(0x88, &1000_u16.to_be_bytes()));
    let rest = socket.rest();
    assert!(rest.ends_with(&[0x88, 2, 0x03, 0xe8]), "{rest:x?} ends with a close");
    assert_eq!(events(api, "detach").len(), 1, "who closes has not detached");
}

fn exec_and_detach(api: &Api, id: &str) {
    let body = json!({
        "Cmd": ["cat"], "Tty": true, "AttachStdin": true, "AttachStdout": true, "DetachKeys": "ctrl-a",
    });
    let created = api.send("POST", &format!("/containers/{id}/exec"), &body).is(201).json();
    let exec = created["Id"].as_str().expect("an exec has an id");
    let mut raw = api.open("POST", &format!("/exec/{exec}/start"), Some(&json!({ "Tty": true })));
    assert_eq!(raw.status, 101);
    raw.says(b"fourth\n");
    read_twice(&mut raw, "fourth\r\n");
    let _resized = api.ask("POST", &format!("/exec/{exec}/resize?h=20&w=60")).is(200);
    raw.says(b"\x01");
    assert_eq!(raw.rest(), b"");
    assert_eq!(events(api, "exec_detach")[0]["Actor"]["Attributes"]["execID"], exec);
    let view = api.ask("GET", &format!("/exec/{exec}/json")).is(200).json();
    assert_eq!((&view["Running"], &view["DetachKeys"]), (&json!(true), &json!("AQ==")));
}

#[test]
fn who_is_attached_reads_types_and_leaves_as_agreed() {
    let Some(host) = Host::start() else { return };
    let api = host.api();
    let body = json!({ "Image": "busybox", "Cmd": ["cat"], "Tty": true, "OpenStdin": true });
    let created = api.send("POST", "/containers/create", &body).is(201).json();
    let id = created["Id"].as_str().expect("a container has an id");

    attach_and_detach(&api, id);
    attach_over_a_websocket(&api, id);
    exec_and_detach(&api, id);

    let _resized = api.ask("POST", &format!("/containers/{id}/resize?h=20&w=60")).is(200);
    let started = events(&api, "start");
    let timeline = started[0]["Actor"]["Attributes"]["berth.timeline"].as_str().unwrap_or_default();
    let phases: Vec<&str> = timeline.split(' ').filter_map(|part| Some(part.split_once('=')?.0)).collect();
    assert_eq!(phases, ["image", "machine", "kernel", "agent", "container"], "{timeline}");

    let _linked = api.ask("DELETE", &format!("/containers/{id}?link=1")).is(409);
    let _removed = api.ask("DELETE", &format!("/containers/{id}?force=1")).is(204);
    eventually("its machine has ended", || host.machine_processes().is_empty());
}
