//! What a machine is made of: plain data that the daemon writes to the state directory and `berth-vmm` reads.
//!
//! Says nothing of what runs inside. Validation is [`MachineConfig::validate`]; everything behind it trusts the values.

use std::collections::HashSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The names of the files in a machine's state directory.
pub mod files {
    /// [`super::MachineConfig`] as JSON, written by the daemon before `berth-vmm` starts.
    pub const CONFIG: &str = "machine.json";
    /// Locked (flock) by `berth-vmm` for as long as it lives; holds its pid in decimal.
    pub const LOCK: &str = "lock";
    /// Unix socket of the control protocol, [`crate::control`].
    pub const CONTROL: &str = "control.sock";
    /// Unix socket on which the host says `CONNECT <port>\n`; `<this>_<port>` are the guest's ways out.
    pub const VSOCK: &str = "vsock.sock";
    /// Directory that is all the file system there is in the jail: the guest's ways out are in it there.
    pub const ROOT: &str = "root";
    /// What the guest's console printed, bounded: the newest bytes win.
    pub const CONSOLE: &str = "console.log";
    /// [`crate::control::MachineExit`] as JSON, written by `berth-vmm` as its last act; empty until then.
    pub const EXIT: &str = "exit.json";
}

/// What executes the guest's CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// `/dev/kvm`, by our own machine monitor.
    Kvm,
    /// A child QEMU's software emulation; the devices are still ours. No security boundary.
    Tcg,
}

/// One machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineConfig {
    /// For messages and process titles.
    pub id: String,
    pub accelerator: Accelerator,
    pub vcpus: u8,
    pub memory_mib: u32,
    /// An uncompressed x86-64 ELF kernel.
    pub kernel: PathBuf,
    pub initramfs: Option<PathBuf>,
    /// Appended to the command line that the accelerator and the devices need.
    pub command_line: String,
    /// In guest order: the first is `vda`.
    pub disks: Vec<DiskConfig>,
    /// In guest order: the first is `eth0`.
    #[serde(default)]
    pub network_cards: Vec<NetworkCardConfig>,
    /// Lets the guest give memory back. Only [`Accelerator::Kvm`] has it.
    #[serde(default)]
    pub balloon: Option<BalloonConfig>,
    /// Host directories in the guest. With any, all of the guest's memory is shareable with other processes, which
    /// costs huge pages (unless the host gives them to shared memory) and snapshots.
    #[serde(default)]
    pub shares: Vec<ShareConfig>,
    /// The guest's vsock context id, above 2.
    pub guest_cid: u32,
    /// The console file is kept under this many bytes.
    pub console_limit_bytes: u64,
    /// Go on from a snapshot instead of booting: kernel, initramfs and command line are the saved machine's then, and
    /// not looked at here. Processors, memory and devices are the same; what backs a disk, the context id and all files
    /// are this machine's own. Only [`Accelerator::Kvm`] can.
    #[serde(default)]
    pub restore: Option<RestoreConfig>,
    /// What [`crate::host_cpuid`] gave on this host since it booted. Empty: KVM is asked again, which takes as long as
    /// half of a restore.
    #[serde(default)]
    pub host_cpuid: Vec<CpuidLeaf>,
    /// `qemu-system-x86_64`, looked up in PATH if not absolute. Only [`Accelerator::Tcg`] uses it.
    pub qemu: PathBuf,
}

/// What a guest may be told by one leaf of CPUID: the leaf, its index, KVM's flags, EAX, EBX, ECX and EDX.
pub type CpuidLeaf = [u32; 7];

/// Where a machine goes on from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreConfig {
    /// A directory that [`crate::control::Request::SaveSnapshot`] wrote.
    pub directory: PathBuf,
    /// Wait for [`crate::control::Request::Resume`] before the guest's next instruction.
    #[serde(default)]
    pub paused: bool,
}

