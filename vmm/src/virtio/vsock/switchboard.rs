//! All connections between one guest and the host: who is connected to whom, and whose turn it is.
//!
//! Packets of the guest and news of host sockets come in; turns, one packet or one read each, go out in rotation, so
//! that no connection starves another. Everything that grows is bounded.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::net::Shutdown;

use super::connection::{Action, Connection};
use super::host_socket::{Handshake, HandshakeState, HostSocket};
use super::packet::{Header, Operation, STREAM};
use super::poller::{News, Poller, Token};
use crate::control::VsockCounters;
use crate::memory::GuestMemoryMmap;
use crate::virtio::chain::Segments;

/// The host's context id (virtio 1.2, section 5.10.4).
const HOST_CID: u64 = 2;
/// Connections, handshakes and sockets that still take the last bytes, together.
const MAX_PEERS: usize = 1024;
/// Bytes that the host has not taken, of all connections together: host memory that the guest can occupy.
const MAX_UNTAKEN_BYTES: usize = 64 << 20;
/// Resets that wait for room; while there are as many, no packet of the guest is taken.
const MAX_REFUSALS: usize = 256;
const LISTENER: Token = Token(1);
/// The host's ports are counted up from here, out of the way of well-known ones.
const FIRST_LOCAL_PORT: u32 = 1 << 30;

/// A connection's name: the port on either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Ports {
    guest: u32,
    host: u32,
}

/// Whatever has a socket.
#[derive(Debug)]
enum Peer {
    Handshake(Handshake),
    Connected(Connected),
    /// The guest is done; the host still takes what it was sent.
    Draining(HostSocket),
}

#[derive(Debug)]
struct Connected {
    ports: Ports,
    connection: Connection,
    socket: HostSocket,
    /// It is in the queue of turns.
    scheduled: bool,
}

/// What to put into the guest's next receive buffers.
#[derive(Debug)]
pub(super) enum Turn {
    Packet(Header),
    /// Data of this connection: as much as its socket and its credit give.
    Data(Token),
}

/// Counted since the machine's start, for the control thread.
#[derive(Debug, Default)]
pub(crate) struct VsockStatistics {
    connections: AtomicU64,
    to_guest_bytes: AtomicU64,
    to_host_bytes: AtomicU64,
    refused_packets: AtomicU64,
}

impl VsockStatistics {
    pub(crate) fn counters(&self) -> VsockCounters {
        VsockCounters {
            connections: self.connections.load(Ordering::Relaxed),
            to_guest_bytes: self.to_guest_bytes.load(Ordering::Relaxed),
            to_host_bytes: self.to_host_bytes.load(Ordering::Relaxed),
            refused_packets: self.refused_packets.load(Ordering::Relaxed),
        }
    }
}

#[derive(Debug)]
pub(super) struct Switchboard {
    guest_cid: u64,
    path: PathBuf,
    listener: UnixListener,
    poller: Poller,
    peers: HashMap<Token, Peer>,
    by_ports: HashMap<Ports, Token>,
    turns: VecDeque<Token>,
    refusals: VecDeque<Header>,
    untaken_bytes: usize,
    last_token: Token,
    last_local_port: u32,
    statistics: Arc<VsockStatistics>,
}

impl Switchboard {
    /// Listens on `path` for the host; the guest's ways out are `<path>_<port>`.
    ///
    /// # Errors
    /// The socket cannot be bound.
    pub(super) fn listen(path: PathBuf, guest_cid: u32) -> io::Result<Self> {
        let listener = UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        let poller = Poller::new()?;
        poller.watch(&listener, LISTENER)?;
        Ok(Self {
            guest_cid: guest_cid.into(),
            path,
            listener,
            poller,
            peers: HashMap::new(),
            by_ports: HashMap::new(),
            turns: VecDeque::new(),
            refusals: VecDeque::new(),
            untaken_bytes: 0,
            last_token: LISTENER,
            last_local_port: FIRST_LOCAL_PORT,
            statistics: Arc::default(),
        })
    }

    pub(super) fn statistics(&self) -> Arc<VsockStatistics> {
        self.statistics.clone()
    }

    pub(super) fn poller(&self) -> &Poller {
        &self.poller
    }

