//! An attachment over a WebSocket (RFC 6455): its output as binary messages, unframed as Docker's, and what comes in messages
//! of either kind is the input. The messages themselves are for [`frames`].

mod frames;
mod handshake;

use std::io;

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;

use self::frames::{Inbound, Opcode};
use super::detach_keys::DetachKeys;
use super::hijack::{Connection, feed};
use crate::api::error::ApiResult;
use crate::engine::{Attachment, Output};

/// A client's request to speak the protocol, checked.
pub(in crate::api) struct Upgrade {
    request: Request,
    accept: handshake::Accept,
}

impl Upgrade {
    /// # Errors
    /// A request for something else.
    pub(in crate::api) fn asked_for(request: Request) -> ApiResult<Self> {
        let accept = handshake::Accept::check(request.headers())?;
        Ok(Self { request, accept })
    }

    /// Connects the client with `attachment`, and says so in the response.
    pub(in crate::api) fn connect(mut self, attachment: Attachment, keys: DetachKeys) -> Response {
        let keys = attachment.terminal.then_some(keys);
        let upgraded = hyper::upgrade::on(&mut self.request);
        tokio::spawn(async move {
            match upgraded.await {
                Ok(upgraded) => match Connection::of(upgraded) {
                    Ok(Connection { reader, writer, .. }) => run(reader, writer, attachment, keys).await,
                    Err(error) => tracing::warn!(%error, "cannot take over a client's connection"),
                },
                Err(error) => tracing::debug!(%error, "the client went before its connection was its own"),
            }
        });
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        self.accept.write(response.headers_mut());
        response
    }
}

/// Runs until the output has ended, or the client detached, closed or went away.
async fn run(
    reader: impl AsyncRead + Send + Unpin,
    mut writer: impl AsyncWrite + Send + Unpin,
    attachment: Attachment,
    keys: Option<DetachKeys>,
) {
    let Attachment { terminal: _, output, input, notice } = attachment;
    // A client that asks without reading the answers is not read any further.
    let (replies, asked) = mpsc::channel(1);
    let payloads = stream::try_unfold(Inbound::new(reader, replies), async |mut inbound| {
        let payload = inbound.next().await?;
        Ok::<_, io::Error>(payload.map(|payload| (payload, inbound)))
    });
    let reader = StreamReader::new(Box::pin(payloads));
    tokio::select! {
        result = deliver(output, asked, &mut writer) => if let Err(error) = result {
            tracing::debug!(%error, "an attached client went away");
        },
        fed = feed(reader, input, keys) => fed.tell(notice),
    }
    // A client that is gone already has nothing left to be told.
    frames::write(&mut writer, Opcode::Close, &frames::NORMAL_CLOSURE).await.unwrap_or_default();
    writer.shutdown().await.unwrap_or_default();
}

/// The output, and between its pieces the answers to the client's pings.
async fn deliver(
    mut output: mpsc::Receiver<Output>,
    mut replies: mpsc::Receiver<Bytes>,
    writer: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    loop {
        tokio::select! {
            piece = output.recv() => match piece {
                Some(Output { bytes, .. }) => frames::write(writer, Opcode::Binary, &bytes).await?,
                None => return Ok(()),
            },
            Some(ping) = replies.recv() => frames::write(writer, Opcode::Pong, &ping).await?,
        }
    }
}

#[cfg(test)]
mod tests;
