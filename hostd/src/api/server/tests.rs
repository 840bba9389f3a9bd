//! Clients whose HTTP is broken, slow or unusual, over a connection of their own.

use std::io::{self, ErrorKind};

use axum::body::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::api::tests::TestDaemon;

/// Beyond what any of these tests waits for.
const PATIENCE: Duration = Duration::from_secs(120);

struct Connected {
    client: UnixStream,
    served: JoinHandle<()>,
}

fn connect(daemon: &TestDaemon) -> Connected {
    let (client, server) = UnixStream::pair().unwrap();
    let served = tokio::spawn(serve_connection(server, daemon.api.clone(), CancellationToken::new()));
    Connected { client, served }
}

/// Everything that comes back to `request`, until the server ends the connection.
async fn exchange(daemon: &TestDaemon, request: &[u8]) -> String {
    let Connected { mut client, served } = connect(daemon);
    // A server that has read enough closes while there is more: to the client, a reset after the answer.
    let is_reset =
        |error: &io::Error| matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
    let mut answer = Vec::new();
    let exchanged = async {
        client.write_all(request).await?;
        client.read_to_end(&mut answer).await
    };
    let exchanged = timeout(PATIENCE, exchanged).await.expect("the connection ends");
    assert!(exchanged.as_ref().map_or_else(is_reset, |_| true), "{exchanged:?}");
    if answer.is_empty() {
        client.read_to_end(&mut answer).await.unwrap_or_default();
    }
    served.await.expect("no request makes the server panic");
    String::from_utf8(answer).unwrap()
}

fn status(answer: &str) -> &str {
    answer.split_once(' ').map_or("", |(_, rest)| rest.get(..3).unwrap_or_default())
}

#[tokio::test]
async fn old_and_impatient_clients_are_answered() {
    let daemon = TestDaemon::start().await;
    let old = exchange(&daemon, b"GET /_ping HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200 OK\r\n") && old.ends_with("\r\n\r\nOK"), "{old}");
    let (ping, last) = ("GET /_ping HTTP/1.1\r\nHost: x\r\n", "Connection: close\r\n\r\n");
    let three = exchange(&daemon, format!("{ping}\r\n{ping}\r\n{ping}{last}").as_bytes()).await;
    assert_eq!(three.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{three}");
    let with_body = "POST /containers/x/wait HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
    let both = exchange(&daemon, format!("{with_body}{ping}{last}").as_bytes()).await;
    assert!(
        both.starts_with("HTTP/1.1 404") && both.ends_with("OK"),
        "a body nobody reads is skipped: {both}"
    );
}

#[tokio::test]
async fn a_client_that_is_refused_while_it_sends_is_read_on() {
    let daemon = TestDaemon::start().await;
    let Connected { mut client, served } = connect(&daemon);
    let body = vec![b'x'; 100_000];
    let head = format!(
        "PUT /containers/nosuch/archive?path=/ HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let length = client.read(&mut answer).await.unwrap();
    assert_eq!(status(str::from_utf8(&answer[..length]).unwrap()), "404");
    client.write_all(&body).await.unwrap();
    client.write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut rest = String::new();
    timeout(PATIENCE, client.read_to_string(&mut rest)).await.expect("the connection ends").unwrap();
    assert!(rest.ends_with("\r\n\r\nOK"), "{rest}");
    served.await.unwrap();
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_the_connection_ends() {
    let daemon = TestDaemon::start().await;
    let many = (0..MAX_HEADERS + 1).map(|n| format!("X-{n}: y\r\n")).collect::<String>();
    // The buffer grows by doubling.
    let long = "y".repeat(2 * MAX_HEAD_BYTES);
    for (request, expected) in [
        ("nonsense\r\n\r\n".to_owned(), "400"),
        ("GET /_ping\r\n\r\n".to_owned(), "400"),
        ("GET / HTTP/9.9\r\n\r\n".to_owned(), "400"),
        ("GET /\u{1}ping HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "400"),
        ("GET /_ping HTTP/1.1\r\nHost x\r\n\r\n".to_owned(), "400"),
        ("POST /auth HTTP/1.1\r\nContent-Length: -1\r\n\r\n".to_owned(), "400"),
        ("POST /auth HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{".to_owned(), "400"),
        (format!("GET /_ping HTTP/1.1\r\n{many}\r\n"), "431"),
        (format!("GET /_ping HTTP/1.1\r\nX: {long}\r\n\r\n"), "431"),
        (format!("GET /{long} HTTP/1.1\r\n\r\n"), "431"),
        // A client that begins with TLS.
        ("\u{16}\u{3}\u{1}\u{2}\u{0}\r\n".to_owned(), "400"),
    ] {
        let answer = exchange(&daemon, request.as_bytes()).await;
        assert_eq!(status(&answer), expected, "{request:.60} {answer}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_or_is_no_chunk_is_refused() {
    let daemon = TestDaemon::start().await;
    let head = "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    for rest in [
        "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n2\r\n{}xx",
        "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}",
    ] {
        let answer = exchange(&daemon, format!("{head}{rest}").as_bytes()).await;
        assert_eq!(status(&answer), "400", "{rest} {answer}");
        assert!(answer.contains("{\"message\":\"cannot read the request body: "), "{answer}");
    }
    // Nobody is left to be answered.
    for rest in ["Content-Length: 100\r\n\r\n{\"Image\":", "Transfer-Encoding: chunked\r\n\r\n5\r\n{}"] {
        let Connected { mut client, served } = connect(&daemon);
        client.write_all(format!("{head}{rest}").as_bytes()).await.unwrap();
        drop(client);
        timeout(PATIENCE, served).await.unwrap().unwrap();
    }
    assert_eq!(daemon.get("/containers/json?all=1").await.1, serde_json::json!([]));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_dawdles_is_cut() {
    let daemon = TestDaemon::start().await;
    let (mut client, server) = tokio::io::duplex(1 << 10);
    let served = tokio::spawn(serve_connection(server, daemon.api.clone(), CancellationToken::new()));
    let dawdling = async {
        // A byte every ten seconds is not enough.
        for byte in b"GET /_ping HTTP/1.1\r\nHost: x\r\n" {
            if client.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(HEADER_DEADLINE / 3).await;
        }
        panic!("the whole request was waited for");
    };
    timeout(PATIENCE, dawdling).await.unwrap();
    timeout(PATIENCE, served).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_follows_an_upgrade_at_once_is_the_streams() {
    let daemon = crate::api::images::tests::with_images(&[("one", 2001, b"1")]).await;
    let body = serde_json::json!({ "Image": "one", "OpenStdin": true });
    daemon.ask(axum::http::Method::POST, "/containers/create?name=web", Some(body)).await;
    let Connected { mut client, served } = connect(&daemon);
    let head = "POST /containers/web/attach?stream=1&stdin=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    client.write_all(format!("{head}early").as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 101");
    let mut stdin = daemon.engine.stdin_of("web").unwrap();
    assert_eq!(stdin.recv().await, Some(crate::engine::Input::Bytes(Bytes::from_static(b"early"))));
    drop(client);
    timeout(PATIENCE, served).await.unwrap().unwrap();
}
