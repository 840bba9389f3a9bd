//! The bench's own client: HTTP/1.1 on one connection that stays open, so that a daemon's time is all that is measured.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

/// A daemon on a loaded host that boots a machine is far quicker.
const REPLY_DEADLINE: Duration = Duration::from_secs(120);
/// Read at once of a body or a stream.
const READ_BYTES: usize = 64 * 1024;

/// A stream that was an HTTP connection.
pub(super) type Stream = BufReader<UnixStream>;

/// One connection to a daemon.
pub(super) struct Connection {
    stream: Stream,
}

#[derive(Debug)]
struct Head {
    status: u16,
    length: BodyLength,
}

/// RFC 9112, 6.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyLength {
    Bytes(u64),
    Chunked,
}

impl Connection {
    pub(super) fn open(socket: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(socket)
            .and_then(|stream| stream.set_read_timeout(Some(REPLY_DEADLINE)).map(|()| stream))
            .with_context(|| format!("cannot connect to {}", socket.display()))?;
        Ok(Self { stream: BufReader::with_capacity(READ_BYTES, stream) })
    }

    /// The reply's body, as JSON; `Null` if there is none.
    ///
    /// # Errors
    /// A status of 400 or more, with what the daemon said.
    pub(super) fn ask(&mut self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let mut text = Vec::new();
        self.exchange(method, path, body, &mut |piece| text.extend_from_slice(piece))?;
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&text).with_context(|| format!("{method} {path}: the reply is no JSON"))
    }

    /// The reply's body, of whatever kind: how many bytes it has.
    ///
    /// # Errors
    /// A status of 400 or more, with what the daemon said.
    pub(super) fn count(&mut self, method: &str, path: &str) -> anyhow::Result<usize> {
        let mut bytes = 0;
        self.exchange(method, path, None, &mut |piece| bytes += piece.len())?;
        Ok(bytes)
    }

    /// Reads the reply's body until these bytes were in it; nothing more can be asked on this connection.
    ///
    /// # Errors
    /// The body ends without them.
    pub(super) fn until(mut self, path: &str, awaited: &[u8]) -> anyhow::Result<()> {
        let mut text = Vec::new();
        self.send("GET", path, None, "")?;
        let head = self.head().with_context(|| format!("GET {path}"))?;
        while head.status < 400 && !text.windows(awaited.len()).any(|window| window == awaited) {
            let piece = self.stream.fill_buf()?;
            let count = piece.len();
            if count == 0 {
                break;
            }
            text.extend_from_slice(piece);
            self.stream.consume(count);
        }
        if !text.windows(awaited.len()).any(|window| window == awaited) {
            let awaited = String::from_utf8_lossy(awaited);
            bail!("GET {path}: {awaited} never came: {}", String::from_utf8_lossy(&text));
        }
        Ok(())
    }

    /// What is left of the connection once the daemon has handed it over, as for attaching.
    ///
    /// # Errors
    /// The daemon does not.
    pub(super) fn take_over(mut self, path: &str, body: Option<&Value>) -> anyhow::Result<Stream> {
        self.send("POST", path, body, "Connection: Upgrade\r\nUpgrade: tcp\r\n")?;
        let head = self.head().with_context(|| format!("POST {path}"))?;
        match head.status {
            101 => Ok(self.stream),
            status => bail!("POST {path}: {status} instead of a connection"),
        }
    }

    fn exchange(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        take: &mut dyn FnMut(&[u8]),
    ) -> anyhow::Result<()> {
        self.send(method, path, body, "")?;
        let head = self.head().with_context(|| format!("{method} {path}"))?;
        if head.status >= 400 {
            let mut said = Vec::new();
            self.body(head.length, &mut |piece| said.extend_from_slice(piece))?;
            bail!("{method} {path}: {}: {}", head.status, String::from_utf8_lossy(&said).trim());
        }
        self.body(head.length, take).with_context(|| format!("{method} {path}"))
    }

    fn send(&mut self, method: &str, path: &str, body: Option<&Value>, headers: &str) -> anyhow::Result<()> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: docker\r\n{headers}Content-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let sent = self.stream.get_mut().write_all(request.as_bytes());
        sent.with_context(|| format!("{method} {path}: cannot send"))
    }

    fn head(&mut self) -> anyhow::Result<Head> {
        let status = self.line()?;
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status line")?;
        let mut length = BodyLength::Bytes(0);
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = BodyLength::Bytes(value.trim().parse()?),
                "transfer-encoding" => length = BodyLength::Chunked,
                _other => {}
            }
        }
        Ok(Head { status, length })
    }

    fn body(&mut self, length: BodyLength, take: &mut dyn FnMut(&[u8])) -> anyhow::Result<()> {
        match length {
            BodyLength::Bytes(length) => self.take(length, take),
            BodyLength::Chunked => loop {
                let size = self.line()?;
                let length = u64::from_str_radix(&size, 16).with_context(|| format!("no chunk: {size:?}"))?;
                self.take(length, take)?;
                self.line()?;
                if length == 0 {
                    return Ok(());
                }
            },
        }
    }

    fn take(&mut self, mut left: u64, take: &mut dyn FnMut(&[u8])) -> anyhow::Result<()> {
        while left > 0 {
            let piece = self.stream.fill_buf()?;
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            if count == 0 {
                bail!("the reply ends early");
            }
            take(&piece[..count]);
            self.stream.consume(count);
            left -= count as u64;
        }
        Ok(())
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("the daemon closed the connection");
        }
        Ok(line.trim_end().to_owned())
    }
}

/// Reads a process's output, as it comes in frames, until its end or until `enough` bytes came; how many came.
pub(super) fn payload_bytes(stream: &mut Stream, enough: u64) -> anyhow::Result<u64> {
    let mut total = 0;
    let mut header = [0; 8];
    while total < enough {
        match stream.read_exact(&mut header) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
            read => read.context("cannot read the output")?,
        }
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let copied = std::io::copy(&mut stream.take(length.into()), &mut std::io::sink())?;
        total += copied;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(reply: &str) -> (Connection, UnixStream) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(reply.as_bytes()).unwrap();
        (Connection { stream: BufReader::new(ours) }, theirs)
    }

    #[test]
    fn replies_follow_each_other_on_one_connection() {
        let (mut client, _daemon) = connection(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{\"a\"\r\n3\r\n:1}\r\n0\r\n\r\n\
             HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        );
        assert_eq!(client.ask("GET", "/x", None).unwrap(), serde_json::json!({ "a": 1 }));
        assert_eq!(client.ask("POST", "/x", None).unwrap(), Value::Null);
        assert_eq!(client.count("GET", "/x").unwrap(), 2);
    }

    #[test]
    fn what_a_daemon_refuses_is_told() {
        let (mut client, _daemon) =
            connection("HTTP/1.1 404 Not Found\r\nContent-Length: 8\r\n\r\nno such\n");
        let error = client.ask("GET", "/x", None).unwrap_err().to_string();
        assert_eq!(error, "GET /x: 404: no such");
    }

    #[test]
    fn frames_are_counted_by_what_they_carry() {
        let (Connection { mut stream }, daemon) = connection("\x01\0\0\0\0\0\0\x02hi\x01\0\0\0\0\0\0\x01!");
        drop(daemon);
        assert_eq!(payload_bytes(&mut stream, u64::MAX).unwrap(), 3);
    }
}
