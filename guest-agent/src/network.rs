//! What the agent does to network interfaces of its own namespace, over rtnetlink: it brings up the loopback interface,
//! and gives a card of a restored machine its new address.
//!
//! Knows neither addresses of the network layer nor routes.

use std::fmt;
use std::io;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// In every network namespace the loopback interface is created first.
const LOOPBACK: &str = "lo";

/// Message types, flags and attributes of `linux/netlink.h`, `linux/rtnetlink.h` and `linux/if_link.h`.
const RTM_NEWLINK: u16 = 16;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFF_UP: u32 = 1;

/// `struct nlmsghdr`; `struct ifinfomsg` behind it is as long.
const HEADER_BYTES: usize = 16;
const ATTRIBUTE_HEADER_BYTES: usize = 4;
const ALIGNMENT_BYTES: usize = 4;

/// The address of one station: not of a group, not zero (IEEE 802, clause 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MacAddress([u8; 6]);

impl MacAddress {
    pub(crate) fn of_one_station(bytes: &[u8]) -> Option<Self> {
        let address: [u8; 6] = bytes.try_into().ok()?;
        let is_group = address.first().is_some_and(|first| first & 1 != 0);
        (!is_group && address != [0; 6]).then_some(Self(address))
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, last] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{last:02x}")
    }
}

/// Sets the loopback interface up.
///
/// # Errors
/// What the kernel answered.
pub(crate) fn bring_up_loopback() -> io::Result<()> {
    ask(&Change::of(LOOPBACK).up(true))
}

/// Gives an interface another address. It is down for a moment, in which it forgets its neighbours; one that was down
/// stays so.
///
/// # Errors
/// What the kernel answered: above all that there is no such interface.
pub(crate) fn replace_mac_address(interface: &str, address: MacAddress) -> io::Result<()> {
    let was_up = is_up(interface)?;
    if was_up {
        ask(&Change::of(interface).up(false))?;
    }
    ask(&Change::of(interface).attribute(IFLA_ADDRESS, &address.0))?;
    if was_up { ask(&Change::of(interface).up(true)) } else { Ok(()) }
}

fn is_up(interface: &str) -> io::Result<bool> {
    let flags = std::fs::read_to_string(format!("/sys/class/net/{interface}/flags"))?;
    let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).map_err(io::Error::other)?;
    Ok(flags & IFF_UP != 0)
}

/// A message that changes an interface.
struct Change(Vec<u8>);

impl Change {
    /// Header, `struct ifinfomsg` without an index, and the name instead.
    fn of(interface: &str) -> Self {
        let mut message = vec![0; 2 * HEADER_BYTES];
        message[4..6].copy_from_slice(&RTM_NEWLINK.to_ne_bytes());
        message[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        Self(message).attribute(IFLA_IFNAME, &[interface.as_bytes(), &[0]].concat())
    }

    fn up(mut self, up: bool) -> Self {
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
        let length = u32::try_from(self.0.len()).expect("a few attributes");
        self.0[0..4].copy_from_slice(&length.to_ne_bytes());
        self
    }
}

fn ask(change: &Change) -> io::Result<()> {
    // The protocol NETLINK_ROUTE is number 0, which is what "none" says.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    send(&socket, &change.0, SendFlags::empty())?;
    let mut answer = [0; 256];
    let (_, length) = recv(&socket, &mut answer, RecvFlags::empty())?;
    check_answer(answer.get(..length).unwrap_or(&answer))
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

    /// Runs `story` in a network namespace of its own, with a /sys that shows it; says so where that takes root.
    fn in_a_network_namespace(test: &str, story: impl FnOnce() + Send) {
        use nix::mount::{MsFlags, mount};
        use nix::sched::{CloneFlags, unshare};
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: {test}: a network namespace takes root");
            return;
        }
        std::thread::scope(|scope| {
            scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).unwrap();
                let nothing = None::<&str>;
                mount(nothing, "/", nothing, MsFlags::MS_PRIVATE | MsFlags::MS_REC, nothing).unwrap();
                mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), nothing).unwrap();
                story();
            });
        });
    }

    #[test]
    fn the_loopback_of_a_fresh_namespace_comes_up() {
        in_a_network_namespace("the_loopback_of_a_fresh_namespace_comes_up", || {
            assert!(!is_up("lo").unwrap());
            bring_up_loopback().unwrap();
            assert!(is_up("lo").unwrap());
            std::net::TcpListener::bind("127.0.0.1:0")
                .and_then(|listener| std::net::TcpStream::connect(listener.local_addr()?))
                .expect("a connection over lo");
        });
    }

    #[test]
    fn a_card_gets_another_address_and_is_up_again() {
        in_a_network_namespace("a_card_gets_another_address_and_is_up_again", || {
            let made =
                std::process::Command::new("ip").args(["link", "add", "card", "type", "bridge"]).status();
            if !made.is_ok_and(|status| status.success()) {
                eprintln!(
                    "skipped: a_card_gets_another_address_and_is_up_again: ip cannot make an interface"
                );
                return;
            }
            let address = |bytes| MacAddress::of_one_station(bytes).unwrap();
            let shown = || std::fs::read_to_string("/sys/class/net/card/address").unwrap().trim().to_owned();
            replace_mac_address("card", address(&[2, 0, 0, 0, 0, 1])).unwrap();
            assert_eq!((shown().as_str(), is_up("card").unwrap()), ("02:00:00:00:00:01", false));
            ask(&Change::of("card").up(true)).unwrap();
            replace_mac_address("card", address(&[2, 0, 0, 0, 0, 0xfe])).unwrap();
            assert_eq!((shown().as_str(), is_up("card").unwrap()), ("02:00:00:00:00:fe", true));
            assert!(replace_mac_address("nosuch", address(&[2, 0, 0, 0, 0, 1])).is_err());
        });
    }
}
