//! What passes and what does not: a host with two networks and a way out, in a network namespace, and a hostile guest that
//! writes whatever frames it likes.

use std::time::Duration;

use super::super::super::lan::{
    Frame, Lan, arp_request, ipv4_tcp_syn, ipv4_udp, ipv6_udp, neighbour_advertisement,
};
use super::*;

const A: [u8; 6] = [2, 0, 0, 0, 0, 2];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 99];
const BROADCAST: [u8; 6] = [0xff; 6];

fn lan(test: &str) -> Option<(Lan, Firewall)> {
    let firewall = firewall(test, "berth_test")?;
    Some((Lan::new(), firewall))
}

fn publication(host_address: &str, host_port: u16) -> Publication {
    let address = ip("10.9.0.2");
    Publication { protocol: Protocol::Tcp, host_address: ip(host_address), host_port, address, port: 80 }
}

#[test]
fn a_station_sends_as_itself_and_as_nobody_else() {
    let test = "a_station_sends_as_itself_and_as_nobody_else";
    in_a_network_namespace(test, async || {
        let Some((lan, firewall)) = lan(test) else { return };
        lan.network("br-a", "10.9.0.1/24", &["tapa2", "tapa3"]).await;
        firewall.add_network(&network("br-a", &["10.9.0.0/24", "fd00:9::/64"], WayOut::Masqueraded)).unwrap();
        for (card, last) in [("tapa2", 2), ("tapa3", 3)] {
            firewall.add_station(&station(card, last)).unwrap();
        }
        let b = [2, 0, 0, 0, 0, 3];
        let honest = [
            arp_request(A, ip("10.9.0.2"), ip("10.9.0.3")),
            ipv4_udp(A, b, ip("10.9.0.2"), ip("10.9.0.3"), 1, 2),
            ipv6_udp(A, b, ip("fd00:9::2"), ip("fd00:9::3")),
            neighbour_advertisement(A, BROADCAST, ip("fd00:9::2"), ip("fd00:9::2")),
        ];
        let hostile = [
            ("another's MAC", arp_request(OTHER, ip("10.9.0.2"), ip("10.9.0.3"))),
            ("another's address in ARP", arp_request(A, ip("10.9.0.1"), ip("10.9.0.3"))),
            ("another's MAC in ARP", arp_request(A, ip("10.9.0.2"), ip("10.9.0.3")).with_bytes(22, &OTHER)),
            ("another's address", ipv4_udp(A, b, ip("10.9.0.3"), ip("10.9.0.3"), 1, 2)),
            ("no address", ipv4_udp(A, b, ip("0.0.0.0"), ip("255.255.255.255"), 68, 67)),
            ("another's IPv6 address", ipv6_udp(A, b, ip("fd00:9::3"), ip("fd00:9::3"))),
            ("no IPv6 address", ipv6_udp(A, b, ip("::"), ip("fd00:9::3"))),
            (
                "another's neighbour advertisement",
                neighbour_advertisement(A, BROADCAST, ip("fd00:9::2"), ip("fd00:9::1")),
            ),
            (
                "a router's advertisement",
                neighbour_advertisement(A, BROADCAST, ip("fd00:9::2"), ip("fd00:9::2"))
                    .with_bytes(54, &[134]),
            ),
            ("a VLAN", ipv4_udp(A, b, ip("10.9.0.2"), ip("10.9.0.3"), 1, 2).with_bytes(12, &[0x81, 0x00])),
            ("a bridge's protocol", Frame::new(BROADCAST, A, 0x88cc, &[0; 46])),
        ];
        for frame in &honest {
            lan.send("tapa2", frame);
            assert!(lan.arrives("tapa3", |seen| seen == frame), "{frame:?}");
        }
        for (what, frame) in &hostile {
            lan.send("tapa2", frame);
            lan.send("tapa2", &honest[0]);
            let seen = lan.until("tapa3", |seen| *seen == honest[0]);
            assert!(!seen.contains(frame), "{what}");
        }
    });
}

