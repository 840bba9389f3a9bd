//! Linux with network cards, a balloon and a share: its own drivers, the real `berth-vmm`, on both accelerators.
//!
//! One machine for each whole story, because a kernel that is interpreted takes a while to boot.
#![expect(clippy::unwrap_used, reason = "tests state their expectations with it")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use berth_vmm::config::{
    Accelerator, BalloonConfig, CardRates, MachineConfig, NetworkCardConfig, ShareConfig,
};
use berth_vmm::control::{Counters, Reply, Request};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

#[expect(dead_code, reason = "the machines of tcg.rs use the rest of it")]
mod harness;

use harness::{Machine, config, eventually, kernel_or_skip, kvm_kernel_or_skip};

const BY_KVM: &str = "linux_drives_a_card_a_balloon_and_a_share";
const BY_TCG: &str = "linux_drives_cards_and_a_share_under_tcg";
const MAC: &str = "02:00:00:00:00:07";
const HOST: &str = "10.7.0.1/24";
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 2);
/// More than fits any buffer on the way.
const ECHOED_BYTES: u64 = 256 << 10;
/// What a card of ours should come to with Linux on both sides: numbers of virtio's feature bits.
const FEATURES: [(usize, &str); 9] = [
    (0, "frames without checksums from the guest"),
    (1, "and to it"),
    (3, "MTU"),
    (5, "MAC"),
    (7, "long TCP segments to the guest, over IPv4"),
    (8, "and IPv6"),
    (11, "and from it, over IPv4"),
    (12, "and IPv6"),
    (15, "frames over several buffers"),
];

fn skip(test: &str, reason: &str) {
    eprintln!("skipped: {test}: {reason}");
}

/// A network namespace for this thread and what it starts, with an interface in it, and one more that leads nowhere.
fn make_network(test: &str) -> Option<()> {
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        skip(test, &format!("cannot make a network namespace: {error}"));
        return None;
    }
    for arguments in [
        "tuntap add card mode tap",
        "tuntap add second mode tap",
        &format!("address add {HOST} dev card"),
        "link set card up",
    ] {
        match Command::new("ip").args(arguments.split(' ')).status() {
            Ok(status) if status.success() => {}
            other => {
                skip(test, &format!("ip {arguments}: {other:?}"));
                return None;
            }
        }
    }
    Some(())
}

/// The server of a directory; ends with the test.
struct ShareServer {
    process: Child,
    directory: TempDir,
}

