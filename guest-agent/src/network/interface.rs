//! A container's network interfaces: cards of the guest's that are moved into the container's namespace and set up there.
//!
//! A card whose namespace ends comes back by itself, and can be given to another.

use std::io;
use std::net::IpAddr;

use berth_protocol::agent::NetworkInterface;
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

use super::MacAddress;
use super::netlink::Message;

/// `IFNAMSIZ` of Linux, without the zero at the end.
const MAX_NAME_BYTES: usize = 15;
/// What IPv4 takes for granted (RFC 791, section 3.2).
const MIN_MTU_BYTES: u32 = 68;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("interfaces.{field}: {value:?} is none")]
pub(crate) struct InvalidInterface {
    pub(super) field: &'static str,
    pub(super) value: String,
}

/// An interface as it was asked for, understood.
struct Interface<'a> {
    name: &'a str,
    mac: Option<MacAddress>,
    addresses: Vec<(IpAddr, u8)>,
    gateways: Vec<IpAddr>,
    mtu_bytes: Option<u32>,
}

/// # Errors
/// The first field that is wrong.
pub(crate) fn check(request: &NetworkInterface) -> Result<(), InvalidInterface> {
    check_name("card", &request.card)?;
    understand(request).map(|_interface| ())
}

fn understand(request: &NetworkInterface) -> Result<Interface<'_>, InvalidInterface> {
    let invalid = |field, value: &dyn ToString| InvalidInterface { field, value: value.to_string() };
    check_name("name", &request.name)?;
    let mac = match request.mac_address.as_slice() {
        [] => None,
        bytes => {
            let mac = MacAddress::of_one_station(bytes);
            Some(mac.ok_or_else(|| invalid("mac_address", &format!("{bytes:02x?}")))?)
        }
    };
    let address = |text: &String| with_prefix(text).ok_or_else(|| invalid("addresses", text));
    let gateway = |text: &String| text.parse().map_err(|_| invalid("gateways", text));
    if request.mtu_bytes != 0 && request.mtu_bytes < MIN_MTU_BYTES {
        return Err(invalid("mtu_bytes", &request.mtu_bytes));
    }
    Ok(Interface {
        name: &request.name,
        mac,
        addresses: request.addresses.iter().map(address).collect::<Result<_, _>>()?,
        gateways: request.gateways.iter().map(gateway).collect::<Result<_, _>>()?,
        mtu_bytes: Some(request.mtu_bytes).filter(|mtu| *mtu != 0),
    })
}