#[test]
fn isolated_stations_do_not_hear_each_other() {
    let test = "isolated_stations_do_not_hear_each_other";
    in_a_network_namespace(test, async || {
        let Some((lan, firewall)) = lan(test) else { return };
        lan.network("br-a", "10.9.0.1/24", &["tapa2", "tapa3"]).await;
        for (card, last) in [("tapa2", 2), ("tapa3", 3)] {
            let isolated = Station { neighbours: Neighbours::Isolated, ..station(card, last) };
            firewall.add_station(&isolated).unwrap();
        }
        let hello = arp_request(A, ip("10.9.0.2"), ip("10.9.0.3"));
        lan.send("tapa2", &hello);
        // The host itself is heard: what it asks comes after what was sent before.
        lan.host_sends_udp("10.9.0.3:9");
        let seen = lan.until("tapa3", |seen| seen.is_arp_request_for(ip("10.9.0.3")) && *seen != hello);
        assert!(!seen.contains(&hello));
    });
}

#[test]
fn networks_do_not_reach_each_other_the_hosts_loopback_or_the_daemon() {
    let test = "networks_do_not_reach_each_other_the_hosts_loopback_or_the_daemon";
    in_a_network_namespace(test, async || {
        let Some((lan, firewall)) = lan(test) else { return };
        let a = lan.network("br-a", "10.9.0.1/24", &["tapa2"]).await;
        lan.network("br-b", "10.10.0.1/24", &["tapb3"]).await;
        for (bridge, subnet) in [("br-a", "10.9.0.0/24"), ("br-b", "10.10.0.0/24")] {
            firewall.add_network(&network(bridge, &[subnet], WayOut::Masqueraded)).unwrap();
        }
        firewall.add_station(&station("tapa2", 2)).unwrap();
        lan.neighbour("10.10.0.3", "br-b", [2, 0, 0, 0, 0, 3]);
        lan.neighbour("10.9.0.2", "br-a", A);

        let over = ipv4_udp(A, a, ip("10.9.0.2"), ip("10.10.0.3"), 1, 7);
        lan.send("tapa2", &over);
        lan.host_sends_udp("10.10.0.3:8");
        let seen = lan.until("tapb3", |seen| seen.udp_port() == Some(8));
        assert!(seen.iter().all(|frame| frame.udp_port() != Some(7)), "reached another network");

        // What comes for a loopback address is dropped, whatever is open there.
        let _open = std::net::UdpSocket::bind("0.0.0.0:7").unwrap();
        let loopback = ipv4_udp(A, a, ip("10.9.0.2"), ip("127.0.0.1"), 1, 7);
        lan.send("tapa2", &loopback);
        _open.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert!(_open.recv(&mut [0; 64]).is_err(), "reached the host's loopback");

        // A closed port is refused; the daemon's does not even do that.
        for port in [2376, 2377] {
            lan.send("tapa2", &ipv4_tcp_syn(A, a, ip("10.9.0.2"), ip("10.9.0.1"), 1000, port));
        }
        let seen = lan.until("tapa2", |seen| seen.tcp_ports() == Some((2377, 1000)));
        assert!(seen.iter().all(|frame| frame.tcp_ports() != Some((2376, 1000))), "reached the daemon");
    });
}

#[test]
fn what_leaves_bears_the_hosts_address_and_what_was_not_asked_for_stays_out() {
    let test = "what_leaves_bears_the_hosts_address_and_what_was_not_asked_for_stays_out";
    in_a_network_namespace(test, async || {
        let Some((lan, firewall)) = lan(test) else { return };
        let a = lan.network("br-a", "10.9.0.1/24", &["tapa2"]).await;
        let c = lan.network("br-c", "10.11.0.1/24", &["tapc2"]).await;
        let outside = lan.outside("192.0.2.1/24").await;
        let stranger = [2, 0, 0, 0, 0, 9];
        lan.neighbour("192.0.2.9", "out0", stranger);
        lan.neighbour("10.9.0.2", "br-a", A);
        firewall.add_network(&network("br-a", &["10.9.0.0/24"], WayOut::Masqueraded)).unwrap();
        firewall.add_network(&network("br-c", &["10.11.0.0/24"], WayOut::Closed)).unwrap();
        firewall.add_station(&station("tapa2", 2)).unwrap();
        let closed = Station { addresses: vec![ip("10.11.0.2")], ..station("tapc2", 2) };
        firewall.add_station(&closed).unwrap();

        // From a network that is closed, nothing; from another, as the host.
        lan.send("tapc2", &ipv4_udp(A, c, ip("10.11.0.2"), ip("192.0.2.9"), 1, 5));
        lan.send("tapa2", &ipv4_udp(A, a, ip("10.9.0.2"), ip("192.0.2.9"), 1, 7));
        let seen = lan.until("out0", |seen| seen.udp_port() == Some(7));
        assert_eq!(seen.last().and_then(Frame::source), Some(ip("192.0.2.1")));
        assert!(seen.iter().all(|frame| frame.udp_port() != Some(5)), "left a closed network");

        // Straight to a container's address: nobody asked for that.
        lan.send("out0", &ipv4_udp(stranger, outside, ip("192.0.2.9"), ip("10.9.0.2"), 1, 6));
        lan.host_sends_udp("10.9.0.2:8");
        let seen = lan.until("tapa2", |seen| seen.udp_port() == Some(8));
        assert!(seen.iter().all(|frame| frame.udp_port() != Some(6)), "came in");
    });
}

