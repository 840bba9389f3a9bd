//! Brings up the loopback interface of the calling process's network namespace, over rtnetlink.
//!
//! Configures no other interface.

use std::io;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// In every network namespace the loopback interface is created first.
const LOOPBACK_INDEX: i32 = 1;

/// Message types and flags of `linux/netlink.h` and `linux/rtnetlink.h`.
const RTM_NEWLINK: u16 = 16;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const IFF_UP: u32 = 1;

/// `struct nlmsghdr` and `struct ifinfomsg`, one after the other.
const HEADER_BYTES: usize = 16;
const REQUEST_BYTES: usize = HEADER_BYTES + 16;

/// Sets the loopback interface up.
///
/// # Errors
/// What the kernel answered.
pub(crate) fn bring_up_loopback() -> io::Result<()> {
    // The protocol NETLINK_ROUTE is number 0, which is what "none" says.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    send(&socket, &up_request(LOOPBACK_INDEX), SendFlags::empty())?;
    let mut answer = [0; 256];
    let (_, length) = recv(&socket, &mut answer, RecvFlags::empty())?;
    check_answer(answer.get(..length).unwrap_or(&answer))
}

fn up_request(interface_index: i32) -> [u8; REQUEST_BYTES] {
    let mut request = [0; REQUEST_BYTES];
    request[0..4].copy_from_slice(&u32::try_from(REQUEST_BYTES).expect("32 bytes").to_ne_bytes());
    request[4..6].copy_from_slice(&RTM_NEWLINK.to_ne_bytes());
    request[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    request[20..24].copy_from_slice(&interface_index.to_ne_bytes());
    request[24..28].copy_from_slice(&IFF_UP.to_ne_bytes());
    request[28..32].copy_from_slice(&IFF_UP.to_ne_bytes());
    request
}

/// An acknowledgement is an error message with the error 0.
fn check_answer(answer: &[u8]) -> io::Result<()> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let kind: [u8; 2] = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).ok_or_else(malformed)?;
    let code = answer.get(HEADER_BYTES..HEADER_BYTES + 4).and_then(|bytes| bytes.try_into().ok());
    let code = i32::from_ne_bytes(code.ok_or_else(malformed)?);
    match (u16::from_ne_bytes(kind), code) {
        (NLMSG_ERROR, 0) => Ok(()),
        (NLMSG_ERROR, code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_checked_before_it_is_believed() {
        let mut answer = [0; 20];
        answer[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        assert!(check_answer(&answer).is_ok());
        answer[16..20].copy_from_slice(&(-1_i32).to_ne_bytes());
        assert_eq!(check_answer(&answer).unwrap_err().raw_os_error(), Some(1));
        assert!(check_answer(&answer[..10]).is_err());
    }

    #[test]
    fn the_loopback_of_a_fresh_namespace_comes_up() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: the_loopback_of_a_fresh_namespace_comes_up: a network namespace takes root");
            return;
        }
        let flags = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            bring_up_loopback().unwrap();
            std::net::TcpListener::bind("127.0.0.1:0")
                .and_then(|listener| std::net::TcpStream::connect(listener.local_addr()?))
        });
        flags.join().unwrap().expect("a connection over lo");
    }
}
