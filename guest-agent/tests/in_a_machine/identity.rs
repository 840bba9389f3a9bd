//! A machine is told that it is another one.

use berth_protocol::agent::request::Operation;
use berth_protocol::agent::{AssumeIdentity, ErrorCode, NetworkCard, reply};

use crate::container::{Change, container, script};
use crate::machine::Machine;

const MACHINE_ID: &str = "0123456789abcdef0123456789abcdef";
/// A moment in 2030.
const MOMENT_S: i64 = 1_900_000_000;

fn identity() -> AssumeIdentity {
    AssumeIdentity {
        unix_time_ns: MOMENT_S * 1_000_000_000,
        entropy: vec![7; 64],
        hostname: "another".into(),
        machine_id: MACHINE_ID.into(),
        network_cards: vec![],
        rebound_disks: vec!["vdb".into()],
    }
}

#[test]
fn what_starts_afterwards_finds_the_new_names_and_time() {
    let Some(machine) = Machine::boot("what_starts_afterwards_finds_the_new_names_and_time") else { return };
    let mut client = machine.client();
    let assumed = client.ask(Operation::AssumeIdentity(identity()));
    assert!(matches!(assumed, Ok(reply::Result::Done(_))), "{assumed:?}");
    // Without a name of its own, a container has the machine's.
    let nameless =
        script("c1", "hostname; cat /etc/machine-id; date +%s").with(|start| start.hostname.clear());
    client.start(nameless).unwrap();
    let said = client.stdout("c1");
    let [name, machine_id, seconds] = said.lines().collect::<Vec<_>>()[..] else { panic!("{said:?}") };
    assert_eq!((name, machine_id), ("another", MACHINE_ID));
    assert!((MOMENT_S..MOMENT_S + 60).contains(&seconds.parse().unwrap()), "{seconds}");
    client.remove("c1").unwrap();
}

#[test]
fn what_cannot_be_assumed_is_refused_by_name() {
    let Some(machine) = Machine::boot("what_cannot_be_assumed_is_refused_by_name") else { return };
    let mut client = machine.client();
    let mut refused = |request| client.ask(Operation::AssumeIdentity(request)).unwrap_err();
    let weak = refused(AssumeIdentity { entropy: vec![7; 8], ..identity() });
    assert_eq!(weak.0, ErrorCode::InvalidRequest);
    let card = NetworkCard { interface: "eth9".into(), mac_address: vec![2, 0, 0, 0, 0, 1] };
    let (code, message) = refused(AssumeIdentity { network_cards: vec![card], ..identity() });
    assert_eq!(code, ErrorCode::Internal);
    assert!(message.contains("eth9"), "{message}");

    client.start(container("c1", &["sleep", "1000"])).unwrap();
    let (code, message) = client.ask(Operation::AssumeIdentity(identity())).unwrap_err();
    assert_eq!(code, ErrorCode::MountFailed, "{message}");
    assert!(message.contains("vdb"), "{message}");
    client.remove("c1").unwrap();
}
