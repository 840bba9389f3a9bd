//! What the agent does to network interfaces, over rtnetlink: it brings up the loopback interface, gives its
//! cards to the containers whose they are, and sets them up there.
//!
//! Chooses nothing: names, addresses and routes come with the request.

mod connection;
mod interface;
mod netlink;

use std::fmt;
use std::io;

pub(crate) use connection::{connect, disconnect};
pub(crate) use interface::{check, give_to, set_up};
use netlink::{IFF_UP, Message};

/// In every network namespace the loopback interface is created first.
const LOOPBACK: &str = "lo";

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
    Message::change_of(LOOPBACK).up(true).ask()
}

/// Gives an interface another address. It is down for a moment, in which it forgets its neighbours; one that was down
/// stays so.
///
/// # Errors
/// What the kernel answered: above all that there is no such interface.
pub(crate) fn replace_mac_address(interface: &str, address: MacAddress) -> io::Result<()> {
    let was_up = is_up(interface)?;
    if was_up {
        Message::change_of(interface).up(false).ask()?;
    }
    Message::change_of(interface).mac_address(address).ask()?;
    if was_up { Message::change_of(interface).up(true).ask() } else { Ok(()) }
}

fn is_up(interface: &str) -> io::Result<bool> {
    let flags = std::fs::read_to_string(format!("/sys/class/net/{interface}/flags"))?;
    let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).map_err(io::Error::other)?;
    Ok(flags & IFF_UP != 0)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Runs `story` in a network namespace of its own, with a /sys that shows it; says so where that takes root.
    pub(in crate::network) fn in_a_network_namespace(test: &str, story: impl FnOnce() + Send) {
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
            Message::change_of("card").up(true).ask().unwrap();
            replace_mac_address("card", address(&[2, 0, 0, 0, 0, 0xfe])).unwrap();
            assert_eq!((shown().as_str(), is_up("card").unwrap()), ("02:00:00:00:00:fe", true));
            assert!(replace_mac_address("nosuch", address(&[2, 0, 0, 0, 0, 1])).is_err());
        });
    }
}
