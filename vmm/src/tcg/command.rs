//! QEMU's command line for a machine: no devices but the CPU, its interrupt controllers, a serial port and transports.

use std::ffi::OsString;
use std::os::fd::RawFd;

use crate::config::{MacAddress, MachineConfig};

/// What the guest's kernel needs to know about this accelerator, before the machine's own words.
///
/// - `console=ttyS0`: the one console there is.
/// - `panic=-1 reboot=t`: a panic and a reboot end the machine at once, by a triple fault.
/// - `mitigations=off`: software emulation does not speculate, and is no boundary anyway; flushes and thunks cost.
/// - `tsc=reliable`: the counter is the host's, and nothing else here could check it.
/// - `no_timer_check lapic_timer_hz cpu_init_udelay`: what the kernel would find out by waiting. QEMU's timer runs at
///   1 GHz, and its processors need no rest before they start.
/// - `random.trust_cpu=on`: RDRAND is emulated from the host's random bytes.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet panic=-1 reboot=t mitigations=off tsc=reliable \
    no_timer_check lapic_timer_hz=1000000000 cpu_init_udelay=0 random.trust_cpu=on";

/// The kernel's timer interrupts a second (`CONFIG_HZ`); a delay loop is counted in ticks of the counter between two.
const KERNEL_HZ: u64 = 100;

/// Descriptors that QEMU inherits.
#[derive(Debug)]
pub(super) struct Inherited {
    pub(super) monitor: RawFd,
    pub(super) console: RawFd,
    /// QEMU's devices, and each one's vhost-user connection to whoever serves it, or the socket that it
    /// [connects](QemuDevice::is_relayed) to; in guest order.
    pub(super) devices: Vec<(QemuDevice, RawFd)>,
}

/// What QEMU has for a device that is served over vhost-user: its driver's view, without anything behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum QemuDevice {
    Block,
    Vsock,
    Rng,
    NetworkCard { mac: MacAddress, mtu: Option<u16> },
    Share { tag: String },
}

impl QemuDevice {
    /// As messages call it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Block => "vhost-user-blk",
            Self::Vsock => "vhost-user-vsock-device",
            Self::Rng => "vhost-user-rng",
            Self::NetworkCard { .. } => "virtio-net-device",
            Self::Share { .. } => "vhost-user-fs-device",
        }
    }

    /// Whether it must connect by itself, through a [`super::relay`].
    pub(super) fn is_relayed(&self) -> bool {
        matches!(self, Self::NetworkCard { .. })
    }

    /// The option that leads to whoever serves it.
    fn connection(&self, index: usize, fd: RawFd) -> String {
        let place = if self.is_relayed() { "path=/proc/self/fd/" } else { "fd=" };
        format!("socket,id=device{index},{place}{fd}")
    }

    /// The options that make it, on the connection `index`.
    fn options(&self, index: usize) -> Vec<String> {
        let name = self.name();
        match self {
            Self::Block | Self::Vsock | Self::Rng => {
                vec!["-device".into(), format!("{name},chardev=device{index}")]
            }
            Self::NetworkCard { mac, mtu } => {
                let mtu = mtu.map_or_else(String::new, |mtu| format!(",host_mtu={mtu}"));
                vec![
                    "-netdev".into(),
                    format!("vhost-user,id=card{index},chardev=device{index}"),
                    "-device".into(),
                    format!("{name},netdev=card{index},mac={mac}{mtu},{WITHOUT_CONTROL_QUEUE}"),
                ]
            }
            Self::Share { tag } => vec![
                "-device".into(),
                format!("{name},chardev=device{index},tag={},queue-size={SHARE_QUEUE_SIZE}", escape(tag)),
            ],
        }
    }
}

/// QEMU would answer it by itself, for a card that is not its own.
const WITHOUT_CONTROL_QUEUE: &str = "ctrl_vq=off,ctrl_rx=off,ctrl_vlan=off,ctrl_rx_extra=off,\
    ctrl_mac_addr=off,ctrl_guest_offloads=off,guest_announce=off,mq=off";

/// As under KVM.
const SHARE_QUEUE_SIZE: u16 = 512;

