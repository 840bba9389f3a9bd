//! The filter at work in a network namespace: frames written to TAP interfaces as a hostile guest would, connections
//! from the host's side.

use super::super::namespace::in_a_network_namespace;
use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn listed(table: &str) -> String {
    let mut all = String::new();
    for family in ["inet", "bridge"] {
        let output = Command::new("nft").args(["list", "table", family, table]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        all += &String::from_utf8(output.stdout).unwrap();
    }
    all
}

/// `None`, said aloud, where there is no nft.
fn firewall(test: &str, table: &str) -> Option<Firewall> {
    match Firewall::install(table, &[2376]) {
        Err(FirewallError::NoProgram(error)) => {
            eprintln!("skipped: {test}: nft: {error}");
            None
        }
        installed => Some(installed.unwrap()),
    }
}

fn network(bridge: &str, subnets: &[&str], way_out: WayOut) -> FilteredNetwork {
    let subnets = subnets.iter().map(|subnet| net(subnet)).collect();
    FilteredNetwork { bridge: bridge.to_owned(), subnets, way_out }
}

fn station(card: &str, last: u8) -> Station {
    let addresses = vec![IpAddr::from([10, 9, 0, last]), ip(&format!("fd00:9::{last:x}"))];
    Station {
        card: card.to_owned(),
        mac: [2, 0, 0, 0, 0, last],
        addresses,
        neighbours: Neighbours::Connected,
    }
}

#[test]
fn what_is_added_is_as_nft_would_write_it_and_what_is_removed_is_gone() {
    let test = "what_is_added_is_as_nft_would_write_it_and_what_is_removed_is_gone";
    in_a_network_namespace(test, async || {
        let Some(firewall) = firewall(test, "berth_test") else { return };
        let empty = listed("berth_test");
        assert!(empty.contains("elements = { 2376 }"), "{empty}");
        let networks = [
            network("br-a", &["10.9.0.0/16", "fd00:9::/64"], WayOut::Masqueraded),
            network("br-b", &["10.10.0.0/24"], WayOut::Masqueraded),
            network("br-c", &["255.255.255.0/24"], WayOut::Closed),
        ];
        let isolated = Station { neighbours: Neighbours::Isolated, ..station("tap1", 7) };
        let publish = |protocol, host: &str, host_port, to: &str, port| Publication {
            protocol,
            host_address: ip(host),
            host_port,
            address: ip(to),
            port,
        };
        let publications = [
            publish(Protocol::Tcp, "0.0.0.0", 8080, "10.9.0.7", 80),
            publish(Protocol::Udp, "127.0.0.1", 53, "10.9.0.7", 53),
            publish(Protocol::Tcp, "::", 8080, "fd00:9::7", 80),
            publish(Protocol::Sctp, "fd00::1", 9, "fd00:9::7", 9),
        ];
        for network in &networks {
            firewall.add_network(network).unwrap();
            // A daemon that starts again says it again.
            firewall.add_network(network).unwrap();
        }
        firewall.add_station(&isolated).unwrap();
        firewall.publish(&publications).unwrap();
        let full = listed("berth_test");
        for expected in [
            "elements = { 10.9.0.0/16 . \"br-a\",\n\t\t\t     10.10.0.0/24 . \"br-b\",",
            "elements = { fd00:9::/64 . \"br-a\" }",
            "elements = { 10.9.0.0/16, 10.10.0.0/24 }",
            "elements = { \"br-c\" }",
            "elements = { tcp . 8080 : 10.9.0.7 . 80 }",
            "elements = { udp . 127.0.0.1 . 53 : 10.9.0.7 . 53 }",
            "elements = { tcp . 8080 : fd00:9::7 . 80 }",
            "elements = { sctp . fd00::1 . 9 : fd00:9::7 . 9 }",
            "elements = { \"tap1\" . 02:00:00:00:00:07 . 10.9.0.7 }",
            "elements = { \"tap1\" . 02:00:00:00:00:07 . fd00:9::7 }",
        ] {
            assert!(full.contains(expected), "{expected}\n{full}");
        }
        for _again in 0..2 {
            firewall.unpublish(&publications).unwrap();
            firewall.remove_station(&isolated).unwrap();
            for network in &networks {
                firewall.remove_network(network).unwrap();
            }
        }
        assert_eq!(listed("berth_test"), empty);
    });
}

#[test]
fn a_port_leads_to_one_place_and_a_refusal_changes_nothing() {
    let test = "a_port_leads_to_one_place_and_a_refusal_changes_nothing";
    in_a_network_namespace(test, async || {
        let Some(firewall) = firewall(test, "berth_test") else { return };
        let to = |last, host_port| Publication {
            protocol: Protocol::Tcp,
            host_address: ip("0.0.0.0"),
            host_port,
            address: IpAddr::from([10, 9, 0, last]),
            port: 80,
        };
        firewall.publish(&[to(1, 8080)]).unwrap();
        let before = listed("berth_test");
        let refused = firewall.publish(&[to(2, 8081), to(2, 8080)]).unwrap_err();
        assert!(refused.to_string().contains("cannot publish a port"), "{refused}");
        assert_eq!(listed("berth_test"), before);
    });
}

#[test]
fn daemons_side_by_side_keep_their_tables_and_a_new_one_begins_anew() {
    let test = "daemons_side_by_side_keep_their_tables_and_a_new_one_begins_anew";
    in_a_network_namespace(test, async || {
        let Some(one) = firewall(test, "berth_one") else { return };
        let two = firewall(test, "berth_two").unwrap();
        one.add_network(&network("br-a", &["10.9.0.0/16"], WayOut::Masqueraded)).unwrap();
        two.add_network(&network("br-b", &["10.10.0.0/16"], WayOut::Masqueraded)).unwrap();
        firewall(test, "berth_one").unwrap();
        assert!(!listed("berth_one").contains("br-a"));
        assert!(listed("berth_two").contains("br-b"));
    });
}

mod traffic;
