//! For as long as a container with sockets of the host's runs: whoever connects there is connected.
//!
//! A container has a connection of its own for that, as it has one for names. What is more than this file's bounds waits in
//! its machine. Connections end with the daemon; new ones wait for the next.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use berth_protocol::agent::SocketConnection;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, copy_buf};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::dial::{Identity, dial};
use crate::agent_client::{AgentClient, CallError, SocketClients, within};
use crate::engine::identity::ContainerId;
use crate::engine::mounts::BoundSocket;
use crate::engine::user_namespace::UserNamespace;

/// Of one container; an honest agent asks for fewer.
const MAX_CONNECTIONS: usize = 128;
/// Of a connection, in each direction, on its way.
const BUFFER_BYTES: usize = 64 << 10;
/// The agent has only to find who waits.
const CARRY_DEADLINE: Duration = Duration::from_secs(60);
/// Before the machine is dialled again.
const PAUSE: Duration = Duration::from_secs(1);
/// As many groups as the kernel lets a process have (`NGROUPS_MAX`).
const MAX_GROUPS: usize = 65_536;

/// Ends with this, and all connections with it.
#[derive(Debug)]
pub(in crate::engine) struct SocketServer {
    _task: AbortOnDropHandle<()>,
}

/// Connects those in the container's machine who connect to these sockets; `None` if there are none. `users` are the
/// container's, if they are not the host's own.
pub(in crate::engine) fn serve(
    container: &ContainerId,
    sockets: &[BoundSocket],
    users: Option<UserNamespace>,
    agent: Arc<AgentClient>,
) -> Option<SocketServer> {
    if sockets.is_empty() {
        return None;
    }
    let named = sockets.iter().map(|socket| (socket.number, socket.path.clone())).collect();
    let served = Arc::new(Served { id: container.clone(), sockets: named, users, agent });
    Some(SocketServer { _task: AbortOnDropHandle::new(tokio::spawn(serve_all(served))) })
}

/// One container's.
struct Served {
    id: ContainerId,
    sockets: Vec<(u32, PathBuf)>,
    users: Option<UserNamespace>,
    agent: Arc<AgentClient>,
}

async fn serve_all(served: Arc<Served>) {
    let mut connections = JoinSet::new();
    loop {
        match served.agent.serve_sockets(served.id.as_str()).await {
            Ok(clients) => serve_clients(&served, clients, &mut connections).await,
            // Its agent is older than sockets are, or the container has gone.
            Err(CallError::Agent { message, .. }) => {
                return tracing::debug!(container = %served.id, message, "no sockets");
            }
            Err(error) => tracing::debug!(container = %served.id, %error, "sockets are not reached"),
        }
        sleep(PAUSE).await;
    }
}

/// Until the machine hangs up. What is connected then goes on.
async fn serve_clients(served: &Arc<Served>, clients: SocketClients, connections: &mut JoinSet<()>) {
    let (mut arriving, mut refusals) = clients.split();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (refuse, mut refused) = mpsc::channel::<u64>(MAX_CONNECTIONS);
    let accepting = async {
        while let Ok(client) = arriving.next().await {
            while connections.try_join_next().is_some() {}
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let (served, refuse) = (Arc::clone(served), refuse.clone());
            connections.spawn(async move {
                if let Err(error) = served.connect(&client).await {
                    tracing::debug!(container = %served.id, socket = client.socket, %error, "a connection is refused");
                    // The machine may be gone.
                    let _gone = refuse.send(client.id).await;
                }
                drop(place);
            });
        }
    };
    let refusing = async {
        while let Some(id) = refused.recv().await {
            if refusals.send(id).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = refusing => {}
    }
}

impl Served {
    /// Carries a connection to its end.
    ///
    /// # Errors
    /// It is not begun: there is no such socket, or no connection to it.
    async fn connect(&self, client: &SocketConnection) -> io::Result<()> {
        let named = self.sockets.iter().find(|(number, _)| *number == client.socket);
        let (_, path) = named.ok_or(io::ErrorKind::NotFound)?;
        let identity = self.identity(client).ok_or(io::ErrorKind::PermissionDenied)?;
        let socket = dial(path, identity).await?;
        let carrying = self.agent.carry_connection(self.id.as_str(), client.id);
        let stream = within(CARRY_DEADLINE, "a connection to be taken up", carrying).await;
        carry(socket, stream.map_err(io::Error::other)?).await;
        Ok(())
    }

    /// As whom it connects: whom it says, as far as the container's processes can be that. Groups that they cannot have are
    /// left out.
    fn identity(&self, client: &SocketConnection) -> Option<Identity> {
        let &SocketConnection { user_id: user, group_id: group, .. } = client;
        let mut further_groups = client.further_groups.clone();
        further_groups.truncate(MAX_GROUPS);
        if let Some(users) = &self.users {
            if !users.has(user, group) {
                return None;
            }
            further_groups.retain(|further| users.has(user, *further));
        }
        // All ones are nobody's: to the kernel they mean "as it is".
        let is_somebody = ![user, group].contains(&u32::MAX);
        further_groups.retain(|further| *further != u32::MAX);
        is_somebody.then_some(Identity { user, group, further_groups })
    }
}

/// Until both directions are at their ends. Each comes to its own: what one side has said last arrives, although the other
/// has stopped to listen.
async fn carry(mut socket: UnixStream, mut stream: UnixStream) {
    let (from_socket, to_socket) = socket.split();
    let (from_stream, to_stream) = stream.split();
    tokio::join!(one_way(from_socket, to_stream), one_way(from_stream, to_socket));
}

async fn one_way(from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut from = BufReader::with_capacity(BUFFER_BYTES, from);
    // Where it broke off is where it ends.
    let _broken: io::Result<u64> = copy_buf(&mut from, &mut to).await;
    let _gone: io::Result<()> = to.shutdown().await;
}
