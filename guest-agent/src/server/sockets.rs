//! Connections by which the host hears of who connects to its sockets, and by which it takes them up.

use std::io;

use berth_protocol::agent::{CarryConnection, ErrorCode, ServeSockets, SocketRefusal, StreamReply};
use tokio_vsock::{OwnedReadHalf, OwnedWriteHalf, VsockStream};

use super::frames;
use super::streams::refuse;
use crate::agent::Agent;
use crate::failure::Failure;
use crate::sockets::SocketRelay;

/// Serves until the host hangs up, or comes by another connection.
pub(super) async fn serve(
    agent: &Agent,
    request: &ServeSockets,
    mut connection: VsockStream,
) -> io::Result<()> {
    let id = &request.container_id;
    let Some(relay) = agent.sockets.relay(id) else {
        let message = format!("container {id} has no sockets of the host's");
        return refuse(connection, Failure::new(ErrorCode::NoSuchContainer, message)).await;
    };
    frames::write(&mut connection, &StreamReply::default()).await?;
    let number = relay.connect();
    let (reader, writer) = connection.into_split();
    tokio::select! {
        read = read_refusals(&relay, reader) => read,
        written = write_connections(&relay, number, writer) => written,
    }
}

async fn read_refusals(relay: &SocketRelay, mut connection: OwnedReadHalf) -> io::Result<()> {
    while let Some(refusal) = frames::read::<SocketRefusal>(&mut connection).await? {
        // It may have stopped to wait.
        let _nobody = relay.answer(refusal.id, None);
    }
    Ok(())
}

async fn write_connections(
    relay: &SocketRelay,
    number: u64,
    mut connection: OwnedWriteHalf,
) -> io::Result<()> {
    while let Some(next) = relay.next(number).await {
        frames::write(&mut connection, &next).await?;
    }
    Ok(())
}

/// Hands the stream to whoever waits for it, or says that nobody does.
pub(super) async fn carry(
    agent: &Agent,
    request: &CarryConnection,
    mut connection: VsockStream,
) -> io::Result<()> {
    let relay = agent.sockets.relay(&request.container_id);
    let Some(relay) = relay.filter(|relay| relay.waits(request.id)) else {
        let message = format!("no connection {} waits to be taken up", request.id);
        return refuse(connection, Failure::new(ErrorCode::NoSuchFile, message)).await;
    };
    frames::write(&mut connection, &StreamReply::default()).await?;
    // Who has stopped to wait in this moment hangs up.
    let _gone = relay.answer(request.id, Some(connection));
    Ok(())
}