/// One virtio block device. Its capacity is fixed at boot; what backs it may be bound later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskConfig {
    pub capacity_bytes: u64,
    pub access: DiskAccess,
    /// Empty: unbound, reads give zeros and writes fail until [`crate::control::Request::BindDisk`].
    pub extents: Vec<Extent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskAccess {
    ReadOnly,
    ReadWrite,
}

/// A run of bytes of a file. A disk, or what is bound of it at a time, is its extents one after the other; beyond the last
/// and between those bound at different times, reads give zeros.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extent {
    pub path: PathBuf,
    pub offset_bytes: u64,
    pub length_bytes: u64,
}

/// One virtio network card, on a TAP interface of the host or bound to one later, or on a network stack that is another
/// process of the host's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkCardConfig {
    pub mac: MacAddress,
    /// The name of an interface that exists. `None`: the card is bound to nothing until
    /// [`crate::control::Request::BindCard`].
    #[serde(default)]
    pub tap: Option<String>,
    /// In the place of an interface. Such a card lasts as long as the stack does, and is bound to nothing else.
    #[serde(default)]
    pub gateway: Option<GatewayConfig>,
    /// What the guest is told of the network's largest packet, in bytes without the Ethernet header.
    #[serde(default)]
    pub mtu: Option<u16>,
    #[serde(default)]
    pub rates: CardRates,
}

/// A user-mode network stack, which speaks for the guest with sockets of the host's: frames over a stream socket, each
/// behind its length in 4 bytes, the highest first. It has the host's network as its user has it, so the card lets pass
/// only what goes elsewhere than to the host's loopback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// The Unix socket on which it listens.
    pub socket: PathBuf,
    /// The guest's address. No packet leaves with another one.
    pub guest: Ipv4Addr,
    /// The stack's own in the guest's eyes. What comes from the host's loopback comes from there, and answers go there.
    pub address: Ipv4Addr,
}

/// How fast a card may be, each way. Without a rate it is as fast as it can be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardRates {
    #[serde(default)]
    pub to_guest: Option<Rate>,
    #[serde(default)]
    pub to_network: Option<Rate>,
}

/// A rate of bytes, frames with their Ethernet headers, and how many may pass at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    pub bytes_per_second: u64,
    pub burst_bytes: u64,
}

/// A unicast address of a network card. As text: six pairs of hexadecimal digits between colons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress(pub [u8; 6]);

/// The virtio memory balloon: memory the guest does without, for a while or until it needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalloonConfig {
    /// What the guest is asked to give back at boot; changed over the control socket.
    pub target_mib: u32,
    /// The guest takes memory back on its own before it runs out of it.
    pub deflate_on_oom: bool,
    /// The guest tells which memory it does not use, without being asked, and the host takes it back.
    pub report_free_pages: bool,
}

/// One virtio file system, served by another process over the vhost-user protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareConfig {
    /// What the guest mounts it by.
    pub tag: String,
    /// The Unix socket on which its server listens.
    pub socket: PathBuf,
}

/// Sizes are whole sectors (virtio 1.2, section 5.2.4).
pub const SECTOR_BYTES: u64 = 512;
/// Bounds of one machine; each is refused with its name in the message.
pub const MAX_VCPUS: u8 = 32;
pub const MIN_MEMORY_MIB: u32 = 32;
pub const MAX_MEMORY_MIB: u32 = 1 << 20;
pub const MAX_DISKS: usize = 8;
/// A disk put together from 127 pieces and a head fits many times.
pub const MAX_EXTENTS: usize = 1024;
pub const MAX_NETWORK_CARDS: usize = 8;
/// Disks, socket, randomness, cards and shares together, under [`Accelerator::Tcg`]: the places of QEMU's microvm.
pub const MAX_EMULATED_DEVICES: usize = 8;
pub const MAX_SHARES: usize = 4;
/// Fixed by virtio 1.2, section 5.11.4.
pub const MAX_SHARE_TAG_BYTES: usize = 36;
/// The kernel's IFNAMSIZ, without the terminating zero.
pub const MAX_TAP_NAME_BYTES: usize = 15;
/// What IPv4 takes for granted (virtio 1.2, section 5.1.4.1).
pub const MIN_MTU_BYTES: u16 = 68;
/// Of a card, in bytes a second and in bytes: what nobody's card reaches, and computes without overflow.
pub const MAX_RATE: u64 = 1 << 40;
pub const MAX_COMMAND_LINE_BYTES: usize = 896;
/// What KVM takes, less the leaves of a processor's own place.
pub const MAX_CPUID_LEAVES: usize = 78;

