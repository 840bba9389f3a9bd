//! Accepts connections and speaks HTTP/1.1 on them, until told to stop.

mod listener;
mod unread;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::listener::{Connection, Listener};
pub use self::listener::{ListenError, Listeners};
use self::unread::ReadOn;
use super::Api;

/// Each attached client, waiting client and open event stream holds one; a client beyond waits to be accepted.
const MAX_CONNECTIONS: usize = 1024;
/// Clients send a handful of headers; the buffer also bounds the request line.
const MAX_HEADERS: usize = 64;
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// From the first byte of a request to the end of its headers.
const HEADER_DEADLINE: Duration = Duration::from_secs(30);
/// Out of file descriptors: some come back as connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Requests that are answered when the daemon is told to stop get this long to end; attached streams do not end by
/// themselves and are cut.
const DRAIN_DEADLINE: Duration = Duration::from_secs(3);

impl Listeners {
    /// Serves until `stop`, then lets requests in flight end.
    pub async fn serve(self, api: Api, stop: CancellationToken) {
        let turns = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut accepting = JoinSet::new();
        for listener in self.into_listeners() {
            let accept = accept(listener, api.clone(), Arc::clone(&turns), stop.clone());
            accepting.spawn(accept);
        }
        while accepting.join_next().await.is_some() {}
    }
}

/// Takes connections until `stop`. The listener, and with it its socket file, goes when this ends.
async fn accept(listener: Listener, api: Api, turns: Arc<Semaphore>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    while let Some(accepted) = stop.run_until_cancelled(next(&listener, &turns)).await {
        match accepted {
            Ok((connection, turn)) => {
                let (api, stop) = (api.clone(), stop.clone());
                connections.spawn(async move {
                    let _turn = turn;
                    match connection {
                        Connection::Unix(stream) => serve_connection(stream, api, stop).await,
                        Connection::Tcp(stream) => serve_connection(stream, api, stop).await,
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        // A connection whose handler panicked ends alone; the panic was reported where it happened.
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_DEADLINE, drained).await.is_err() {
        tracing::info!("cutting connections that are still open");
    }
}

async fn next(
    listener: &Listener,
    turns: &Arc<Semaphore>,
) -> std::io::Result<(Connection, tokio::sync::OwnedSemaphorePermit)> {
    let turn = Arc::clone(turns).acquire_owned().await.map_err(std::io::Error::other)?;
    Ok((listener.accept().await?, turn))
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    api: Api,
    stop: CancellationToken,
) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let api = api.clone();
        async move {
            Ok::<_, std::convert::Infallible>(
                answer(&api, request.map(|body| Body::new(ReadOn::new(body)))).await,
            )
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        // HTTP does not care; people who read a trace, and careless clients, do.
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn answer(api: &Api, request: Request) -> axum::response::Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = api.answer(request).await;
    tracing::debug!(%method, path, status = response.status().as_u16(), "answered");
    response
}

#[cfg(test)]
mod tests;
