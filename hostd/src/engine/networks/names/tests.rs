//! Who finds whom, on networks without a host below them.

use jiff::Timestamp;

use super::super::endpoint::{EndpointNames, Link};
use super::super::network::{Network, NetworkDriver, NetworkId, Subnet};
use super::super::options::BridgeOptions;
use super::super::{DefaultBridge, NetworkPolicy};
use super::*;
use crate::database::Database;
use crate::engine::DnsSpec;
use crate::network::pools::AddressPools;

struct World {
    _directory: tempfile::TempDir,
    networks: Networks,
    active: Vec<Arc<ActiveNetwork>>,
}

fn network(name: &str, number: u8, reach: Reach) -> Network {
    let net: IpNet = format!("10.{number}.0.0/24").parse().unwrap();
    let gateway = IpAddr::from([10, number, 0, 1]);
    Network {
        id: NetworkId::random(),
        name: name.to_owned(),
        created_at: Timestamp::now(),
        driver: NetworkDriver::Bridge,
        subnets: vec![Subnet { net, gateway, range: None, auxiliary: std::collections::BTreeMap::new() }],
        reach,
        attachable: false,
        labels: std::collections::BTreeMap::new(),
        options: std::collections::BTreeMap::new(),
        bridge: BridgeOptions::named(format!("br-{name}")),
    }
}

/// The networks bridge, closed, front and back, in that order of their numbers.
fn world() -> World {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::open(&directory.path().join("berth.db")).unwrap();
    let policy = NetworkPolicy {
        backend: crate::engine::NetworkBackend::Bridge,
        default_bridge: DefaultBridge::None,
        pools: AddressPools::default(),
        mtu_bytes: 1500,
        daemon_ports: Vec::new(),
        dns: DnsSpec::default(),
        host_gateways: Vec::new(),
    };
    let networks = Networks::new(policy, "0123abcd".into(), database);
    let all =
        [("bridge", Reach::Open), ("closed", Reach::Internal), ("front", Reach::Open), ("back", Reach::Open)];
    let active = (0_u8..)
        .zip(all)
        .map(|(number, (name, reach))| networks.activate(network(name, number, reach)))
        .collect();
    World { _directory: directory, networks, active }
}

impl World {
    fn put(&self, container: &ContainerId, name: &str, network: usize, last: u8, aliases: &[&str]) {
        let number = u8::try_from(network).unwrap();
        let mut own: Vec<String> = aliases.iter().map(|alias| (*alias).to_owned()).collect();
        own.push(container.short().to_owned());
        let station = StationView {
            endpoint_id: String::new(),
            container_name: name.into(),
            card: String::new(),
            mac: [2, 0, 0, 0, 0, last],
            addresses: vec![IpNet::new([10, number, 0, last].into(), 24).unwrap()],
            names: EndpointNames { own, links: Vec::new() },
        };
        self.active[network].stations().insert(container.clone(), station);
    }

    fn find(&self, asker: &ContainerId, name: &str) -> Option<Vec<String>> {
        let mut found: Vec<_> =
            self.networks.addresses_of(asker, name)?.iter().map(ToString::to_string).collect();
        found.sort();
        Some(found)
    }
}

const BRIDGE: usize = 0;
const CLOSED: usize = 1;
const FRONT: usize = 2;
const BACK: usize = 3;

#[test]
fn those_of_a_network_find_each_other_and_nobody_else() {
    let world = world();
    let [web, db, other] = [(); 3].map(|()| ContainerId::random());
    world.put(&web, "web", FRONT, 2, &["www"]);
    world.put(&web, "web", BACK, 2, &[]);
    world.put(&db, "db", BACK, 3, &["store"]);
    world.put(&other, "other", FRONT, 3, &[]);
    let found = |text: &str| Some(vec![text.to_owned()]);
    assert_eq!(world.find(&web, "db"), found("10.3.0.3"));
    assert_eq!(world.find(&web, "STORE"), found("10.3.0.3"));
    assert_eq!(world.find(&web, db.short()), found("10.3.0.3"));
    assert_eq!(world.find(&db, "web"), found("10.3.0.2"), "at the address that it can reach");
    assert_eq!(world.find(&db, "www"), None, "an alias is of one network");
    assert_eq!(world.find(&other, "www"), found("10.2.0.2"));
    assert_eq!(world.find(&other, "db"), None);
    assert_eq!(world.find(&other, "other"), found("10.2.0.3"), "itself, too");
    assert_eq!(world.find(&ContainerId::random(), "web"), None);
}