#[derive(Debug, thiserror::Error)]
#[error("machine configuration: {field}: {problem}")]
pub struct InvalidConfig {
    pub field: &'static str,
    pub problem: String,
}

fn check(holds: bool, field: &'static str, problem: impl Into<String>) -> Result<(), InvalidConfig> {
    if holds { Ok(()) } else { Err(InvalidConfig { field, problem: problem.into() }) }
}

impl MachineConfig {
    /// # Errors
    /// Names the first field that is out of bounds.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        check((1..=MAX_VCPUS).contains(&self.vcpus), "vcpus", format!("1 to {MAX_VCPUS} are possible"))?;
        let memory = MIN_MEMORY_MIB..=MAX_MEMORY_MIB;
        let possible = format!("{MIN_MEMORY_MIB} to {MAX_MEMORY_MIB} are possible");
        check(memory.contains(&self.memory_mib), "memory_mib", possible)?;
        let leaves = self.host_cpuid.len() <= MAX_CPUID_LEAVES;
        check(leaves, "host_cpuid", format!("at most {MAX_CPUID_LEAVES}"))?;
        check(self.guest_cid > 2, "guest_cid", "0 to 2 are reserved")?;
        check(self.disks.len() <= MAX_DISKS, "disks", format!("at most {MAX_DISKS}"))?;
        let is_short = self.command_line.len() <= MAX_COMMAND_LINE_BYTES;
        check(is_short, "command_line", format!("at most {MAX_COMMAND_LINE_BYTES} characters"))?;
        // A zero would end it, and a line's end would look like one in logs.
        let is_one_line = self.command_line.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        check(is_one_line, "command_line", "printable ASCII characters and spaces alone")?;
        self.disks.iter().try_for_each(DiskConfig::validate)?;
        self.validate_accelerator()?;
        self.validate_network_cards()?;
        self.validate_balloon()?;
        self.validate_shares()
    }

    /// QEMU has no transport for a balloon of ours.
    fn validate_accelerator(&self) -> Result<(), InvalidConfig> {
        let possible = self.balloon.is_none() || self.accelerator == Accelerator::Kvm;
        check(possible, "balloon", "the accelerator tcg has none, use kvm")
    }

    fn validate_network_cards(&self) -> Result<(), InvalidConfig> {
        let cards = &self.network_cards;
        check(cards.len() <= MAX_NETWORK_CARDS, "network_cards", format!("at most {MAX_NETWORK_CARDS}"))?;
        cards.iter().try_for_each(NetworkCardConfig::validate)?;
        let macs: HashSet<_> = cards.iter().map(|card| card.mac).collect();
        check(macs.len() == cards.len(), "network_cards.mac", "two cards have the same")?;
        let taps: Vec<_> = cards.iter().filter_map(|card| card.tap.as_ref()).collect();
        let different: HashSet<_> = taps.iter().collect();
        check(different.len() == taps.len(), "network_cards.tap", "two cards have the same")
    }

    fn validate_balloon(&self) -> Result<(), InvalidConfig> {
        let target_mib = self.balloon.map_or(0, |balloon| balloon.target_mib);
        check(target_mib <= self.memory_mib, "balloon.target_mib", "more than the machine's memory")
    }

    fn validate_shares(&self) -> Result<(), InvalidConfig> {
        let shares = &self.shares;
        check(shares.len() <= MAX_SHARES, "shares", format!("at most {MAX_SHARES}"))?;
        let fits = |share: &ShareConfig| (1..=MAX_SHARE_TAG_BYTES).contains(&share.tag.len());
        let is_text = |share: &ShareConfig| !share.tag.contains('\0');
        let tags = format!("1 to {MAX_SHARE_TAG_BYTES} bytes, none of them zero");
        check(shares.iter().all(|share| fits(share) && is_text(share)), "shares.tag", tags)?;
        let different: HashSet<_> = shares.iter().map(|share| &share.tag).collect();
        check(different.len() == shares.len(), "shares.tag", "two shares have the same")
    }
}

