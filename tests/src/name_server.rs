//! A name server of a test's own, in a network namespace: it has an address for every name, and one answer that is too
//! long for a datagram.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::thread;

use crate::namespace::Namespace;

/// What every name is at.
pub const EVERYWHERE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
/// A name of one label that begins so has the long answer.
const BIG: &[u8] = b"big";
/// The bytes that the long answer has behind its question.
pub const LONG_BYTES: usize = 60_000;

const HEADER_BYTES: usize = 12;
const ANSWER: u8 = 0x80;
const TRUNCATED: u8 = 0x02;

/// Serves at the namespace's address for as long as the test's process lives.
///
/// # Panics
/// If it cannot.
pub fn serve(namespace: &Namespace) {
    let address = SocketAddr::new(namespace.ip(), 53);
    let (socket, listener) = namespace.visit(move || {
        (UdpSocket::bind(address).expect("the port is free"), TcpListener::bind(address).expect("so is this"))
    });
    thread::spawn(move || serve_datagrams(&socket));
    thread::spawn(move || serve_connections(&listener));
}

fn serve_datagrams(socket: &UdpSocket) {
    let mut buffer = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let question = &buffer[..length];
        let answer = match is_big(question) {
            true => header(question, ANSWER | TRUNCATED),
            false => with_address(question),
        };
        let _gone = socket.send_to(&answer, from);
    }
}

fn serve_connections(listener: &TcpListener) {
    for mut connection in listener.incoming().flatten() {
        let mut length = [0; 2];
        let mut question = Vec::new();
        let read = connection.read_exact(&mut length).and_then(|()| {
            question.resize(u16::from_be_bytes(length).into(), 0);
            connection.read_exact(&mut question)
        });
        if read.is_ok() {
            let answer = [header(&question, ANSWER), vec![b'x'; LONG_BYTES]].concat();
            let length = u16::try_from(answer.len()).expect("a question is short");
            let _gone = connection.write_all(&[&length.to_be_bytes(), answer.as_slice()].concat());
        }
    }
}

fn is_big(question: &[u8]) -> bool {
    question.get(HEADER_BYTES + 1..).is_some_and(|name| name.starts_with(BIG))
}

/// The question as an answer without records.
fn header(question: &[u8], flags: u8) -> Vec<u8> {
    let mut answer = question.to_vec();
    answer[2] |= flags;
    answer[3] = 0x80;
    answer
}

/// An A record for a question for one; nothing for others.
fn with_address(question: &[u8]) -> Vec<u8> {
    let end = HEADER_BYTES + question[HEADER_BYTES..].iter().position(|byte| *byte == 0).unwrap_or(0) + 5;
    let mut answer = header(&question[..end.min(question.len())], ANSWER);
    answer[8..12].fill(0);
    if answer.ends_with(&[0, 1, 0, 1]) {
        answer[7] = 1;
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(EVERYWHERE.octets());
    }
    answer
}