#[test]
fn a_published_port_is_reached_from_everywhere_and_sees_who_asks() {
    let test = "a_published_port_is_reached_from_everywhere_and_sees_who_asks";
    in_a_network_namespace(test, async || {
        let Some((lan, firewall)) = lan(test) else { return };
        let a = lan.network("br-a", "10.9.0.1/24", &["tapa2"]).await;
        let b = lan.network("br-b", "10.10.0.1/24", &["tapb3"]).await;
        let outside = lan.outside("192.0.2.1/24").await;
        let stranger = [2, 0, 0, 0, 0, 9];
        lan.neighbour("10.9.0.2", "br-a", A);
        for (bridge, subnet) in [("br-a", "10.9.0.0/24"), ("br-b", "10.10.0.0/24")] {
            firewall.add_network(&network(bridge, &[subnet], WayOut::Masqueraded)).unwrap();
        }
        firewall.add_station(&station("tapa2", 2)).unwrap();
        let other = Station { addresses: vec![ip("10.10.0.3")], ..station("tapb3", 3) };
        firewall.add_station(&other).unwrap();
        firewall.publish(&[publication("0.0.0.0", 8080), publication("127.0.0.1", 8081)]).unwrap();
        let source = || {
            let seen = lan.until("tapa2", |seen| seen.tcp_ports().is_some_and(|(_from, to)| to == 80));
            seen.last().and_then(Frame::source)
        };

        // Another host: its own address.
        lan.send("out0", &ipv4_tcp_syn(stranger, outside, ip("192.0.2.9"), ip("192.0.2.1"), 1001, 8080));
        assert_eq!(source(), Some(ip("192.0.2.9")));
        // The host, by its loopback address and by another: as an address that answers find.
        let _connecting = lan.host_connects("127.0.0.1:8080");
        assert_eq!(source(), Some(ip("10.9.0.1")));
        let _connecting = lan.host_connects("127.0.0.1:8081");
        assert_eq!(source(), Some(ip("10.9.0.1")));
        let _connecting = lan.host_connects("192.0.2.1:8080");
        assert!(source().is_some());
        // The container itself: by the host, so that the answer comes by it.
        lan.send("tapa2", &ipv4_tcp_syn(A, a, ip("10.9.0.2"), ip("192.0.2.1"), 1002, 8080));
        assert_eq!(source(), Some(ip("10.9.0.1")));
        // A container of another network, by the host's address, as anybody could.
        let b_station = [2, 0, 0, 0, 0, 3];
        lan.send("tapb3", &ipv4_tcp_syn(b_station, b, ip("10.10.0.3"), ip("192.0.2.1"), 1003, 8080));
        assert_eq!(source(), Some(ip("10.10.0.3")));

        // What is published for the host alone is closed to others.
        lan.send("out0", &ipv4_tcp_syn(stranger, outside, ip("192.0.2.9"), ip("192.0.2.1"), 1004, 8081));
        lan.neighbour("192.0.2.9", "out0", stranger);
        lan.until("out0", |seen| seen.tcp_ports() == Some((8081, 1004)));
        firewall.unpublish(&[publication("0.0.0.0", 8080)]).unwrap();
        lan.send("out0", &ipv4_tcp_syn(stranger, outside, ip("192.0.2.9"), ip("192.0.2.1"), 1005, 8080));
        lan.until("out0", |seen| seen.tcp_ports() == Some((8080, 1005)));
    });
}
