//! The agent's two vsock ports: who may connect, how many at a time, and what each connection is served by.

mod frames;

mod names;

mod requests;

mod sockets;

mod streams;

mod greeting;

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use berth_protocol::ports::{HOST_CID, REQUEST_PORT, STREAM_PORT};
use tokio::task::spawn_local;
use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener, VsockStream};

use crate::agent::Agent;

/// Daemons come one at a time; an old one's connection may linger while the new one asks.
const MAX_REQUEST_CONNECTIONS: usize = 64;
/// Up to three for each of a container's and its execs' processes.
const MAX_STREAM_CONNECTIONS: usize = 4096;

/// Serves the host for as long as the machine runs.
///
/// # Errors
/// If a port cannot be listened on or child processes cannot be reaped.
pub(crate) async fn serve(agent: Rc<Agent>) -> io::Result<std::convert::Infallible> {
    let requests = Port::listen(REQUEST_PORT, MAX_REQUEST_CONNECTIONS)?;
    let streams = Port::listen(STREAM_PORT, MAX_STREAM_CONNECTIONS)?;
    agent.now_ready();
    spawn_local(greeting::greet(agent.introduction()));
    tokio::try_join!(
        agent.reaper.run(),
        requests.serve(|connection| requests::serve(Rc::clone(&agent), connection)),
        streams.serve(|connection| streams::serve(Rc::clone(&agent), connection)),
    )
    .map(|(never, ..)| never)
}

/// A listening port with a bound on its connections.
struct Port {
    listener: VsockListener,
    limit: usize,
    connections: Rc<Cell<usize>>,
}

impl Port {
    fn listen(port: u32, limit: usize) -> io::Result<Self> {
        let listener = VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, port))
            .map_err(|error| io::Error::other(format!("listen on vsock port {port}: {error}")))?;
        Ok(Self { listener, limit, connections: Rc::default() })
    }

    /// Accepts from the host only: a container's processes can connect to vsock ports of their own machine.
    async fn serve<F>(&self, handle: impl Fn(VsockStream) -> F) -> io::Result<std::convert::Infallible>
    where
        F: Future<Output = ()> + 'static,
    {
        loop {
            let (connection, peer) = self.listener.accept().await?;
            if peer.cid() != HOST_CID || self.connections.get() >= self.limit {
                continue;
            }
            let counted = Counted::new(&self.connections);
            let handling = handle(connection);
            spawn_local(async move {
                handling.await;
                drop(counted);
            });
        }
    }
}

/// One of a port's connections.
struct Counted(Rc<Cell<usize>>);

impl Counted {
    fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
