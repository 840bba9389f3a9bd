//! Ports of the host that lead to containers: taken so that nobody else gets them, and served where the packet filter
//! cannot lead them.
//!
//! A published port is a socket of the daemon's that listens: whoever has the port already is told of at once. Packets
//! from other hosts, and the host's own to its IPv4 addresses, never reach that socket, for the packet filter sends them
//! on before. What does reach it is passed on from here: above all what comes from ::1, an address that cannot leave a
//! host.

mod datagrams;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::firewall::Protocol;

/// Clients that wait to be accepted.
const BACKLOG: i32 = 128;
/// Connections that are passed on at once, of one port.
const MAX_CONNECTIONS: usize = 1024;
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// After the host had no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A port of the host's that nobody else can have while this lives.
#[derive(Debug)]
pub struct ReservedPort {
    protocol: Protocol,
    address: SocketAddr,
    socket: Socket,
    serving: Option<JoinHandle<()>>,
}

#[derive(Clone, Debug)]
enum Socket {
    Stream(Arc<TcpListener>),
    Datagram(Arc<UdpSocket>),
    /// The packet filter alone knows of it.
    None,
}

impl Drop for ReservedPort {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
    }
}

impl ReservedPort {
    /// Takes a port; 0 is any that is free.
    ///
    /// # Errors
    /// Somebody has it, or we may not have it.
    pub fn take(protocol: Protocol, address: SocketAddr) -> io::Result<Self> {
        let socket = match protocol {
            Protocol::Tcp => {
                let listener = bound(address, SocketType::STREAM)?;
                Socket::Stream(Arc::new(TcpListener::from_std(listener.into())?))
            }
            Protocol::Udp => {
                let socket = bound(address, SocketType::DGRAM)?;
                Socket::Datagram(Arc::new(UdpSocket::from_std(socket.into())?))
            }
            Protocol::Sctp if address.port() == 0 => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "a port of SCTP takes a number"));
            }
            Protocol::Sctp => Socket::None,
        };
        let address = match &socket {
            Socket::Stream(listener) => listener.local_addr()?,
            Socket::Datagram(socket) => socket.local_addr()?,
            Socket::None => address,
        };
        Ok(Self { protocol, address, socket, serving: None })
    }

    /// With the number that was given.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// From now on, what comes in by the socket goes there.
    pub fn serve(&mut self, to: SocketAddr) {
        let serving = match self.socket.clone() {
            Socket::Stream(listener) => tokio::spawn(pass_on_connections(listener, to)),
            Socket::Datagram(socket) => tokio::spawn(datagrams::pass_on(socket, to)),
            Socket::None => return,
        };
        if let Some(before) = self.serving.replace(serving) {
            before.abort();
        }
    }
}

/// A socket that does not wait, listening if it is one for streams. One for IPv6 is for IPv6 alone.
fn bound(address: SocketAddr, kind: SocketType) -> io::Result<std::os::fd::OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, true)?;
    }
    if kind == SocketType::STREAM {
        // Connections of an earlier owner may linger; its socket itself would still be in the way.
        set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &address)?;
    if kind == SocketType::STREAM {
        listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

async fn pass_on_connections(listener: Arc<TcpListener>, to: SocketAddr) {
    let turns = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let turn = Arc::clone(&turns).acquire_owned().await.expect("it is never closed");
        match listener.accept().await {
            Ok((client, _address)) => {
                tokio::spawn(async move {
                    // Either side's end, and there being nobody, is what the client sees.
                    let _ended = pass_on_connection(client, to).await;
                    drop(turn);
                });
            }
            Err(_no_descriptor) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn pass_on_connection(mut client: TcpStream, to: SocketAddr) -> io::Result<()> {
    let connecting = timeout(CONNECT_DEADLINE, TcpStream::connect(to)).await;
    let mut server = connecting.map_err(|_elapsed| io::ErrorKind::TimedOut)??;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(|_bytes| ())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use std::net::Ipv6Addr;

    use super::*;

    fn any(address: &str) -> SocketAddr {
        format!("{address}:0").parse().unwrap()
    }

    #[tokio::test]
    async fn a_port_has_one_owner_until_it_is_given_back() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let owned = ReservedPort::take(protocol, any("127.0.0.1")).unwrap();
            let address = owned.address();
            assert_ne!(address.port(), 0);
            let refused = ReservedPort::take(protocol, address).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
            drop(owned);
            ReservedPort::take(protocol, address).unwrap();
        }
    }

    #[tokio::test]
    async fn ipv4_and_ipv6_have_the_same_port_each_for_itself() {
        let four = ReservedPort::take(Protocol::Tcp, any("0.0.0.0")).unwrap();
        let six = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), four.address().port());
        assert_eq!(ReservedPort::take(Protocol::Tcp, six).unwrap().address().port(), four.address().port());
    }

    #[tokio::test]
    async fn connections_are_passed_on_with_both_ends_of_streams() {
        let server = TcpListener::bind(any("127.0.0.1")).await.unwrap();
        let mut port = ReservedPort::take(Protocol::Tcp, any("[::1]")).unwrap();
        port.serve(server.local_addr().unwrap());
        let mut client = TcpStream::connect(port.address()).await.unwrap();
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let (mut accepted, _address) = server.accept().await.unwrap();
        let mut heard = String::new();
        accepted.read_to_string(&mut heard).await.unwrap();
        accepted.write_all(b"answer").await.unwrap();
        drop(accepted);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!((heard.as_str(), answer.as_str()), ("question", "answer"));
    }

    #[tokio::test]
    async fn where_nobody_answers_the_client_sees_an_end() {
        let nobody = ReservedPort::take(Protocol::Udp, any("127.0.0.1")).unwrap().address();
        let mut port = ReservedPort::take(Protocol::Tcp, any("127.0.0.1")).unwrap();
        port.serve(nobody);
        let mut client = TcpStream::connect(port.address()).await.unwrap();
        assert_eq!(client.read(&mut [0; 8]).await.unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn datagrams_find_their_way_back_to_whoever_asked() {
        let server = UdpSocket::bind(any("127.0.0.1")).await.unwrap();
        let mut port = ReservedPort::take(Protocol::Udp, any("[::1]")).unwrap();
        port.serve(server.local_addr().unwrap());
        let clients =
            [UdpSocket::bind(any("[::1]")).await.unwrap(), UdpSocket::bind(any("[::1]")).await.unwrap()];
        for (number, client) in (0_u8..).zip(&clients) {
            client.send_to(&[number], port.address()).await.unwrap();
        }
        let mut buffer = [0; 8];
        for _ in &clients {
            let (length, from) = server.recv_from(&mut buffer).await.unwrap();
            server.send_to(&[&buffer[..length], b"!"].concat(), from).await.unwrap();
        }
        for (number, client) in (0_u8..).zip(&clients) {
            let (length, from) = client.recv_from(&mut buffer).await.unwrap();
            assert_eq!((&buffer[..length], from), (&[number, b'!'][..], port.address()));
        }
    }
}
