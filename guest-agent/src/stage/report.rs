//! What a stage says to the agent before it disappears into the container's program.
//!
//! Packets on a socket that closes when the program is executed: a terminal's master descriptor (if asked for), then
//! either "executing" or one error. Executing and then silence is success; silence alone is a stage that was killed.

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_protocol::agent::AgentError;
use prost::Message;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, send, sendmsg, socketpair,
};

use crate::failure::Failure;
use crate::names::NameSockets;

/// Longer messages are cut: they quote names from requests.
const MAX_PACKET_BYTES: usize = 16 << 10;
const MAX_MESSAGE_BYTES: usize = 8 << 10;
/// With one packet.
const MAX_DESCRIPTORS: usize = 2;

const TERMINAL: u8 = b't';
const NAME_SOCKETS: u8 = b'n';
const EXECUTING: u8 = b'x';
const FAILED: u8 = b'f';
/// The agent's only word to a stage.
const GO_ON: &[u8] = b"g";

/// One packet.
#[derive(Debug)]
pub(crate) enum Report {
    Terminal(OwnedFd),
    NameSockets(NameSockets),
    Executing,
    Failed(Failure),
    /// The other end is closed everywhere.
    Closed,
}

/// A connected pair: the agent's end, which does not block, and the stage's.
///
/// # Errors
/// What socketpair returned.
pub(crate) fn channel() -> io::Result<(OwnedFd, OwnedFd)> {
    let (agent, stage) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::io::ioctl_fionbio(&agent, true)?;
    Ok((agent, stage))
}

/// The stage's end. It closes with the execution of a program.
pub(crate) struct Reporter {
    socket: RefCell<Option<OwnedFd>>,
}