    /// Forgets every connection that the guest knows of: its driver began anew. What the host asked for goes on.
    pub(super) fn reset(&mut self) {
        self.peers.retain(|_, peer| match peer {
            Peer::Connected(connected) => connected.connection.is_unheard_of(),
            Peer::Handshake(_) | Peer::Draining(_) => true,
        });
        self.by_ports.retain(|_, token| self.peers.contains_key(token));
        self.turns.retain(|token| self.peers.contains_key(token));
        self.refusals.clear();
        self.count_untaken();
    }

    /// The port of the last connection that the host asked for.
    pub(super) fn last_local_port(&self) -> u32 {
        self.last_local_port
    }

    /// Names connections as if those up to `port` had been made here.
    pub(super) fn continue_behind(&mut self, port: u32) {
        self.last_local_port = port.max(FIRST_LOCAL_PORT);
    }

    /// Recounts after peers were dropped with bytes untaken.
    fn count_untaken(&mut self) {
        let of_peer = |peer: &Peer| match peer {
            Peer::Handshake(_) => 0,
            Peer::Connected(connected) => connected.socket.untaken_bytes(),
            Peer::Draining(socket) => socket.untaken_bytes(),
        };
        self.untaken_bytes = self.peers.values().map(of_peer).sum();
    }

    #[cfg(test)]
    pub(super) fn waiting_turns(&self) -> usize {
        self.turns.len()
    }

    #[cfg(test)]
    pub(super) fn untaken_bytes(&self) -> usize {
        self.untaken_bytes
    }

    /// Whether a packet of the guest's can be taken; if not, receive buffers must be filled first.
    pub(super) fn takes_packets(&self) -> bool {
        self.refusals.len() < MAX_REFUSALS
    }