/// The arguments, program name excluded.
///
/// `tsc_khz` is how fast the host's time stamp counter runs, if that is known: it is the guest's, too, and measuring
/// it takes a guest long and sometimes fails.
pub(super) fn arguments(
    config: &MachineConfig,
    inherited: &Inherited,
    tsc_khz: Option<u64>,
) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    add(&["-name", &escape(&config.id)]);
    add(&["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
    add(&["-machine", MACHINE]);
    add(&["-accel", accelerator(config.vcpus)]);
    add(&["-cpu", CPU]);
    add(&["-smp", &config.vcpus.to_string()]);
    let memory = format!("{}M", config.memory_mib);
    add(&["-m", &memory]);
    add(&["-object", &format!("memory-backend-memfd,id=ram,size={memory},share=on,reserve=off")]);
    add(&["-global", "virtio-mmio.force-legacy=false"]);
    add(&["-chardev", &format!("socket,id=monitor,fd={}", inherited.monitor)]);
    add(&["-mon", "chardev=monitor,mode=control"]);
    add(&["-chardev", &format!("socket,id=console,fd={}", inherited.console)]);
    add(&["-serial", "chardev:console"]);
    for (index, (device, fd)) in inherited.devices.iter().enumerate() {
        add(&["-chardev", &device.connection(index, *fd)]);
        device.options(index).iter().for_each(|option| add(&[option]));
    }
    add(&["-append", &format!("{KERNEL_ARGUMENTS}{} {}", clock_arguments(tsc_khz), config.command_line)]);
    arguments.extend(["-kernel".into(), config.kernel.clone().into()]);
    if let Some(initramfs) = &config.initramfs {
        arguments.extend(["-initrd".into(), initramfs.clone().into()]);
    }
    arguments
}

fn clock_arguments(tsc_khz: Option<u64>) -> String {
    tsc_khz.map_or_else(String::new, |khz| format!(" tsc_early_khz={khz} lpj={}", khz * 1000 / KERNEL_HZ))
}

/// No firmware tables and no buses beyond what a kernel needs to count time and deliver interrupts. The real-time clock
/// is one of these: a kernel that finds none looks for it for a whole second.
const MACHINE: &str =
    "microvm,acpi=off,rtc=on,pcie=off,usb=off,isa-serial=on,x-option-roms=off,memory-backend=ram";

/// All that can be emulated but fast copies of single bytes: a processor that promises them is used with `rep movsb` and
/// `rep stosb`, which QEMU executes byte by byte; without, kernel and C libraries move words.
const CPU: &str = "max,-erms,-fsrm";

/// The translation buffer takes a share of host memory unless it is bounded, in MiB.
fn accelerator(vcpus: u8) -> &'static str {
    if vcpus == 1 { "tcg,tb-size=64" } else { "tcg,tb-size=64,thread=multi" }
}

/// A comma inside a value is written twice.
fn escape(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Accelerator;

    fn config() -> MachineConfig {
        MachineConfig {
            id: "a,b".into(),
            accelerator: Accelerator::Tcg,
            vcpus: 2,
            memory_mib: 128,
            kernel: "/boot/kernel, the first".into(),
            initramfs: Some("/boot/initramfs".into()),
            command_line: "quiet".into(),
            disks: vec![],
            network_cards: vec![],
            balloon: None,
            shares: vec![],
            guest_cid: 3,
            console_limit_bytes: 1024,
            host_cpuid: vec![],
            restore: None,
            qemu: "qemu".into(),
        }
    }

    fn line(config: &MachineConfig) -> String {
        let inherited = Inherited {
            monitor: 10,
            console: 11,
            devices: vec![
                (QemuDevice::Block, 12),
                (QemuDevice::Rng, 13),
                (QemuDevice::NetworkCard { mac: MacAddress([2, 0, 0, 0, 0, 1]), mtu: Some(1400) }, 14),
                (QemuDevice::Share { tag: "a,b".into() }, 15),
            ],
        };
        let words = arguments(config, &inherited, Some(2_000_000))
            .into_iter()
            .map(|word| word.into_string().unwrap());
        words.collect::<Vec<_>>().join("|")
    }

    #[test]
    fn devices_come_in_order_and_every_value_is_in_its_place() {
        let line = line(&config());
        for part in [
            "-name|a,,b|",
            "-smp|2|",
            "-m|128M|",
            "size=128M,share=on",
            "thread=multi",
            "socket,id=monitor,fd=10|",
            "socket,id=console,fd=11|",
            "socket,id=device0,fd=12|-device|vhost-user-blk,chardev=device0|-chardev|socket,id=device1,fd=13|",
            "path=/proc/self/fd/14|-netdev|vhost-user,id=card2,chardev=device2|-device|virtio-net-device,netdev=card2,\
             mac=02:00:00:00:00:01,host_mtu=1400,ctrl_vq=off",
            "fd=15|-device|vhost-user-fs-device,chardev=device3,tag=a,,b,queue-size=512|",
            "-kernel|/boot/kernel, the first|",
            "-initrd|/boot/initramfs",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
        let kernel = format!("-append|{KERNEL_ARGUMENTS} tsc_early_khz=2000000 lpj=20000000 quiet|");
        assert!(line.contains(&kernel), "{line}");
    }

    #[test]
    fn one_processor_without_an_initramfs() {
        let line = line(&MachineConfig { vcpus: 1, initramfs: None, ..config() });
        assert!(!line.contains("thread=multi") && !line.contains("-initrd"));
    }
}
