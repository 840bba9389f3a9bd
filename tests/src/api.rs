//! Somebody who speaks to the daemon's socket without a client: one connection a request, and what a careless or a
//! hurried program does with it. It knows of HTTP what the daemon says, and no more.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde_json::Value;

use crate::patience::DEADLINE;

/// The daemon's API, as a socket.
#[derive(Clone, Debug)]
pub struct Api {
    pub(crate) socket: PathBuf,
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The request, for messages.
    pub asked: String,
    pub status: u16,
    pub body: String,
}

/// An answer whose body is still to come. Dropped, the client has gone.
#[derive(Debug)]
pub struct Opened {
    pub status: u16,
    is_chunked: bool,
    connection: BufReader<UnixStream>,
}

impl Api {
    /// Asks without a body and takes the whole answer.
    ///
    /// # Panics
    /// If the daemon does not answer in HTTP.
    #[track_caller]
    #[must_use]
    pub fn ask(&self, method: &str, path: &str) -> Reply {
        self.try_ask(method, path, None)
            .unwrap_or_else(|error| panic!("{method} {path}: the daemon does not answer: {error}"))
    }

    /// Asks with a body and takes the whole answer.
    ///
    /// # Panics
    /// As [`Api::ask`].
    #[track_caller]
    #[must_use]
    pub fn send(&self, method: &str, path: &str, body: &Value) -> Reply {
        self.try_ask(method, path, Some(body))
            .unwrap_or_else(|error| panic!("{method} {path}: the daemon does not answer: {error}"))
    }

    /// As [`Api::ask`] and [`Api::send`], for a daemon that may be killed meanwhile.
    ///
    /// # Errors
    /// No daemon, or one that ended before its answer did.
    pub fn try_ask(&self, method: &str, path: &str, body: Option<&Value>) -> std::io::Result<Reply> {
        let mut opened = self.begin(method, path, body, "Connection: close\r\n")?;
        let mut body = Vec::new();
        opened.connection.read_to_end(&mut body)?;
        if opened.is_chunked {
            body = joined(&body).ok_or(std::io::ErrorKind::UnexpectedEof)?;
        }
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Reply { asked: format!("{method} {path}"), status: opened.status, body })
    }

    /// Asks, and leaves the answer's body, or the raw connection, to be read or not.
    ///
    /// # Panics
    /// As [`Api::ask`].
    #[track_caller]
    #[must_use]
    pub fn open(&self, method: &str, path: &str, body: Option<&Value>) -> Opened {
        let upgrade = method == "POST" && (path.contains("/attach") || path.starts_with("/exec/"));
        let connection = if upgrade { "Connection: Upgrade\r\nUpgrade: tcp\r\n" } else { "" };
        self.begin(method, path, body, connection)
            .unwrap_or_else(|error| panic!("{method} {path}: the daemon does not answer: {error}"))
    }

    /// Asks for a WebSocket; what follows the answer's head are its frames.
    ///
    /// # Panics
    /// As [`Api::ask`].
    #[track_caller]
    #[must_use]
    pub fn websocket(&self, path: &str) -> Opened {
        // The key of the specification's example.
        let headers = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        self.begin("GET", path, None, headers)
            .unwrap_or_else(|error| panic!("GET {path}: the daemon does not answer: {error}"))
    }

    fn begin(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &str,
    ) -> std::io::Result<Opened> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: berth\r\nContent-Length: {length}\r\n");
        stream.write_all(format!("{head}{kind}{headers}\r\n{body}").as_bytes())?;
        read_head(BufReader::new(stream))
    }
}

fn read_head(mut connection: BufReader<UnixStream>) -> std::io::Result<Opened> {
    let (mut status, mut is_chunked) = (None, false);
    loop {
        let mut line = String::new();
        if connection.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        is_chunked |= line.eq_ignore_ascii_case("transfer-encoding: chunked");
        match status {
            None => status = Some(line.split(' ').nth(1).and_then(|code| code.parse().ok())),
            Some(status) if line.is_empty() => {
                let status = status.ok_or(std::io::ErrorKind::InvalidData)?;
                return Ok(Opened { status, is_chunked, connection });
            }
            Some(_) => {}
        }
    }
}

/// A chunked body in one piece; nothing if its end is missing.
fn joined(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let line_end = body.windows(2).position(|pair| pair == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&body[..line_end]).ok()?, 16).ok()?;
        body = &body[line_end + 2..];
        if length == 0 {
            return Some(whole);
        }
        whole.extend_from_slice(body.get(..length)?);
        body = body.get(length + 2..)?;
    }
}

impl Reply {
    /// # Panics
    /// If the status is another.
    #[track_caller]
    #[must_use]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// # Panics
    /// If the body is no JSON.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The text of a refusal.
    ///
    /// # Panics
    /// If it has none.
    #[track_caller]
    #[must_use]
    pub fn message(&self) -> String {
        let json = self.json();
        json["message"].as_str().unwrap_or_else(|| panic!("no message in {self:?}")).to_owned()
    }
}

impl Opened {
    /// Up to that many bytes, headers of frames and chunks included.
    ///
    /// # Panics
    /// If the connection breaks.
    pub fn some_bytes(&mut self, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; most];
        let count = self.connection.read(&mut bytes).expect("the daemon keeps its connection");
        bytes.truncate(count);
        bytes
    }

    /// Everything up to the end.
    ///
    /// # Panics
    /// If the connection breaks before.
    #[must_use]
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if !self.is_chunked {
            self.connection.read_to_end(&mut bytes).expect("the daemon keeps its connection");
            return bytes;
        }
        while let Some(chunk) = self.chunk() {
            bytes.extend(chunk);
        }
        bytes
    }

    /// The next piece of a chunked body; `None` at its end.
    fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut length = String::new();
        self.connection.read_line(&mut length).expect("the daemon keeps its connection");
        let length = usize::from_str_radix(length.trim(), 16).expect("a chunk begins with its length");
        // With the end of its line.
        let mut chunk = vec![0; length + 2];
        self.connection.read_exact(&mut chunk).expect("the daemon keeps its connection");
        chunk.truncate(length);
        (length > 0).then_some(chunk)
    }

    /// # Panics
    /// If nobody reads it.
    pub fn says(&self, bytes: &[u8]) {
        self.connection.get_ref().write_all(bytes).expect("the daemon reads");
    }

    /// Sends no more, and reads on.
    ///
    /// # Panics
    /// If the connection is broken.
    pub fn half_closes(&self) {
        self.connection.get_ref().shutdown(Shutdown::Write).expect("the connection is open");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_and_half_a_body_is_none() {
        assert_eq!(joined(b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n").unwrap(), b"abc");
        assert_eq!(joined(b"2\r\nab\r\n"), None);
    }
}
