//! Several machines from one snapshot of Linux, at the same time: nobody mistakes one for another.
//!
//! On `/dev/kvm`, also where that is software KVM; so there is one boot for everything, and few programs.

use std::time::{SystemTime, UNIX_EPOCH};

use berth_protocol::agent::request::Operation;
use berth_protocol::agent::{AssumeIdentity, Ping, StreamKind, reply};

use crate::client::Client;
use crate::container::{Change, script};
use crate::machine::Machine;

/// Built-ins of the shell but for the last: each program that is started takes its time where the kernel is interpreted.
const WHO_AM_I: &str = "read name < /proc/sys/kernel/hostname; read id < /etc/machine-id; \
                        read random < /proc/sys/kernel/random/uuid; echo $name $id $random; date +%s";

#[test]
fn restored_machines_are_each_their_own() {
    let Some(origin) = Machine::boot_on_kvm("restored_machines_are_each_their_own") else { return };
    let snapshot = origin.save();
    // It goes on, as if nothing had been.
    ping(&mut origin.client());

    let copies = [4, 5].map(|guest_cid| Machine::restore(&snapshot, guest_cid));
    let mut clients = [&copies[0], &copies[1]].map(Machine::client);
    clients.iter_mut().for_each(ping);
    let [first, second] = &mut clients;
    let (first, second) = (introduce(first, "copy-a", 'a'), introduce(second, "copy-b", 'b'));
    assert_ne!(first, second, "random numbers that no other machine has");
    // The origin and the other copy never noticed.
    clients.iter_mut().for_each(ping);
    ping(&mut origin.client());
}

fn ping(client: &mut Client) {
    let pong = client.ask(Operation::Ping(Ping {}));
    assert!(matches!(pong, Ok(reply::Result::Ready(_))), "{pong:?}");
}

/// Tells a copy who it is, and asks a new container in it. Gives the random number that it drew.
fn introduce(client: &mut Client, name: &str, digit: char) -> String {
    let machine_id = digit.to_string().repeat(32);
    let asked = unix_time();
    let identity = AssumeIdentity {
        unix_time_ns: i64::try_from(asked.as_nanos()).unwrap(),
        entropy: std::iter::repeat_n(digit as u8, 64).collect(),
        hostname: name.into(),
        machine_id: machine_id.clone(),
        network_cards: vec![],
        rebound_disks: vec!["vda".into(), "vdb".into()],
    };
    let assumed = client.ask(Operation::AssumeIdentity(identity));
    assert!(matches!(assumed, Ok(reply::Result::Done(_))), "{assumed:?}");
    // Without a name of its own, a container has the machine's.
    client.start(script("c1", WHO_AM_I).with(|start| start.hostname.clear())).unwrap();
    let (said, complained) = (client.stdout("c1"), client.output("c1", StreamKind::Stderr));
    let words: Vec<&str> = said.split_whitespace().collect();
    let [its_name, its_machine_id, random, seconds] = words[..] else { panic!("{said:?}, {complained:?}") };
    assert_eq!((its_name, its_machine_id), (name, machine_id.as_str()));
    let clock: u64 = seconds.parse().unwrap();
    assert!((asked.as_secs()..=unix_time().as_secs()).contains(&clock), "{clock}, asked at {asked:?}");
    random.to_owned()
}

fn unix_time() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970")
}
