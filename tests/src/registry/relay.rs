//! A bad line to a registry: a relay that is slow, or that breaks off, as a test wants it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// So much passes at once.
const PIECE_BYTES: usize = 16 << 10;

/// Passes on every connection until it is dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    line: Arc<Line>,
}

/// What all connections have in common.
#[derive(Debug)]
struct Line {
    target: String,
    ends: AtomicBool,
    /// Zero: as fast as it goes.
    bytes_per_second: AtomicU64,
    /// So many bytes still come from the registry until the connection that they come through is cut.
    until_cut_bytes: AtomicI64,
    cuts_left: AtomicI64,
    every_bytes: AtomicI64,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
}

impl Relay {
    /// Leads to a server at `HOST:PORT`.
    ///
    /// # Panics
    /// If loopback has no port left.
    #[must_use]
    pub fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener.local_addr().expect("a listener has an address");
        let line = Arc::new(Line {
            target: target.to_owned(),
            ends: AtomicBool::new(false),
            bytes_per_second: AtomicU64::new(0),
            until_cut_bytes: AtomicI64::new(0),
            cuts_left: AtomicI64::new(0),
            every_bytes: AtomicI64::new(0),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
        });
        let shared = Arc::clone(&line);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.ends.load(Ordering::Relaxed) {
                    break;
                }
                shared.connect(client);
            }
        });
        Self { address, line }
    }

    /// `HOST:PORT` of the relay.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The name of an image behind it.
    #[must_use]
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// From now on no connection is faster, in either direction; zero takes the limit away.
    pub fn limit(&self, bytes_per_second: u64) {
        self.line.bytes_per_second.store(bytes_per_second, Ordering::Relaxed);
    }

    /// Cuts the connection in use after so many bytes from the registry, and so again, this many times.
    pub fn cut(&self, every_bytes: u32, times: u32) {
        self.line.every_bytes.store(every_bytes.into(), Ordering::Relaxed);
        self.line.until_cut_bytes.store(every_bytes.into(), Ordering::Relaxed);
        self.line.cuts_left.store(times.into(), Ordering::Relaxed);
    }

    /// How many of the cuts are still to come.
    #[must_use]
    pub fn cuts_left(&self) -> i64 {
        self.line.cuts_left.load(Ordering::Relaxed).max(0)
    }

    /// What came from the registry so far.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.line.received_bytes.load(Ordering::Relaxed)
    }

    /// What went to the registry so far.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.line.sent_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.line.ends.store(true, Ordering::Relaxed);
        // Wakes the listener, which then sees that it ends.
        let _woken = TcpStream::connect(self.address);
    }
}

impl Line {
    fn connect(self: &Arc<Self>, client: TcpStream) {
        let Ok(server) = TcpStream::connect(&self.target) else { return };
        let (Ok(from_client), Ok(to_server)) = (client.try_clone(), server.try_clone()) else { return };
        let (up, down) = (Arc::clone(self), Arc::clone(self));
        std::thread::spawn(move || up.pass(from_client, to_server, Self::may_send));
        std::thread::spawn(move || down.pass(server, client, Self::may_receive));
    }

    /// Until either side ends, or a piece may not pass.
    fn pass(&self, mut from: TcpStream, mut to: TcpStream, may_pass: fn(&Self, usize) -> bool) {
        let mut piece = vec![0; PIECE_BYTES];
        while let Ok(length @ 1..) = from.read(&mut piece) {
            if self.ends.load(Ordering::Relaxed)
                || !may_pass(self, length)
                || to.write_all(&piece[..length]).is_err()
            {
                // Both directions: a cut line is cut for both. Who is gone already needs no cut.
                let _gone = from.shutdown(Shutdown::Both);
                let _gone = to.shutdown(Shutdown::Both);
                return;
            }
            if let bytes_per_second @ 1.. = self.bytes_per_second.load(Ordering::Relaxed) {
                let pause_us = length as u64 * 1_000_000 / bytes_per_second;
                std::thread::sleep(Duration::from_micros(pause_us));
            }
        }
        let _gone = to.shutdown(Shutdown::Write);
    }

    fn may_send(&self, bytes: usize) -> bool {
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        true
    }

    fn may_receive(&self, bytes: usize) -> bool {
        self.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if self.cuts_left.load(Ordering::Relaxed) <= 0 {
            return true;
        }
        let bytes = i64::try_from(bytes).expect("a piece is small");
        if self.until_cut_bytes.fetch_sub(bytes, Ordering::Relaxed) > bytes {
            return true;
        }
        self.until_cut_bytes.store(self.every_bytes.load(Ordering::Relaxed), Ordering::Relaxed);
        self.cuts_left.fetch_sub(1, Ordering::Relaxed) <= 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_server::HttpServer;

    fn ask(address: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut said = Vec::new();
        // A cut is an error, and what came before it counts.
        let _cut = stream.read_to_end(&mut said);
        said
    }

    #[test]
    fn a_line_passes_everything_and_breaks_as_often_as_told() {
        let server = HttpServer::start(|_, answer| answer.send(200, &[], &[7; 300_000]));
        let relay = Relay::to(&server.address().to_string());
        assert!(ask(&relay.address()).len() > 300_000);
        relay.cut(100_000, 2);
        for _ in 0..2 {
            assert!(ask(&relay.address()).len() < 150_000);
        }
        assert_eq!(relay.cuts_left(), 0);
        assert!(ask(&relay.address()).len() > 300_000);
    }
}
