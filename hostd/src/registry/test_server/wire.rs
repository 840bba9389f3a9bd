//! What stands between a client and a registry in tests: a proxy, and a line that breaks.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// A proxy that leads every tunnel to the same place and remembers where it should have led.
pub(crate) struct Proxy {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<String>>>,
    _task: AbortOnDropHandle<()>,
}

/// Passes everything on to a registry, except that the first connections break after some bytes from the client.
pub(crate) struct BreakingLine {
    pub(crate) host: String,
    breaks_left: Arc<Mutex<usize>>,
    _task: AbortOnDropHandle<()>,
}

impl Proxy {
    pub(crate) async fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (heard, target) = (Arc::clone(&asked), target.to_owned());
        let task = tokio::spawn(async move {
            let mut tunnels = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (heard, target) = (Arc::clone(&heard), target.clone());
                tunnels.spawn(async move { tunnel(stream, &heard, &target).await });
            }
        });
        Self { url, asked, _task: AbortOnDropHandle::new(task) }
    }

    /// The first lines of all requests.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Anything but a tunnel is refused.
async fn tunnel(mut stream: TcpStream, heard: &Mutex<Vec<String>>, target: &str) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    let is_tunnel = line.starts_with("CONNECT ");
    heard.lock().unwrap().push(line);
    if !is_tunnel {
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await.ok();
        return;
    }
    let Ok(mut onward) = TcpStream::connect(target).await else { return };
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok();
    copy_bidirectional(&mut stream, &mut onward).await.ok();
}

impl BreakingLine {
    /// Connections on which the client sends more than `break_after_bytes` break there, as often as `breaks` says.
    pub(crate) async fn to(target: &str, break_after_bytes: usize, breaks: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let target = target.to_owned();
        let breaks_left = Arc::new(Mutex::new(breaks));
        let counted = Arc::clone(&breaks_left);
        let task = tokio::spawn(async move {
            let mut lines = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (target, breaks_left) = (target.clone(), Arc::clone(&counted));
                lines.spawn(async move { pass(stream, &target, break_after_bytes, &breaks_left).await });
            }
        });
        Self { host, breaks_left, _task: AbortOnDropHandle::new(task) }
    }

    /// How many of the breaks have not happened.
    pub(crate) fn breaks_left(&self) -> usize {
        *self.breaks_left.lock().unwrap()
    }
}

async fn pass(stream: TcpStream, target: &str, break_after_bytes: usize, breaks_left: &Mutex<usize>) {
    let Ok(onward) = TcpStream::connect(target).await else { return };
    let (mut from_client, mut to_client) = stream.into_split();
    let (mut from_server, mut to_server) = onward.into_split();
    let forth = async {
        let (mut buffer, mut passed) = (vec![0; 64 << 10], 0);
        while let Ok(count) = from_client.read(&mut buffer).await {
            passed += count;
            if count == 0 || to_server.write_all(&buffer[..count]).await.is_err() {
                return;
            }
            let mut left = breaks_left.lock().unwrap();
            if passed > break_after_bytes && *left > 0 {
                *left -= 1;
                return;
            }
        }
    };
    let back = async {
        tokio::io::copy(&mut from_server, &mut to_client).await.ok();
    };
    tokio::select! {
        () = forth => {}
        () = back => {}
    }
}