impl ShareServer {
    fn start(test: &str) -> Option<Self> {
        let programs = std::env::var_os("BERTH_TEST_BIN_DIR").unwrap_or_default();
        let program = Path::new(&programs).join("virtiofsd");
        if !program.exists() {
            skip(test, "BERTH_TEST_BIN_DIR names no directory with virtiofsd");
            return None;
        }
        let directory = TempDir::new().unwrap();
        let socket = directory.path().join("socket");
        std::fs::create_dir(directory.path().join("shared")).unwrap();
        let process = Command::new(program)
            .arg(format!("--socket-path={}", socket.display()))
            .arg(format!("--shared-dir={}", directory.path().join("shared").display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("the share's server listens", || socket.exists());
        Some(Self { process, directory })
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join("shared").join(name)
    }
}

impl Drop for ShareServer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn counters(machine: &Machine) -> Counters {
    let Reply::Counters(counters) = machine.control(&Request::Counters) else { panic!("no counters") };
    *counters
}

fn ask(machine: &Machine, command: &str) -> String {
    String::from_utf8(machine.ask(command, b"")).unwrap()
}

#[test]
fn linux_drives_a_card_a_balloon_and_a_share() {
    let Some(kernel) = kvm_kernel_or_skip(BY_KVM) else { return };
    let Some(()) = make_network(BY_KVM) else { return };
    let Some(server) = ShareServer::start(BY_KVM) else { return };
    let machine = Machine::boot(&MachineConfig {
        accelerator: Accelerator::Kvm,
        network_cards: vec![card(MAC, "card")],
        balloon: Some(BalloonConfig { target_mib: 0, deflate_on_oom: true, report_free_pages: true }),
        shares: vec![ShareConfig { tag: "data".into(), socket: server.socket() }],
        ..config(&kernel)
    });
    let drivers = ask(&machine, "drivers");
    assert_eq!(
        drivers,
        "virtio_balloon virtio_console virtio_net virtio_rng virtiofs vmw_vsock_virtio_transport"
    );
    share_files(&machine, &server);
    use_the_network(&machine);
    shrink_and_grow(&machine);
}

#[test]
fn linux_drives_cards_and_a_share_under_tcg() {
    let Some(kernel) = kernel_or_skip(BY_TCG) else { return };
    let Some(()) = make_network(BY_TCG) else { return };
    let Some(server) = ShareServer::start(BY_TCG) else { return };
    let machine = Machine::boot(&MachineConfig {
        network_cards: vec![
            card(MAC, "card"),
            NetworkCardConfig { tap: None, ..card("02:00:00:00:00:08", "") },
        ],
        shares: vec![ShareConfig { tag: "data".into(), socket: server.socket() }],
        ..config(&kernel)
    });
    assert_eq!(
        ask(&machine, "drivers"),
        "virtio_net virtio_net virtio_rng virtiofs vmw_vsock_virtio_transport"
    );
    share_files(&machine, &server);
    use_the_network(&machine);
    // In guest order, with what the configuration says of each.
    assert_eq!(ask(&machine, "cat /sys/class/net/eth1/address").trim(), "02:00:00:00:00:08");
    assert_eq!(ask(&machine, "cat /sys/class/net/eth1/mtu").trim(), "1400");
    // A machine that stood still loses no frame that waited, and its cards go on.
    assert_eq!(machine.control(&Request::Pause), Reply::Done);
    let early = std::thread::spawn(|| TcpStream::connect((GUEST, 7)).unwrap());
    assert_eq!(machine.control(&Request::Resume), Reply::Done);
    drop(early.join().unwrap());
    echo_a_lot();
    // Interfaces go and come; one that was let go is free for others.
    let bind = |card, tap: &str| {
        machine.control(&Request::BindCard { card, tap: tap.into(), rates: CardRates::default() })
    };
    assert!(matches!(bind(1, "missing"), Reply::Error { .. }));
    assert_eq!(bind(1, "second"), Reply::Done);
    for card in [0, 1] {
        assert_eq!(machine.control(&Request::UnbindCard { card }), Reply::Done);
    }
    eventually("an interface is free", || bind(1, "card") == Reply::Done);
    assert_eq!(machine.control(&Request::UnbindCard { card: 1 }), Reply::Done);
    eventually("an interface is free again", || bind(0, "card") == Reply::Done);
    echo_a_lot();
}

fn card(mac: &str, tap: &str) -> NetworkCardConfig {
    NetworkCardConfig {
        mac: mac.parse().unwrap(),
        tap: Some(tap.into()),
        gateway: None,
        mtu: Some(1400),
        rates: CardRates::default(),
    }
}

fn share_files(machine: &Machine, server: &ShareServer) {
    std::fs::write(server.file("question"), "from the host").unwrap();
    assert_eq!(ask(machine, "share data question"), "from the host");
    assert_eq!(std::fs::read_to_string(server.file("answer")).unwrap(), "from the guest");
}

fn use_the_network(machine: &Machine) {
    assert_eq!(ask(machine, &format!("network {GUEST}")), MAC);
    let features = ask(machine, "cat /sys/class/net/eth0/device/features");
    let lacking: Vec<_> = FEATURES.iter().filter(|(bit, _)| features.as_bytes()[*bit] != b'1').collect();
    assert!(lacking.is_empty(), "{lacking:?} of {features}");
    echo_a_lot();
    let card = counters(machine).network_cards[0];
    assert!(card.to_guest_bytes >= ECHOED_BYTES && card.to_network_bytes >= ECHOED_BYTES, "{card:?}");
    assert_eq!((card.dropped_to_guest, card.dropped_to_network), (0, 0));
}

fn echo_a_lot() {
    let sent: Vec<u8> = (0..ECHOED_BYTES).map(|position| position.to_le_bytes()[1]).collect();
    let mut stream = TcpStream::connect((GUEST, 7)).unwrap();
    let mut echoed = Vec::new();
    std::thread::scope(|scope| {
        let mut writer = stream.try_clone().unwrap();
        let sent = &sent;
        scope.spawn(move || {
            writer.write_all(sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        stream.read_to_end(&mut echoed).unwrap();
    });
    assert!(echoed == sent, "{} bytes came back", echoed.len());
}

fn shrink_and_grow(machine: &Machine) {
    let balloon = || counters(machine).balloon.unwrap();
    eventually("free memory is reported", || balloon().reported_bytes >= 16 << 20);
    for target_mib in [32, 0] {
        assert_eq!(machine.control(&Request::SetBalloon { target_mib }), Reply::Done);
        eventually("the balloon has its size", || balloon().actual_mib == target_mib);
    }
    assert_eq!(balloon().inflated_bytes, 32 << 20);
    eventually("the guest tells of its memory", || {
        balloon().guest.is_some_and(|guest| guest.total_bytes.is_some())
    });
}