impl NetworkCardConfig {
    fn validate(&self) -> Result<(), InvalidConfig> {
        self.tap.iter().try_for_each(|tap| validate_tap(tap))?;
        let mtu = self.mtu.is_none_or(|mtu| mtu >= MIN_MTU_BYTES);
        check(mtu, "network_cards.mtu", format!("at least {MIN_MTU_BYTES}"))?;
        let one = self.tap.is_none() || self.gateway.is_none();
        check(one, "network_cards.gateway", "a card has one or an interface")?;
        self.gateway.iter().try_for_each(GatewayConfig::validate)?;
        self.rates.validate()
    }
}

impl GatewayConfig {
    fn validate(&self) -> Result<(), InvalidConfig> {
        let is_station = |address: Ipv4Addr| {
            !(address.is_unspecified()
                || address.is_loopback()
                || address.is_multicast()
                || address.is_broadcast())
        };
        let addresses = [self.guest, self.address];
        let fit = addresses.into_iter().all(is_station) && self.guest != self.address;
        check(fit, "network_cards.gateway", "two stations' addresses")
    }
}

impl CardRates {
    /// # Errors
    /// A rate that lets nothing pass, or more than [`MAX_RATE`].
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let possible = |value: u64| (1..=MAX_RATE).contains(&value);
        let mut rates = self.to_guest.iter().chain(&self.to_network);
        let fit = rates.all(|rate| possible(rate.bytes_per_second) && possible(rate.burst_bytes));
        check(fit, "network_cards.rates", format!("1 to {MAX_RATE} are possible"))
    }
}

/// # Errors
/// What can be no interface's name.
pub fn validate_tap(name: &str) -> Result<(), InvalidConfig> {
    let is_possible = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b'%';
    let named = (1..=MAX_TAP_NAME_BYTES).contains(&name.len()) && name.bytes().all(is_possible);
    let problem = format!("an interface's name, 1 to {MAX_TAP_NAME_BYTES} printable characters");
    check(named, "network_cards.tap", problem)
}

impl FromStr for MacAddress {
    type Err = InvalidConfig;

    fn from_str(text: &str) -> Result<Self, InvalidConfig> {
        let problem = || InvalidConfig {
            field: "network_cards.mac",
            problem: format!("{text:?} is no unicast address like 02:00:00:00:00:01"),
        };
        let mut bytes = [0; 6];
        let mut pairs = text.split(':');
        for byte in &mut bytes {
            let pair = pairs.next().filter(|pair| pair.len() == 2).ok_or_else(problem)?;
            let is_hexadecimal = pair.bytes().all(|digit| digit.is_ascii_hexdigit());
            *byte = u8::from_str_radix(pair, 16).ok().filter(|_| is_hexadecimal).ok_or_else(problem)?;
        }
        // The lowest bit of the first byte says that it is many's address (IEEE 802).
        let is_unicast = bytes[0] & 1 == 0 && bytes != [0; 6];
        if pairs.next().is_none() && is_unicast { Ok(Self(bytes)) } else { Err(problem()) }
    }
}

impl TryFrom<String> for MacAddress {
    type Error = InvalidConfig;