    /// Takes a packet of the guest's; `data` is what follows its header.
    pub(super) fn packet(&mut self, header: &Header, data: &Segments, memory: &GuestMemoryMmap) {
        if header.source_cid != self.guest_cid {
            // An answer would not reach whoever it pretends to be.
            self.statistics.refused_packets.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if header.destination_cid != HOST_CID || header.socket_type != STREAM {
            return self.refuse(header);
        }
        let ports = Ports { guest: header.source_port, host: header.destination_port };
        match self.by_ports.get(&ports) {
            Some(token) => self.packet_of(*token, header, data, memory),
            None if header.operation == Operation::Request => self.connect(ports, header),
            None => self.refuse(header),
        }
    }

    fn packet_of(&mut self, token: Token, header: &Header, data: &Segments, memory: &GuestMemoryMmap) {
        let Some(Peer::Connected(peer)) = self.peers.get_mut(&token) else { return };
        let whole = header.operation != Operation::ReadWrite || header.length as usize <= data.len();
        let action = if whole { peer.connection.packet(header) } else { Action::End { reset: true } };
        match action {
            Action::Nothing => {}
            Action::Opened => {
                self.statistics.connections.fetch_add(1, Ordering::Relaxed);
                if peer.socket.confirm(peer.ports.host).is_err() {
                    (peer.socket.ended, peer.socket.hung_up) = (true, true);
                }
            }
            Action::Deliver => return self.deliver(token, header, data, memory),
            Action::CloseHostSide { no_more_reads, no_more_writes } => {
                if no_more_reads {
                    peer.socket.close_for_host(Shutdown::Read);
                }
                if no_more_writes && peer.socket.untaken_bytes() == 0 {
                    peer.socket.close_for_host(Shutdown::Write);
                }
            }
            Action::End { reset } => {
                if reset {
                    self.refuse(header);
                }
                return self.end(token);
            }
        }
        self.schedule(token);
    }

    fn deliver(&mut self, token: Token, header: &Header, data: &Segments, memory: &GuestMemoryMmap) {
        let Some(Peer::Connected(peer)) = self.peers.get_mut(&token) else { return };
        let data = data.range(0, header.length as usize);
        self.statistics.to_host_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        if !peer.connection.host_receives() {
            peer.connection.forwarded(data.len());
            return self.schedule(token);
        }
        match peer.socket.deliver(&data, memory) {
            Ok(taken) => {
                peer.connection.forwarded(taken);
                if taken < data.len() {
                    self.untaken_bytes += data.len() - taken;
                    if self.untaken_bytes > MAX_UNTAKEN_BYTES
                        || self.poller.watch_room(peer.socket.as_fd(), token, true).is_err()
                    {
                        self.refuse(header);
                        return self.end(token);
                    }
                }
            }
            Err(_) => {
                let lost = peer.socket.untaken_bytes();
                peer.socket.discard();
                self.untaken_bytes -= lost;
                peer.connection.forwarded(lost + data.len());
                peer.connection.host_stopped_receiving();
            }
        }
        self.schedule(token);
    }

    fn refuse(&mut self, header: &Header) {
        if header.operation != Operation::Reset {
            self.refusals.push_back(header.refusal());
            self.statistics.refused_packets.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A connection that the guest asks for.
    fn connect(&mut self, ports: Ports, request: &Header) {
        if self.peers.len() >= MAX_PEERS {
            return self.refuse(request);
        }
        let Ok(socket) = HostSocket::connect(&self.path, ports.host) else { return self.refuse(request) };
        let token = self.next_token();
        if self.poller.watch(socket.as_fd(), token).is_err() {
            return self.refuse(request);
        }
        self.statistics.connections.fetch_add(1, Ordering::Relaxed);
        self.add(
            token,
            Connected { ports, connection: Connection::accepted(request), socket, scheduled: false },
        );
    }

    fn add(&mut self, token: Token, connected: Connected) {
        self.by_ports.insert(connected.ports, token);
        self.peers.insert(token, Peer::Connected(connected));
        self.schedule(token);
    }

    fn next_token(&mut self) -> Token {
        self.last_token.0 += 1;
        self.last_token
    }

    /// The guest is done with a connection; what the host has not taken of it is still offered.
    fn end(&mut self, token: Token) {
        let Some(Peer::Connected(peer)) = self.peers.remove(&token) else { return };
        self.by_ports.remove(&peer.ports);
        if peer.scheduled {
            // Not left for its turn to come: a guest that opens and resets without receiving would pile them up.
            self.turns.retain(|waiting| *waiting != token);
        }
        if peer.socket.untaken_bytes() > 0 {
            self.peers.insert(token, Peer::Draining(peer.socket));
        }
    }

    /// Takes in what happened to host sockets; whether anything did is the result.
    ///
    /// # Errors
    /// The host's kernel refuses to say.
    pub(super) fn poll(&mut self) -> io::Result<bool> {
        let news = self.poller.news()?;
        for one in &news {
            if one.token == LISTENER {
                self.accept_all();
            } else {
                self.news_of(one);
            }
        }
        Ok(!news.is_empty())
    }

    fn accept_all(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            // One that is too many is closed here and now.
            if self.peers.len() < MAX_PEERS && socket.set_nonblocking(true).is_ok() {
                let token = self.next_token();
                if self.poller.watch(&socket, token).is_ok() {
                    self.peers.insert(token, Peer::Handshake(Handshake::new(socket.into())));
                }
            }
        }
    }

    fn news_of(&mut self, news: &News) {
        match self.peers.get_mut(&news.token) {
            None => {}
            Some(Peer::Handshake(handshake)) => match handshake.proceed() {
                HandshakeState::Incomplete => {}
                HandshakeState::Failed => drop(self.peers.remove(&news.token)),
                HandshakeState::Wants(port) => self.request(news.token, port),
            },
            Some(Peer::Connected(peer)) => {
                peer.socket.readable |= news.readable;
                peer.socket.ended |= news.ended;
                peer.socket.hung_up |= news.hung_up;
                if news.hung_up && peer.connection.is_unheard_of() {
                    return self.end(news.token);
                }
                if news.writable {
                    self.offer(news.token);
                }
                self.schedule(news.token);
            }
            Some(Peer::Draining(socket)) => {
                let before = socket.untaken_bytes();
                if socket.offer().is_err() {
                    socket.discard();
                }
                let rest = socket.untaken_bytes();
                self.untaken_bytes -= before - rest;
                if rest == 0 {
                    self.peers.remove(&news.token);
                }
            }
        }
    }

    /// A connection that the host asks for.
    fn request(&mut self, token: Token, guest: u32) {
        let Some(Peer::Handshake(handshake)) = self.peers.remove(&token) else { return };
        let ports = Ports { guest, host: self.next_local_port(guest) };
        let (connection, socket) = (Connection::requested(), handshake.into_socket());
        self.add(token, Connected { ports, connection, socket, scheduled: false });
    }

    fn next_local_port(&mut self, guest: u32) -> u32 {
        loop {
            self.last_local_port = self.last_local_port.checked_add(1).unwrap_or(FIRST_LOCAL_PORT);
            if !self.by_ports.contains_key(&Ports { guest, host: self.last_local_port }) {
                return self.last_local_port;
            }
        }
    }

    /// The host has room again.
    fn offer(&mut self, token: Token) {
        let Some(Peer::Connected(peer)) = self.peers.get_mut(&token) else { return };
        let before = peer.socket.untaken_bytes();
        if peer.socket.offer().is_err() {
            peer.socket.discard();
            peer.connection.host_stopped_receiving();
        }
        let taken = before - peer.socket.untaken_bytes();
        self.untaken_bytes -= taken;
        peer.connection.forwarded(taken);
        if peer.socket.untaken_bytes() == 0 {
            if !peer.connection.guest_sends() {
                peer.socket.close_for_host(Shutdown::Write);
            }
            // If this fails, some events too many arrive.
            self.poller.watch_room(peer.socket.as_fd(), token, false).ok();
        }
    }

    /// Whether anything waits for receive buffers.
    pub(super) fn has_turns(&self) -> bool {
        !self.refusals.is_empty() || !self.turns.is_empty()
    }

    /// Queues a connection if it has something for the guest.
    fn schedule(&mut self, token: Token) {
        let Some(Peer::Connected(peer)) = self.peers.get_mut(&token) else { return };
        if peer.socket.readable && peer.connection.sendable_bytes() == 0 {
            peer.connection.ask_for_credit();
        }
        let data = peer.socket.readable && peer.connection.sendable_bytes() > 0;
        if !peer.scheduled && (data || peer.connection.owes()) {
            peer.scheduled = true;
            self.turns.push_back(token);
        }
    }

    /// What goes to the guest next.
    pub(super) fn next_turn(&mut self) -> Option<Turn> {
        if let Some(refusal) = self.refusals.pop_front() {
            return Some(Turn::Packet(refusal));
        }
        while let Some(token) = self.turns.pop_front() {
            let Some(Peer::Connected(peer)) = self.peers.get_mut(&token) else { continue };
            peer.scheduled = false;
            if let Some((operation, flags)) = peer.connection.next_owed() {
                let header = self.header(token, operation, flags, 0)?;
                self.schedule(token);
                return Some(Turn::Packet(header));
            }
            if peer.socket.readable && peer.connection.sendable_bytes() > 0 {
                return Some(Turn::Data(token));
            }
        }
        None
    }

    /// The connection whose data is to be sent: its socket, and how many bytes may be.
    pub(super) fn data_source(&mut self, token: Token) -> Option<(&mut HostSocket, usize)> {
        match self.peers.get_mut(&token) {
            Some(Peer::Connected(peer)) => {
                let sendable = peer.connection.sendable_bytes();
                Some((&mut peer.socket, sendable))
            }
            _ => None,
        }
    }

    /// The header of a packet that leaves for the guest now.
    pub(super) fn header(
        &mut self,
        token: Token,
        operation: Operation,
        flags: u32,
        length: usize,
    ) -> Option<Header> {
        let Some(Peer::Connected(peer)) = self.peers.get_mut(&token) else { return None };
        let (buffer_bytes, forwarded_bytes) = peer.connection.leaving(length);
        self.statistics.to_guest_bytes.fetch_add(length as u64, Ordering::Relaxed);
        Some(Header {
            source_cid: HOST_CID,
            destination_cid: self.guest_cid,
            source_port: peer.ports.host,
            destination_port: peer.ports.guest,
            length: u32::try_from(length).unwrap_or(u32::MAX),
            socket_type: STREAM,
            operation,
            flags,
            buffer_bytes,
            forwarded_bytes,
        })
    }

    /// After a [`Turn::Data`]: the host's bytes ended, or the connection waits for its next turn.
    pub(super) fn turn_done(&mut self, token: Token, ended: bool) {
        if let (true, Some(Peer::Connected(peer))) = (ended, self.peers.get_mut(&token)) {
            peer.socket.readable = false;
            peer.connection.host_stopped_sending();
            if peer.socket.hung_up {
                peer.connection.host_stopped_receiving();
            }
        }
        self.schedule(token);
    }
}
