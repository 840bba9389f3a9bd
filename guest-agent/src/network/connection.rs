//! Cards that come into a container while it runs, and go from it.
//!
//! The container's namespace is entered by the agent's one thread for as long as it asks the kernel, and left before
//! anything else is done.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use berth_protocol::agent::{DefaultRoute, DisconnectInterface, NetworkInterface};
use nix::sched::{CloneFlags, setns};

use super::interface::{InvalidInterface, check_name, give_to, index_of, set_up};
use super::netlink::Message;

const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";

/// Gives a card to the container of the process `pid`, and sets it up there. One that cannot be set up comes back.
///
/// # Errors
/// What the kernel answered: above all that there is no such card, or that the container has such an interface.
pub(crate) fn connect(pid: u32, process: BorrowedFd<'_>, interface: &NetworkInterface) -> io::Result<()> {
    give_to(pid, &interface.card)?;
    inside(process, |home| {
        set_up(interface).inspect_err(|_| {
            // Under one of its two names it is there.
            let _not_renamed_yet = take_back(home, &interface.card, &interface.card);
            let _renamed = take_back(home, &interface.name, &interface.card);
        })
    })
}

/// Takes a card back from the container of that process, whose packets for elsewhere leave by `default_routes` then.
///
/// # Errors
/// A field that is no name or address, or what the kernel answered: above all that there is no such interface.
pub(crate) fn disconnect(process: BorrowedFd<'_>, request: &DisconnectInterface) -> io::Result<()> {
    let routes = check(request).map_err(io::Error::other)?;
    inside(process, |home| {
        take_back(home, &request.name, &request.card)?;
        for (interface, gateway) in routes {
            Message::default_route(index_of(interface)?, gateway).ask()?;
        }
        Ok(())
    })
}

fn check(request: &DisconnectInterface) -> Result<Vec<(&str, IpAddr)>, InvalidInterface> {
    check_name("card", &request.card)?;
    check_name("name", &request.name)?;
    let route = |route: &'_ DefaultRoute| -> Result<IpAddr, InvalidInterface> {
        check_name("default_routes.interface", &route.interface)?;
        let invalid = |_| InvalidInterface { field: "default_routes.gateway", value: route.gateway.clone() };
        route.gateway.parse().map_err(invalid)
    };
    request.default_routes.iter().map(|asked| Ok((asked.interface.as_str(), route(asked)?))).collect()
}

/// Its addresses and routes go with the move.
fn take_back(home: BorrowedFd<'_>, name: &str, card: &str) -> io::Result<()> {
    Message::change_of_number(index_of(name)?).name(card).up(false).into_namespace(home).ask()
}