    fn try_from(text: String) -> Result<Self, InvalidConfig> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(address: MacAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl DiskConfig {
    /// # Errors
    /// A capacity that is no multiple of a sector, or extents that do not fit.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let whole = self.capacity_bytes > 0 && self.capacity_bytes.is_multiple_of(SECTOR_BYTES);
        check(whole, "disks.capacity_bytes", "a positive multiple of 512")?;
        validate_extents(&self.extents, self.capacity_bytes)
    }
}

/// # Errors
/// Extents that are too many, not made of whole sectors, or longer than the disk.
pub fn validate_extents(extents: &[Extent], capacity_bytes: u64) -> Result<(), InvalidConfig> {
    check(extents.len() <= MAX_EXTENTS, "extents", format!("at most {MAX_EXTENTS}"))?;
    let mut total: u64 = 0;
    for extent in extents {
        let whole = extent.length_bytes > 0 && extent.length_bytes.is_multiple_of(SECTOR_BYTES);
        check(whole, "extents.length_bytes", "a positive multiple of 512")?;
        let end = extent.offset_bytes.checked_add(extent.length_bytes);
        check(end.is_some(), "extents.offset_bytes", "offset and length overflow")?;
        total = total.saturating_add(extent.length_bytes);
    }
    check(total <= capacity_bytes, "extents", "longer than the disk's capacity")
}

/// # Errors
/// As [`validate_extents`], of those that are bound from `start_bytes` of a disk on.
pub fn validate_binding(
    start_bytes: u64,
    extents: &[Extent],
    capacity_bytes: u64,
) -> Result<(), InvalidConfig> {
    check(start_bytes.is_multiple_of(SECTOR_BYTES), "start_bytes", "a multiple of 512")?;
    let room = capacity_bytes.checked_sub(start_bytes);
    let room = room.ok_or_else(|| InvalidConfig {
        field: "start_bytes",
        problem: "beyond the disk's capacity".into(),
    })?;
    validate_extents(extents, room)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(offset_bytes: u64, length_bytes: u64) -> Extent {
        Extent { path: "/x".into(), offset_bytes, length_bytes }
    }

    #[test]
    fn addresses_of_cards_are_read_and_written_as_text() {
        let mac: MacAddress = "02:0a:Ff:00:00:01".parse().unwrap();
        assert_eq!(mac, MacAddress([2, 10, 255, 0, 0, 1]));
        assert_eq!(serde_json::to_string(&mac).unwrap(), r#""02:0a:ff:00:00:01""#);
        for nonsense in
            ["", "02", "02:00:00:00:00:00:00", "01:00:00:00:00:01", "00:00:00:00:00:00", "+2:00:00:00:00:01"]
        {
            assert!(nonsense.parse::<MacAddress>().is_err(), "{nonsense}");
        }
    }

    /// The smallest machine, as text, with more fields.
    fn machine(accelerator: &str, more: &str) -> Result<(), String> {
        let text = format!(
            r#"{{"id": "m", "accelerator": "{accelerator}", "vcpus": 1, "memory_mib": 64, "kernel": "k",
                "initramfs": null, "command_line": "", "disks": [], "guest_cid": 3, "console_limit_bytes": 0,
                "qemu": "q"{more}}}"#
        );
        let config: MachineConfig = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        config.validate().map_err(|error| error.to_string())
    }