#[test]
fn a_name_may_have_its_networks_behind_it() {
    let world = world();
    let [web, dotted] = [(); 2].map(|()| ContainerId::random());
    world.put(&web, "web", FRONT, 2, &[]);
    world.put(&web, "web", BACK, 2, &[]);
    world.put(&dotted, "my.db", BACK, 3, &[]);
    assert_eq!(world.find(&web, "web.front").unwrap(), ["10.2.0.2"]);
    assert_eq!(world.find(&web, "web.back").unwrap(), ["10.3.0.2"]);
    assert_eq!(world.find(&web, "my.db").unwrap(), ["10.3.0.3"]);
    assert_eq!(world.find(&web, "my.db.back").unwrap(), ["10.3.0.3"]);
    assert_eq!(world.find(&web, "my.db.front"), None);
    assert_eq!(world.find(&dotted, "web.front"), None, "it is not on that network");
    assert_eq!(world.find(&web, ".front"), None);
    assert_eq!(world.find(&web, ""), None);
}

#[test]
fn an_alias_of_several_is_the_addresses_of_all() {
    let world = world();
    let all: Vec<ContainerId> = (0..4).map(|_| ContainerId::random()).collect();
    for (last, container) in (2..).zip(&all) {
        world.put(container, &format!("worker-{last}"), FRONT, last, &["worker"]);
    }
    assert_eq!(world.find(&all[0], "worker").unwrap().len(), 4);
    let firsts: std::collections::HashSet<IpAddr> =
        (0..200).map(|_| world.networks.addresses_of(&all[0], "worker").unwrap()[0]).collect();
    assert_eq!(firsts.len(), 4, "each comes first at times");
}

#[test]
fn a_link_is_a_name_for_who_asked_for_it() {
    let world = world();
    let [web, db] = [(); 2].map(|()| ContainerId::random());
    world.put(&web, "web", FRONT, 2, &[]);
    world.put(&db, "db", FRONT, 3, &[]);
    let link = Link { container: "db".into(), alias: "store".into() };
    world.active[FRONT].stations().get_mut(&web).unwrap().names.links.push(link);
    assert_eq!(world.find(&web, "store").unwrap(), ["10.2.0.3"]);
    assert_eq!(world.find(&db, "store"), None);
}

#[test]
fn on_the_default_network_there_are_no_names_but_the_hosts() {
    let world = world();
    let [a, b] = [(); 2].map(|()| ContainerId::random());
    world.put(&a, "a", BRIDGE, 2, &["x"]);
    world.put(&b, "b", BRIDGE, 3, &[]);
    for name in ["a", "b", "x", "b.bridge", b.short()] {
        assert_eq!(world.find(&a, name), None, "{name}");
    }
    assert_eq!(world.find(&a, "host.docker.internal").unwrap(), ["10.0.0.1"]);
    assert_eq!(world.networks.name_of(&a, [10, 0, 0, 3].into()), None);
}

#[test]
fn a_closed_network_has_names_and_leads_nowhere() {
    let world = world();
    let [a, b] = [(); 2].map(|()| ContainerId::random());
    world.put(&a, "a", CLOSED, 2, &[]);
    world.put(&b, "b", CLOSED, 3, &[]);
    assert_eq!(world.find(&a, "b").unwrap(), ["10.1.0.3"]);
    assert_eq!(world.find(&a, "host.docker.internal"), None);
    assert!(!world.networks.reaches_others(&a));
    world.put(&a, "a", FRONT, 2, &[]);
    assert!(world.networks.reaches_others(&a));
    assert_eq!(world.find(&a, "gateway.docker.internal").unwrap(), ["10.2.0.1"]);
}

#[test]
fn an_address_has_the_name_of_who_is_there() {
    let world = world();
    let [web, other] = [(); 2].map(|()| ContainerId::random());
    world.put(&web, "web", FRONT, 2, &[]);
    world.put(&other, "other", BACK, 3, &[]);
    assert_eq!(world.networks.name_of(&web, [10, 2, 0, 2].into()).as_deref(), Some("web.front"));
    assert_eq!(world.networks.name_of(&web, [10, 3, 0, 3].into()), None);
}