pub(super) fn check_name(field: &'static str, name: &str) -> Result<(), InvalidInterface> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':' | b'%');
    let is_name = (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(plain);
    if is_name && !matches!(name, "." | "..") {
        return Ok(());
    }
    Err(InvalidInterface { field, value: name.to_owned() })
}

/// "10.0.0.2/16".
fn with_prefix(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let (address, length): (IpAddr, u8) = (address.parse().ok()?, length.parse().ok()?);
    let longest = if address.is_ipv4() { 32 } else { 128 };
    (length <= longest).then_some((address, length))
}

/// Moves a card from the agent's own namespace to that of a process.
///
/// # Errors
/// What the kernel answered: above all that there is no such card.
pub(crate) fn give_to(pid: u32, card: &str) -> io::Result<()> {
    Message::change_of(card).up(false).into_namespace_of(pid).ask()
}

/// Sets up a card that was moved to the namespace of this process.
///
/// # Errors
/// What the kernel answered, or a field that [`check`] would have refused.
pub(crate) fn set_up(request: &NetworkInterface) -> io::Result<()> {
    let interface = understand(request).map_err(io::Error::other)?;
    let index = index_of(&request.card)?;
    let mut change = Message::change_of_number(index).name(interface.name);
    if let Some(mac) = interface.mac {
        change = change.mac_address(mac);
    }
    if let Some(mtu_bytes) = interface.mtu_bytes {
        change = change.mtu(mtu_bytes);
    }
    change.ask()?;
    if !interface.addresses.iter().any(|(address, _)| address.is_ipv6()) {
        turn_ipv6_off(interface.name)?;
    }
    for (address, prefix_length) in interface.addresses {
        Message::address(index, address, prefix_length).ask()?;
    }
    Message::change_of_number(index).up(true).ask()?;
    for gateway in interface.gateways {
        Message::default_route(index, gateway).ask()?;
    }
    Ok(())
}

/// An interface gives itself an address otherwise, and tells the neighbourhood.
fn turn_ipv6_off(interface: &str) -> io::Result<()> {
    match std::fs::write(format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"), "1") {
        // A kernel without IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

pub(super) fn index_of(name: &str) -> io::Result<u32> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    Ok(netdevice::name_to_index(&socket, name)?)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::tests::in_a_network_namespace;
    use super::*;

    fn request() -> NetworkInterface {
        NetworkInterface {
            card: "card".into(),
            name: "eth0".into(),
            mac_address: vec![2, 0x42, 10, 9, 0, 2],
            addresses: vec!["10.9.0.2/16".into(), "fd00:9::2/64".into()],
            gateways: vec!["10.9.0.1".into(), "fd00:9::1".into()],
            mtu_bytes: 1400,
        }
    }

    fn ip(arguments: &[&str]) -> String {
        let output = Command::new("ip").args(arguments).output().unwrap();
        assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn a_card_is_moved_and_set_up_as_asked_for() {
        in_a_network_namespace("a_card_is_moved_and_set_up_as_asked_for", || {
            ip(&["link", "add", "card", "type", "veth", "peer", "name", "other"]);
            ip(&["link", "set", "card", "up"]);
            // A process in a namespace of its own, as a container's first process is.
            let mut child = Command::new("unshare").args(["--net", "sleep", "60"]).spawn().unwrap();
            let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
            // The card's other end is there, and ends with a namespace that nobody has any more.
            let _home = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
            let its = format!("/proc/{}/ns/net", child.id());
            while std::fs::read_link(&its).unwrap() == own {
                std::thread::yield_now();
            }
            give_to(child.id(), "card").unwrap();
            assert!(give_to(child.id(), "card").is_err(), "it is not here any more");
            nix::sched::setns(std::fs::File::open(&its).unwrap(), nix::sched::CloneFlags::CLONE_NEWNET)
                .unwrap();
            set_up(&request()).unwrap();
            let link = ip(&["link", "show", "dev", "eth0"]);
            assert!(link.contains("mtu 1400") && link.contains("02:42:0a:09:00:02"), "{link}");
            let addresses = ip(&["address", "show", "dev", "eth0"]);
            assert!(
                addresses.contains("inet 10.9.0.2/16") && addresses.contains("inet6 fd00:9::2/64"),
                "{addresses}"
            );
            assert!(!addresses.contains("tentative") || addresses.contains("NO-CARRIER"), "{addresses}");
            child.kill().unwrap();
            child.wait().unwrap();
        });
    }

    #[test]
    fn routes_lead_to_the_gateways() {
        in_a_network_namespace("routes_lead_to_the_gateways", || {
            ip(&["link", "add", "card", "type", "veth", "peer", "name", "other"]);
            ip(&["link", "set", "other", "up"]);
            set_up(&request()).unwrap();
            let routes = ip(&["route"]) + &ip(&["-6", "route"]);
            assert!(routes.contains("default via 10.9.0.1 dev eth0"), "{routes}");
            assert!(routes.contains("default via fd00:9::1 dev eth0"), "{routes}");
        });
    }

    #[test]
    fn what_is_no_interface_is_refused_by_field() {
        type Break = fn(&mut NetworkInterface);
        let cases: [(&str, Break); 7] = [
            ("card", |request| request.card = "../eth0".into()),
            ("name", |request| request.name = String::new()),
            ("name", |request| request.name = "sixteen-letters-".into()),
            ("mac_address", |request| request.mac_address = vec![1, 0, 0, 0, 0, 0]),
            ("addresses", |request| request.addresses = vec!["10.0.0.1/33".into()]),
            ("gateways", |request| request.gateways = vec!["nowhere".into()]),
            ("mtu_bytes", |request| request.mtu_bytes = 67),
        ];
        for (field, spoil) in cases {
            let mut request = request();
            spoil(&mut request);
            assert_eq!(check(&request).unwrap_err().field, field);
        }
        assert_eq!(check(&request()), Ok(()));
    }
}
