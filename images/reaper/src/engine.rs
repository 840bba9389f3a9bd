//! What of the Docker Engine API it takes to remove what has a label.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

const SOCKET: &str = "/var/run/docker.sock";

/// Containers first: networks and volumes in use cannot go.
pub(crate) fn remove_all(label: &str) -> io::Result<()> {
    let filters = encode(&format!("{{\"label\":[\"{label}\"]}}"));
    let ask = |method, path: &str| ask(SOCKET, method, path);
    for id in ids(&ask("GET", &format!("/containers/json?all=1&filters={filters}"))?) {
        ask("DELETE", &format!("/containers/{id}?force=1&v=1"))?;
        println!("removed container {id}");
    }
    ask("POST", &format!("/networks/prune?filters={filters}"))?;
    let all = encode(&format!("{{\"label\":[\"{label}\"],\"all\":[\"1\"]}}"));
    ask("POST", &format!("/volumes/prune?filters={all}"))?;
    Ok(())
}

/// The body of an answer, which ends with its connection (RFC 1945).
pub(crate) fn ask(socket: &str, method: &str, path: &str) -> io::Result<String> {
    let mut engine = UnixStream::connect(socket)?;
    write!(engine, "{method} {path} HTTP/1.0\r\nHost: engine\r\nContent-Length: 0\r\n\r\n")?;
    let mut answer = String::new();
    engine.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some(code) if code.starts_with('2') => Ok(body.to_owned()),
        _ => Err(io::Error::other(format!("{method} {path}: {head}: {body}"))),
    }
}

/// The values of all fields "Id" that can be a container's: that is all the JSON there is to read.
fn ids(body: &str) -> Vec<&str> {
    let values = body.split("\"Id\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    values.filter(|id| id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).collect()
}

/// As a part of a query (RFC 3986, section 2.1).
fn encode(text: &str) -> String {
    let letter = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(letter).collect()
}
