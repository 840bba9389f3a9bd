//! Messages of rtnetlink(7), one request and its acknowledgement at a time.
//!
//! Only what the agent asks for can be said: changes of links, new addresses, new routes.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

use super::MacAddress;

/// Message types, flags and attributes of `linux/netlink.h`, `linux/rtnetlink.h`, `linux/if_link.h` and
/// `linux/if_addr.h`.
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_NET_NS_PID: u16 = 19;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// No other can have an address that the host gave: nobody has to be asked.
const IFA_F_NODAD: u8 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;
pub(super) const IFF_UP: u32 = 1;

/// `struct nlmsghdr`; `struct ifinfomsg` behind it is as long.
const HEADER_BYTES: usize = 16;
const ATTRIBUTE_HEADER_BYTES: usize = 4;
const ALIGNMENT_BYTES: usize = 4;

/// A request to the kernel.
pub(super) struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut message = vec![0; HEADER_BYTES];
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        message[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
        message.extend_from_slice(body);
        Self(message).with_length()
    }

    /// Changes a link, which is meant by its name.
    pub(super) fn change_of(interface: &str) -> Self {
        Self::new(RTM_NEWLINK, 0, &[0; HEADER_BYTES]).name(interface)
    }

    /// Changes a link, which is meant by its number: its name may be what changes.
    pub(super) fn change_of_number(index: u32) -> Self {
        let mut body = [0; HEADER_BYTES];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        Self::new(RTM_NEWLINK, 0, &body)
    }

    /// Gives a link an address.
    pub(super) fn address(index: u32, address: IpAddr, prefix_length: u8) -> Self {
        let mut body = vec![family(address), prefix_length, IFA_F_NODAD, 0];
        body.extend(index.to_ne_bytes());
        let message = Self::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &body);
        message.attribute(IFA_LOCAL, &octets(address)).attribute(IFA_ADDRESS, &octets(address))
    }

    /// Sends all that has no other way by a link, to this gateway.
    pub(super) fn default_route(index: u32, gateway: IpAddr) -> Self {
        let mut body = vec![family(gateway), 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, 0, RTN_UNICAST];
        body.extend(0_u32.to_ne_bytes());
        let message = Self::new(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &body);
        message.attribute(RTA_GATEWAY, &octets(gateway)).attribute(RTA_OIF, &index.to_ne_bytes())
    }

    pub(super) fn name(self, name: &str) -> Self {
        self.attribute(IFLA_IFNAME, &[name.as_bytes(), &[0]].concat())
    }

    pub(super) fn mac_address(self, address: MacAddress) -> Self {
        self.attribute(IFLA_ADDRESS, &address.0)
    }

    pub(super) fn mtu(self, bytes: u32) -> Self {
        self.attribute(IFLA_MTU, &bytes.to_ne_bytes())
    }

    /// Moves it to the network namespace that a process is in.
    pub(super) fn into_namespace_of(self, pid: u32) -> Self {
        self.attribute(IFLA_NET_NS_PID, &pid.to_ne_bytes())
    }

    /// Moves it to this network namespace.
    pub(super) fn into_namespace(self, namespace: BorrowedFd<'_>) -> Self {
        self.attribute(IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes())
    }

    /// Of a change of a link.
    pub(super) fn up(mut self, up: bool) -> Self {
        let flags = if up { IFF_UP } else { 0 };
        self.0[24..28].copy_from_slice(&flags.to_ne_bytes());
        self.0[28..32].copy_from_slice(&IFF_UP.to_ne_bytes());
        self
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length =
            u16::try_from(ATTRIBUTE_HEADER_BYTES + value.len()).expect("names and addresses are short");
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(ALIGNMENT_BYTES), 0);
        self.with_length()
    }

    fn with_length(mut self) -> Self {
        let length = u32::try_from(self.0.len()).expect("a few attributes");
        self.0[0..4].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// # Errors
    /// What the kernel answered.
    pub(super) fn ask(&self) -> io::Result<()> {
        // The protocol NETLINK_ROUTE is number 0, which is what "none" says.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        send(&socket, &self.0, SendFlags::empty())?;
        let mut answer = [0; 256];
        let (_, length) = recv(&socket, &mut answer, RecvFlags::empty())?;
        check_answer(answer.get(..length).unwrap_or(&answer))
    }
}

fn family(address: IpAddr) -> u8 {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    u8::try_from(family.as_raw()).expect("both are small")
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
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
}
