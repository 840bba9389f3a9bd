//! A small HTTP server, for servers whose answers a test wants to decide byte by byte.
//!
//! One request a connection, a thread each. It knows of HTTP what registries and their clients need, and does not
//! guard itself against anybody: only a test talks to it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What a client asks.
#[derive(Debug)]
pub struct Request {
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Of the query, and of a form's body.
    pub parameters: Vec<(String, String)>,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// The way back to a client.
#[derive(Debug)]
pub struct Answer {
    pub stream: TcpStream,
    server_ends: Arc<AtomicBool>,
}

/// Serves until it is dropped.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    ends: Arc<AtomicBool>,
}

impl HttpServer {
    /// Listens on loopback.
    ///
    /// # Panics
    /// If it cannot.
    pub fn start(handler: impl Fn(&Request, &mut Answer) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener.local_addr().expect("a listener has an address");
        let ends = Arc::new(AtomicBool::new(false));
        let (server_ends, handler) = (Arc::clone(&ends), Arc::new(handler));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if server_ends.load(Ordering::Relaxed) {
                    break;
                }
                let handler = Arc::clone(&handler);
                let mut answer = Answer { stream, server_ends: Arc::clone(&server_ends) };
                std::thread::spawn(move || {
                    if let Some(request) = read_request(&answer.stream) {
                        handler(&request, &mut answer);
                    }
                });
            }
        });
        Self { address, ends }
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        // Wakes the listener, which then sees that it ends.
        let _woken = TcpStream::connect(self.address);
    }
}

impl Request {
    /// The values of a parameter, of the query or of a form.
    pub fn parameters<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.parameters.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Answer {
    /// Sends a whole answer. What a client does not stay to hear is its own affair.
    pub fn send(&mut self, status: u16, headers: &[(&str, &str)], body: &[u8]) {
        self.send_head(status, headers, body.len() as u64);
        let _gone = self.stream.write_all(body);
    }

    /// Sends all but the body, of which it promises this length.
    pub fn send_head(&mut self, status: u16, headers: &[(&str, &str)], length_bytes: u64) {
        let mut head =
            format!("HTTP/1.1 {status} So\r\nConnection: close\r\nContent-Length: {length_bytes}\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        let _gone = self.stream.write_all(head.as_bytes());
    }

    /// Says nothing more until the server ends.
    pub fn stall(&self) {
        while !self.server_ends.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut pairs = decode_pairs(query);
    if headers.get("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded")) {
        pairs.extend(decode_pairs(&String::from_utf8_lossy(&body)));
    }
    Some(Request { method, path: path.to_owned(), parameters: pairs, headers, body })
}

fn decode_pairs(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(k, v)| (decoded(k), decoded(v)))
        .collect()
}

/// RFC 3986, section 2.1, and `+` as forms have it.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = (*first == b'%').then(|| after.get(..2)).flatten();
        let escaped =
            escaped.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match (escaped, first) {
            (Some(byte), _) => {
                bytes.push(byte);
                rest = &after[2..];
                continue;
            }
            (None, b'+') => bytes.push(b' '),
            (None, byte) => bytes.push(*byte),
        }
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let pairs = decode_pairs("scope=repository%3Aa%2Fb:pull&x&y=a+b%");
        let expected = [("scope", "repository:a/b:pull"), ("x", ""), ("y", "a b%")];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn an_answer_is_what_the_handler_says() {
        let server = HttpServer::start(|request, answer| {
            answer.send(200, &[("X-Method", &request.method)], request.path.as_bytes());
        });
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(b"GET /some/where?x=y HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert!(said.contains("X-Method: GET") && said.ends_with("\r\n\r\n/some/where"), "{said}");
    }
}
