//! Passes datagrams on. Each client has a socket of its own towards the server, so that answers find their way back.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Clients of one port that are remembered.
const MAX_CLIENTS: usize = 1024;
/// Nothing came from or to a client for so long: it is forgotten.
const IDLE: Duration = Duration::from_secs(90);
const MAX_DATAGRAM_BYTES: usize = 65_535;

struct Client {
    towards_server: Arc<UdpSocket>,
    answers: JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.answers.abort();
    }
}

/// Never ends. A datagram that cannot be passed on is lost, as datagrams are.
pub(super) async fn pass_on(socket: Arc<UdpSocket>, to: SocketAddr) {
    let mut clients: HashMap<SocketAddr, Client> = HashMap::new();
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        // What is reported here is what became of earlier answers.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        clients.retain(|_address, client| !client.answers.is_finished());
        if !clients.contains_key(&from) {
            if clients.len() >= MAX_CLIENTS {
                continue;
            }
            let Ok(client) = meet(&socket, from, to).await else { continue };
            clients.insert(from, client);
        }
        let _lost = clients[&from].towards_server.send(&buffer[..length]).await;
    }
}

async fn meet(socket: &Arc<UdpSocket>, from: SocketAddr, to: SocketAddr) -> io::Result<Client> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let towards_server = UdpSocket::bind(any).await?;
    towards_server.connect(to).await?;
    let towards_server = Arc::new(towards_server);
    let answers = tokio::spawn(pass_answers_back(Arc::clone(&towards_server), Arc::clone(socket), from));
    Ok(Client { towards_server, answers })
}

/// Until there has been none for a while. A server that is not there does not end it: it may come.
async fn pass_answers_back(server: Arc<UdpSocket>, socket: Arc<UdpSocket>, client: SocketAddr) {
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    while let Ok(received) = timeout(IDLE, server.recv(&mut buffer)).await {
        if let Ok(length) = received {
            let _lost = socket.send_to(&buffer[..length], client).await;
        }
    }
}