/// Does it in the network namespace of that process; `act` is given our own.
fn inside<T>(process: BorrowedFd<'_>, act: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
    let home = File::open(OWN_NAMESPACE)?;
    setns(process, CloneFlags::CLONE_NEWNET)?;
    let done = act(home.as_fd());
    setns(&home, CloneFlags::CLONE_NEWNET).expect("a thread may always return to its own network namespace");
    done
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::super::tests::in_a_network_namespace;
    use super::*;

    fn ip(arguments: &[&str]) -> String {
        let output = Command::new("ip").args(arguments).output().unwrap();
        assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A process in a namespace of its own, as a container's first process is.
    struct Container(Child);

    impl Container {
        fn start() -> Self {
            let child = Command::new("unshare").args(["--net", "sleep", "60"]).spawn().unwrap();
            let own = std::fs::read_link(OWN_NAMESPACE).unwrap();
            let its = format!("/proc/{}/ns/net", child.id());
            while std::fs::read_link(&its).unwrap() == own {
                std::thread::yield_now();
            }
            Self(child)
        }

        fn ip(&self, arguments: &str) -> String {
            let net = format!("--net=/proc/{}/ns/net", self.0.id());
            let output =
                Command::new("nsenter").arg(net).arg("ip").args(arguments.split(' ')).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        }

        fn pidfd(&self) -> std::os::fd::OwnedFd {
            pidfd_open(Pid::from_child(&self.0), PidfdFlags::empty()).unwrap()
        }
    }

    impl Drop for Container {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    fn card(number: u8) -> NetworkInterface {
        let (card, peer) = (format!("card{number}"), format!("peer{number}"));
        ip(&["link", "add", &card, "type", "veth", "peer", "name", &peer]);
        ip(&["link", "set", &peer, "up"]);
        NetworkInterface {
            card,
            name: format!("eth{number}"),
            mac_address: vec![2, 0x42, 10, 9, number, 2],
            addresses: vec![format!("10.9.{number}.2/24"), format!("fd00:{number}::2/64")],
            gateways: vec![format!("10.9.{number}.1"), format!("fd00:{number}::1")],
            mtu_bytes: 1400,
        }
    }

    fn disconnection(number: u8, routes: &[(&str, &str)]) -> DisconnectInterface {
        let route = |(interface, gateway): &(&str, &str)| DefaultRoute {
            interface: (*interface).into(),
            gateway: (*gateway).into(),
        };
        DisconnectInterface {
            container_id: String::new(),
            card: format!("card{number}"),
            name: format!("eth{number}"),
            default_routes: routes.iter().map(route).collect(),
        }
    }

    #[test]
    fn cards_come_and_go_and_the_way_out_with_them() {
        in_a_network_namespace("cards_come_and_go_and_the_way_out_with_them", || {
            let container = Container::start();
            let (pid, pidfd) = (container.0.id(), container.pidfd());
            let own = std::fs::read_link(OWN_NAMESPACE).unwrap();
            for number in [0, 1] {
                connect(pid, pidfd.as_fd(), &card(number)).unwrap();
            }
            // Whoever comes last with gateways has the way out.
            let routes = container.ip("route") + &container.ip("-6 route");
            assert!(routes.contains("default via 10.9.1.1 dev eth1"), "{routes}");
            assert!(routes.contains("default via fd00:1::1 dev eth1"), "{routes}");
            assert_eq!(routes.matches("default").count(), 2, "{routes}");

            let back = [("eth0", "10.9.0.1"), ("eth0", "fd00:0::1")];
            disconnect(pidfd.as_fd(), &disconnection(1, &back)).unwrap();
            let routes = container.ip("route") + &container.ip("-6 route");
            assert!(routes.contains("default via 10.9.0.1 dev eth0"), "{routes}");
            assert!(routes.contains("default via fd00::1 dev eth0"), "{routes}");
            assert!(!routes.contains("eth1"), "{routes}");
            assert_eq!(std::fs::read_link(OWN_NAMESPACE).unwrap(), own);
            let link = ip(&["address", "show", "dev", "card1"]);
            assert!(!link.contains("10.9.1.2") && link.contains("state DOWN"), "{link}");
            assert!(disconnect(pidfd.as_fd(), &disconnection(1, &[])).is_err(), "it is not there any more");

            // What cannot be set up is given back at once, and what was given back can be given again.
            let taken = NetworkInterface { name: "eth0".into(), ..card(2) };
            assert!(connect(pid, pidfd.as_fd(), &taken).is_err());
            assert_eq!(std::fs::read_link(OWN_NAMESPACE).unwrap(), own);
            ip(&["link", "show", "dev", "card2"]);
            connect(pid, pidfd.as_fd(), &NetworkInterface { name: "eth2".into(), ..taken }).unwrap();
            assert!(container.ip("link").contains("eth2"));
        });
    }

    #[test]
    fn what_is_no_name_or_address_is_refused_by_field() {
        type Break = fn(&mut DisconnectInterface);
        let cases: [(&str, Break); 4] = [
            ("card", |request| request.card = "../x".into()),
            ("name", |request| request.name = String::new()),
            ("default_routes.interface", |request| request.default_routes[0].interface = "a b".into()),
            ("default_routes.gateway", |request| request.default_routes[0].gateway = "there".into()),
        ];
        for (field, spoil) in cases {
            let mut request = disconnection(1, &[("eth0", "10.9.0.1")]);
            spoil(&mut request);
            assert_eq!(check(&request).unwrap_err().field, field);
        }
    }
}
