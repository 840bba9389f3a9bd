//! A request that becomes a raw connection: attach and exec.
//!
//! Clients that say `Upgrade: tcp` get the connection itself. The others get the output as the response's body, and
//! what they send as the request's body is the input.

mod connection;

use std::io;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use hyper::ext::ReasonPhrase;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;
use tokio_util::task::AbortOnDropHandle;

pub(super) use self::connection::Connection;
use super::detach_keys::{DetachKeys, Typed};
use super::{RAW_STREAM, stdcopy};
use crate::engine::{Attachment, DetachNotice, Input, Output};

/// What is read from a client at once.
const INPUT_BYTES: usize = 32 * 1024;

/// Longer than a busy host takes to let a client read what has arrived.
const DOCKER_PY_PAUSE: Duration = Duration::from_millis(50);

/// Connects the client behind `request` with `attachment`, and says so in the response.
pub(in crate::api) fn connect(
    request: Request,
    attachment: Attachment,
    content_type: &'static str,
    keys: DetachKeys,
) -> Response {
    // Keys mean something only on a terminal; in a pipe they are data.
    let keys = attachment.terminal.then_some(keys);
    if request.headers().contains_key(header::UPGRADE) {
        upgrade(request, attachment, content_type, keys)
    } else {
        exchange_bodies(request.into_body(), attachment, keys)
    }
}

fn upgrade(
    mut request: Request,
    attachment: Attachment,
    content_type: &'static str,
    keys: Option<DetachKeys>,
) -> Response {
    let upgraded = hyper::upgrade::on(&mut request);
    let pause = pause_after_head(request.headers());
    tokio::spawn(async move {
        match upgraded.await {
            Ok(upgraded) => match Connection::of(upgraded) {
                Ok(connection) => {
                    tokio::time::sleep(pause).await;
                    run(connection, attachment, keys).await;
                }
                Err(error) => tracing::warn!(%error, "cannot take over a client's connection"),
            },
            Err(error) => tracing::debug!(%error, "the client went before its connection was its own"),
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.extensions_mut().insert(ReasonPhrase::from_static(b"UPGRADED"));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("tcp"));
    response
}

/// How long the head of the answer travels alone. docker-py takes the head through a buffer and what follows from the
/// connection below it: what comes together with the head it never sees.
fn pause_after_head(headers: &HeaderMap) -> Duration {
    let is_docker_py = headers
        .get(header::USER_AGENT)
        .is_some_and(|agent| agent.as_bytes().starts_with(b"docker-sdk-python/"));
    if is_docker_py { DOCKER_PY_PAUSE } else { Duration::ZERO }
}

fn exchange_bodies(body: Body, attachment: Attachment, keys: Option<DetachKeys>) -> Response {
    let Attachment { terminal, output, input, notice } = attachment;
    let reader = StreamReader::new(request_bytes(body.into_data_stream()));
    // The input ends with the response, at the latest.
    let feeding = AbortOnDropHandle::new(tokio::spawn(feed(reader, input, keys)));
    let detached = Box::pin(async {
        match feeding.await {
            Ok(Fed::Detached) => Fed::Detached.tell(notice),
            // Of a request without a body this is so at once.
            _ => std::future::pending().await,
        }
    });
    let frames = stream::unfold((output, detached), move |(mut output, mut detached)| async move {
        let chunk = tokio::select! {
            chunk = output.recv() => chunk?,
            () = &mut detached => return None,
        };
        Some((Ok::<Bytes, io::Error>(framed(&chunk, terminal)), (output, detached)))
    });
    let mut response = Response::new(Body::from_stream(frames));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(RAW_STREAM));
    response
}

fn request_bytes(body: BodyDataStream) -> impl Stream<Item = io::Result<Bytes>> + Unpin {
    body.map_err(io::Error::other).boxed()
}

fn framed(chunk: &Output, terminal: bool) -> Bytes {
    if terminal {
        return chunk.bytes.clone();
    }
    let header = stdcopy::frame(chunk.stream, chunk.bytes.len());
    [header.as_slice(), &chunk.bytes].concat().into()
}

/// Runs until the output has ended, or the client detached or went away; the end of the input is not the end of the
/// output.
async fn run(connection: Connection, attachment: Attachment, keys: Option<DetachKeys>) {
    let Connection { reader, mut writer, presence } = connection;
    let Attachment { terminal, output, input, notice } = attachment;
    let fed = async {
        match feed(reader, input, keys).await {
            Fed::Ended => presence.gone().await,
            left => left.tell(notice),
        }
    };
    tokio::select! {
        result = deliver(output, &mut writer, terminal) => if let Err(error) = result {
            tracing::debug!(%error, "an attached client went away");
        },
        () = fed => {}
    }
    // A client that is gone already has nothing left to be told.
    writer.shutdown().await.unwrap_or_default();
}

/// How a client's input ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fed {
    /// By the keys for it.
    Detached,
    /// It stopped typing into a terminal, and with that has left.
    Left,
    /// A pipe's end.
    Ended,
}

impl Fed {
    /// Says so if the client detached.
    pub(super) fn tell(self, notice: Option<DetachNotice>) {
        if let (Self::Detached, Some(notice)) = (self, notice) {
            notice.publish();
        }
    }
}

/// Carries what the client sends to the process. Its end is a pipe's end; detaching is not.
pub(super) async fn feed(
    mut reader: impl AsyncRead + Unpin,
    input: Option<mpsc::Sender<Input>>,
    mut keys: Option<DetachKeys>,
) -> Fed {
    let mut buffer = vec![0; INPUT_BYTES];
    loop {
        // A connection that breaks ends the input like one that is closed.
        let count = reader.read(&mut buffer).await.unwrap_or(0);
        if count == 0 {
            return end(input.as_ref(), keys.is_some()).await;
        }
        let typed = match &mut keys {
            Some(keys) => keys.take(&buffer[..count]),
            None => Typed::Input(Bytes::copy_from_slice(&buffer[..count])),
        };
        let (Typed::Input(bytes) | Typed::Detach(bytes)) = &typed;
        if !bytes.is_empty() {
            send(input.as_ref(), Input::Bytes(bytes.clone())).await;
        }
        if matches!(typed, Typed::Detach(_)) {
            return Fed::Detached;
        }
    }
}

/// A terminal has no end of input: a client that stops typing into one has left, which is how Docker's own does it.
async fn end(input: Option<&mpsc::Sender<Input>>, terminal: bool) -> Fed {
    if terminal && input.is_some() {
        return Fed::Left;
    }
    send(input, Input::End).await;
    Fed::Ended
}

async fn send(input: Option<&mpsc::Sender<Input>>, what: Input) {
    if let Some(input) = input {
        // A process that closed its input still has output: what is typed from now on goes nowhere.
        input.send(what).await.unwrap_or_default();
    }
}

async fn deliver(
    mut output: mpsc::Receiver<Output>,
    writer: &mut (impl AsyncWrite + Unpin),
    terminal: bool,
) -> io::Result<()> {
    while let Some(Output { stream, bytes }) = output.recv().await {
        if terminal {
            writer.write_all(&bytes).await?;
        } else {
            let header = stdcopy::frame(stream, bytes.len());
            writer.write_all_buf(&mut Buf::chain(header.as_slice(), bytes)).await?;
        }
        writer.flush().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
