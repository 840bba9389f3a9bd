//! A connection by which the host answers what is asked at a container's name server.

use std::io;

use berth_protocol::agent::{ErrorCode, NameAnswer, ServeNames, StreamReply};
use tokio_vsock::{OwnedReadHalf, OwnedWriteHalf, VsockStream};

use super::frames;
use super::streams::refuse;
use crate::agent::Agent;
use crate::failure::Failure;
use crate::names::NameRelay;

/// Serves until the host hangs up, or comes by another connection.
pub(super) async fn serve(
    agent: &Agent,
    request: &ServeNames,
    mut connection: VsockStream,
) -> io::Result<()> {
    let id = &request.container_id;
    let Some(relay) = agent.name_servers.relay(id) else {
        let message = format!("container {id} has no name server");
        return refuse(connection, Failure::new(ErrorCode::NoSuchContainer, message)).await;
    };
    frames::write(&mut connection, &StreamReply::default()).await?;
    let number = relay.connect();
    let (reader, writer) = connection.into_split();
    tokio::select! {
        read = read_answers(&relay, reader) => read,
        written = write_queries(&relay, number, writer) => written,
    }
}

async fn read_answers(relay: &NameRelay, mut connection: OwnedReadHalf) -> io::Result<()> {
    while let Some(answer) = frames::read::<NameAnswer>(&mut connection).await? {
        // Whoever asked may not wait any more.
        let _unwanted: Result<(), Vec<u8>> = relay.answer(answer.id, answer.message);
    }
    Ok(())
}

async fn write_queries(relay: &NameRelay, number: u64, mut connection: OwnedWriteHalf) -> io::Result<()> {
    while let Some(query) = relay.next(number).await {
        frames::write(&mut connection, &query).await?;
    }
    Ok(())
}
