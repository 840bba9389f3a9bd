//! The one call the agent makes: it tells the host that it serves.

use std::io;

use berth_protocol::agent::Ready;
use berth_protocol::ports::{HOST_CID, READY_PORT};
use tokio_vsock::{VsockAddr, VsockStream};

use super::frames;

/// Connects, says who is here, and closes. A host that does not listen can still ask with a Ping.
pub(super) async fn greet(introduction: Ready) {
    if let Err(error) = send(&introduction).await {
        eprintln!("berth-agent: the host was not told that the agent is ready: {error}");
    }
}

async fn send(introduction: &Ready) -> io::Result<()> {
    let mut connection = VsockStream::connect(VsockAddr::new(HOST_CID, READY_PORT)).await?;
    frames::write(&mut connection, introduction).await?;
    connection.shutdown(std::net::Shutdown::Write)
}