impl Reporter {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket: RefCell::new(Some(socket)) }
    }

    /// For a process that goes on but has nothing more to say.
    pub(crate) fn close(&self) {
        self.socket.take();
    }

    /// Waits until the agent has done its part outside of the stage's namespaces.
    ///
    /// # Errors
    /// The agent is gone, or says something else.
    pub(crate) fn wait_to_go_on(&self) -> io::Result<()> {
        let socket = self.socket.borrow();
        let socket = socket.as_ref().ok_or(Errno::NOTCONN)?;
        let mut word = [0; 2];
        let (_, length) = recv(socket, &mut word, RecvFlags::empty())?;
        if word.get(..length) == Some(GO_ON) { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    /// # Errors
    /// If the agent is not there to take it.
    pub(crate) fn terminal(&self, master: BorrowedFd<'_>) -> rustix::io::Result<()> {
        self.send_with(TERMINAL, &[master])
    }

    /// # Errors
    /// If the agent is not there to take them.
    pub(crate) fn name_sockets(&self, sockets: &NameSockets) -> rustix::io::Result<()> {
        self.send_with(NAME_SOCKETS, &[sockets.datagrams.as_fd(), sockets.connections.as_fd()])
    }

    fn send_with(&self, word: u8, descriptors: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(
            ancillary.push(SendAncillaryMessage::ScmRights(descriptors)),
            "the space is made for so many descriptors"
        );
        self.send(&[word], &mut ancillary)
    }

    /// The next thing this process does is execve(2).
    ///
    /// # Errors
    /// If the agent is not there to take it.
    pub(crate) fn executing(&self) -> rustix::io::Result<()> {
        self.send(&[EXECUTING], &mut SendAncillaryBuffer::default())
    }

    pub(crate) fn failed(&self, mut failure: Failure) {
        truncate(&mut failure.message);
        let mut packet = vec![FAILED];
        AgentError::from(failure).encode(&mut packet).expect("a Vec grows as needed");
        if let Err(error) = self.send(&packet, &mut SendAncillaryBuffer::default()) {
            eprintln!("berth-agent: a stage could not report its failure: {error}");
        }
    }

    fn send(&self, packet: &[u8], ancillary: &mut SendAncillaryBuffer<'_, '_, '_>) -> rustix::io::Result<()> {
        let socket = self.socket.borrow();
        let socket = socket.as_ref().ok_or(Errno::NOTCONN)?;
        sendmsg(socket, &[IoSlice::new(packet)], ancillary, SendFlags::NOSIGNAL).map(|_| ())
    }
}

fn truncate(message: &mut String) {
    let mut end = MAX_MESSAGE_BYTES.min(message.len());
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.truncate(end);
}

/// The agent's side: the stage may go on.
///
/// # Errors
/// The stage is gone.
pub(crate) fn let_go_on(socket: impl AsFd) -> io::Result<()> {
    send(socket, GO_ON, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The agent's side: one packet, if there is one.
///
/// # Errors
/// `WouldBlock`, or a packet that is none of ours.
pub(crate) fn receive(socket: impl AsFd) -> io::Result<Report> {
    let mut bytes = vec![0; MAX_PACKET_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags)?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    parse(bytes.get(..received.bytes).unwrap_or(&bytes), descriptors)
}

fn parse(packet: &[u8], descriptors: Vec<OwnedFd>) -> io::Result<Report> {
    let mut descriptors = descriptors.into_iter();
    match (packet.split_first(), descriptors.next(), descriptors.next()) {
        (None, ..) => Ok(Report::Closed),
        (Some((&TERMINAL, [])), Some(master), None) => Ok(Report::Terminal(master)),
        (Some((&NAME_SOCKETS, [])), Some(datagrams), Some(connections)) => {
            Ok(Report::NameSockets(NameSockets { datagrams, connections }))
        }
        (Some((&EXECUTING, [])), None, None) => Ok(Report::Executing),
        (Some((&FAILED, error)), None, None) => {
            let error = AgentError::decode(error).map_err(io::Error::other)?;
            Ok(Report::Failed(error.into()))
        }
        _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_protocol::agent::ErrorCode;

    #[test]
    fn a_failure_arrives_as_it_was_sent() {
        let (agent, stage) = channel().unwrap();
        let failure = Failure::new(ErrorCode::NoSuchUser, "unable to find user x");
        Reporter::new(stage).failed(failure.clone());
        assert!(matches!(receive(&agent).unwrap(), Report::Failed(got) if got == failure));
        assert!(matches!(receive(&agent).unwrap(), Report::Closed));
    }

    #[test]
    fn a_terminal_arrives_as_a_descriptor_of_the_same_file() {
        let (agent, stage) = channel().unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        Reporter::new(stage).terminal(reader.as_fd()).unwrap();
        let Report::Terminal(received) = receive(&agent).unwrap() else { panic!("no terminal") };
        rustix::io::write(&writer, b"hello").unwrap();
        let mut bytes = [0; 5];
        rustix::io::read(&received, &mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
    }

    #[test]
    fn a_stage_waits_for_the_agents_word() {
        let (agent, stage) = channel().unwrap();
        let reporter = Reporter::new(stage);
        let_go_on(&agent).unwrap();
        reporter.wait_to_go_on().unwrap();
        drop(agent);
        assert!(reporter.wait_to_go_on().is_err());
    }

    #[test]
    fn an_endless_message_is_cut_at_a_character() {
        let (agent, stage) = channel().unwrap();
        Reporter::new(stage).failed(Failure::invalid("ä".repeat(MAX_PACKET_BYTES)));
        let Report::Failed(failure) = receive(&agent).unwrap() else { panic!("no failure") };
        assert_eq!(failure.message.len(), MAX_MESSAGE_BYTES);
    }

    #[test]
    fn an_open_silent_socket_is_not_yet_an_end() {
        let (agent, _stage) = channel().unwrap();
        assert_eq!(receive(&agent).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(parse(b"?", Vec::new()).is_err());
        assert!(parse(&[TERMINAL], Vec::new()).is_err());
        let (one, _other) = channel().unwrap();
        assert!(parse(&[NAME_SOCKETS], vec![one]).is_err());
    }
}