    #[test]
    fn cards_balloons_and_shares_are_checked_by_name() {
        let card = |mac: &str, tap: &str| format!(r#"{{"mac": "{mac}", "tap": "{tap}"}}"#);
        let (one, two) = (card("02:00:00:00:00:01", "tap0"), card("02:00:00:00:00:02", "tap1"));
        let with = |more: &str| format!(r#"[{{"mac": "02:00:00:00:00:01", {more}}}]"#);
        let share = |tag: &str| format!(r#"{{"tag": "{tag}", "socket": "/s"}}"#);
        let balloon = |mib: u32| {
            format!(r#"{{"target_mib": {mib}, "deflate_on_oom": true, "report_free_pages": true}}"#)
        };
        let (data, long) = (share("data"), share(&"x".repeat(37)));
        for (field, value, problem) in [
            ("network_cards", format!("[{one}, {two}]"), None),
            ("network_cards", r#"[{"mac": "02:00:00:00:00:01"}, {"mac": "02:00:00:00:00:02"}]"#.into(), None),
            ("network_cards", format!("[{one}, {one}]"), Some("network_cards.mac: two cards")),
            ("network_cards", format!("[{}]", card("02:00:00:00:00:01", "")), Some("network_cards.tap")),
            ("network_cards", format!("[{}]", card("02:00:00:00:00:01", "a/b")), Some("network_cards.tap")),
            (
                "network_cards",
                with(r#""gateway": {"socket": "s", "guest": "10.0.0.2", "address": "10.0.0.1"}"#),
                None,
            ),
            (
                "network_cards",
                with(r#""gateway": {"socket": "s", "guest": "10.0.0.2", "address": "10.0.0.2"}"#),
                Some("network_cards.gateway: two stations"),
            ),
            (
                "network_cards",
                with(r#""gateway": {"socket": "s", "guest": "127.0.0.1", "address": "10.0.0.2"}"#),
                Some("network_cards.gateway: two stations"),
            ),
            (
                "network_cards",
                with(r#""tap": "t", "gateway": {"socket": "s", "guest": "10.0.0.2", "address": "10.0.0.1"}"#),
                Some("network_cards.gateway: a card has one or"),
            ),
            (
                "network_cards",
                with(r#""rates": {"to_guest": {"bytes_per_second": 1, "burst_bytes": 1}}"#),
                None,
            ),
            (
                "network_cards",
                with(r#""rates": {"to_network": {"bytes_per_second": 0, "burst_bytes": 1}}"#),
                Some("network_cards.rates: 1 to"),
            ),
            ("network_cards", format!("[{}]", card("03:00:00:00:00:01", "t")), Some("no unicast address")),
            (
                "network_cards",
                format!("[{}]", vec![one.clone(); 9].join(",")),
                Some("network_cards: at most 8"),
            ),
            ("balloon", balloon(64), None),
            ("balloon", balloon(65), Some("balloon.target_mib: more than")),
            ("shares", format!("[{data}]"), None),
            ("shares", format!("[{data}, {data}]"), Some("shares.tag: two shares")),
            ("shares", format!("[{}]", share("")), Some("shares.tag: 1 to 36 bytes")),
            ("shares", format!("[{long}]"), Some("shares.tag: 1 to 36 bytes")),
        ] {
            let more = format!(r#", "{field}": {value}"#);
            let result = machine("kvm", &more).err().unwrap_or_default();
            let matches = problem.map_or(result.is_empty(), |problem| result.contains(problem));
            assert!(matches, "{more}: {result:?}");
        }
        let refusal = machine("tcg", &format!(r#", "balloon": {}"#, balloon(0))).unwrap_err();
        assert!(refusal.contains("balloon") && refusal.contains("use kvm"), "{refusal}");
        let more = format!(r#", "network_cards": [{one}], "shares": [{data}]"#);
        assert_eq!(machine("tcg", &more), Ok(()));
    }

    #[test]
    fn extents_that_do_not_fit_are_refused() {
        assert!(validate_extents(&[extent(0, 512), extent(512, 512)], 1024).is_ok());
        assert!(validate_extents(&[extent(0, 1024), extent(0, 512)], 1024).is_err());
        assert!(validate_extents(&[extent(0, 100)], 1024).is_err());
        assert!(validate_extents(&[extent(u64::MAX, 512)], 1024).is_err());
        assert!(validate_extents(&[extent(0, u64::MAX - 511), extent(0, u64::MAX - 511)], 1024).is_err());
    }
}
