//! Which accelerator this host can run machines on, which one is used, and why.
//!
//! [`probe`] looks at the host; [`Probe::choose`] decides and is pure. Starting machines is the monitor's work.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use berth_vmm::config::Accelerator;
use clap::ValueEnum;
use serde::Deserialize;

use crate::engine::Pace;

/// What the administrator asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    #[default]
    Auto,
    Kvm,
    Tcg,
}

/// What the host offers.
#[derive(Clone, Debug)]
pub struct Probe {
    pub kvm: KvmAccess,
    /// The processor says `vmx` or `svm`: KVM, where it opens, runs an ordinary guest at full speed.
    pub hardware_virtualization: bool,
    /// QEMU as asked for, and where it was found.
    pub qemu: PathBuf,
    pub qemu_found: Option<PathBuf>,
}

/// How opening `/dev/kvm` ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvmAccess {
    Opens,
    Missing,
    Denied,
    Fails(String),
}

/// The accelerator that is used, with the reason in one clause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    pub accelerator: Accelerator,
    pub pace: Pace,
    pub reason: &'static str,
}

/// Why no machine can run here; each message names what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error(
        "no permission on /dev/kvm: add the user that runs berthd to the group that owns it \
         (`usermod -aG kvm USER`, then log in again) or start berthd with --accelerator tcg"
    )]
    KvmDenied,
    #[error(
        "there is no /dev/kvm on this host: enable virtualization in the firmware or the hypervisor, \
         or start berthd with --accelerator tcg"
    )]
    KvmMissing,
    #[error("/dev/kvm does not open ({0}): repair it or start berthd with --accelerator tcg")]
    KvmFails(String),
    #[error(
        "{} was not found: install it (`apt-get install qemu-system-x86`) or name it with --qemu", .0.display()
    )]
    QemuMissing(PathBuf),
    #[error(
        "no usable accelerator: KVM cannot run machines here ({kvm}) and {} was not found; \
         install it (`apt-get install qemu-system-x86`) or name it with --qemu",
        qemu.display()
    )]
    Neither { kvm: &'static str, qemu: PathBuf },
}

/// Looks at the host.
#[must_use]
pub fn probe(qemu: &Path) -> Probe {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    Probe {
        kvm: open_kvm(),
        hardware_virtualization: has_virtualization_flag(&cpuinfo),
        qemu: qemu.to_owned(),
        qemu_found: find_program(qemu),
    }
}

fn open_kvm() -> KvmAccess {
    match std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) => KvmAccess::Opens,
        // A node without a driver behind it (ENXIO, ENODEV) is no better than none.
        Err(error) if error.kind() == ErrorKind::NotFound || matches!(error.raw_os_error(), Some(6 | 19)) => {
            KvmAccess::Missing
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => KvmAccess::Denied,
        Err(error) => KvmAccess::Fails(error.to_string()),
    }
}

fn has_virtualization_flag(cpuinfo: &str) -> bool {
    let mut flags = cpuinfo.lines().filter(|line| line.starts_with("flags"));
    flags.any(|line| line.split_ascii_whitespace().any(|flag| matches!(flag, "vmx" | "svm")))
}

fn find_program(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_owned());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}

impl Probe {
    /// What `request` comes to on this host.
    ///
    /// # Errors
    /// [`Unusable`] with the fix. Hardware KVM without permission is an error even for `auto`: falling back to
    /// software would quietly give up the machine's security boundary.
    pub fn choose(&self, request: Request) -> Result<Choice, Unusable> {
        match request {
            Request::Kvm => self.kvm(),
            Request::Tcg => self.tcg("asked for with --accelerator tcg"),
            Request::Auto => self.automatic(),
        }
    }

    fn kvm(&self) -> Result<Choice, Unusable> {
        match &self.kvm {
            KvmAccess::Opens if self.hardware_virtualization => Ok(Choice {
                accelerator: Accelerator::Kvm,
                pace: Pace::Ordinary,
                reason: "hardware KVM, asked for with --accelerator kvm",
            }),
            KvmAccess::Opens => Ok(Choice {
                accelerator: Accelerator::Kvm,
                pace: Pace::Interpreted,
                reason: "asked for with --accelerator kvm; this host's KVM has no hardware behind it and is slow",
            }),
            KvmAccess::Missing => Err(Unusable::KvmMissing),
            KvmAccess::Denied => Err(Unusable::KvmDenied),
            KvmAccess::Fails(error) => Err(Unusable::KvmFails(error.clone())),
        }
    }

    fn tcg(&self, reason: &'static str) -> Result<Choice, Unusable> {
        match self.qemu_found {
            Some(_) => Ok(Choice { accelerator: Accelerator::Tcg, pace: Pace::Ordinary, reason }),
            None => Err(Unusable::QemuMissing(self.qemu.clone())),
        }
    }

    fn automatic(&self) -> Result<Choice, Unusable> {
        let without_kvm = match (&self.kvm, self.hardware_virtualization) {
            (KvmAccess::Opens, true) => {
                return Ok(Choice {
                    accelerator: Accelerator::Kvm,
                    pace: Pace::Ordinary,
                    reason: "hardware KVM",
                });
            }
            (KvmAccess::Denied, true) => return Err(Unusable::KvmDenied),
            (KvmAccess::Opens | KvmAccess::Denied, false) => {
                "the processor shows neither vmx nor svm, so /dev/kvm is software KVM"
            }
            (KvmAccess::Missing, _) => "there is no /dev/kvm",
            (KvmAccess::Fails(_), _) => "/dev/kvm does not open",
        };
        let neither = |_| Unusable::Neither { kvm: without_kvm, qemu: self.qemu.clone() };
        self.tcg(without_kvm).map_err(neither)
    }
}

/// What `info` says in red about an accelerator, if anything.
#[must_use]
pub fn warning(accelerator: Accelerator) -> Option<&'static str> {
    match accelerator {
        Accelerator::Kvm => None,
        Accelerator::Tcg => Some(
            "WARNING: machines run on software emulation (tcg): it is slow and no security boundary; \
             use a host with hardware KVM for anything but development",
        ),
    }
}

/// The name in flags, logs and replies.
#[must_use]
pub fn name(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "tcg",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(kvm: KvmAccess, hardware_virtualization: bool, qemu: bool) -> Probe {
        let qemu_found = qemu.then(|| PathBuf::from("/usr/bin/qemu"));
        Probe { kvm, hardware_virtualization, qemu: "qemu".into(), qemu_found }
    }

    fn chosen(probe: &Probe, request: Request) -> Option<Accelerator> {
        probe.choose(request).ok().map(|choice| choice.accelerator)
    }

    #[test]
    fn auto_takes_kvm_only_where_hardware_is_behind_it() {
        use KvmAccess::{Denied, Fails, Missing, Opens};
        let table = [
            (host(Opens, true, true), Some(Accelerator::Kvm)),
            (host(Opens, true, false), Some(Accelerator::Kvm)),
            (host(Opens, false, true), Some(Accelerator::Tcg)),
            (host(Opens, false, false), None),
            (host(Missing, true, true), Some(Accelerator::Tcg)),
            (host(Missing, false, false), None),
            (host(Denied, true, true), None),
            (host(Denied, false, true), Some(Accelerator::Tcg)),
            (host(Fails("x".into()), true, true), Some(Accelerator::Tcg)),
        ];
        for (probe, expected) in table {
            assert_eq!(chosen(&probe, Request::Auto), expected, "{probe:?}");
        }
    }

    #[test]
    fn a_request_is_honoured_or_refused_never_replaced() {
        let software = host(KvmAccess::Opens, false, false);
        let kvm = software.choose(Request::Kvm).unwrap();
        assert_eq!((kvm.accelerator, kvm.pace), (Accelerator::Kvm, Pace::Interpreted));
        assert_eq!(software.choose(Request::Tcg), Err(Unusable::QemuMissing("qemu".into())));
        assert_eq!(host(KvmAccess::Missing, true, true).choose(Request::Kvm), Err(Unusable::KvmMissing));
        assert_eq!(host(KvmAccess::Denied, true, true).choose(Request::Kvm), Err(Unusable::KvmDenied));
    }

    #[test]
    fn every_refusal_names_a_fix() {
        let refusals = [
            Unusable::KvmDenied,
            Unusable::KvmMissing,
            Unusable::KvmFails("x".into()),
            Unusable::QemuMissing("q".into()),
            Unusable::Neither { kvm: "k", qemu: "q".into() },
        ];
        for refusal in refusals {
            let text = refusal.to_string();
            assert!(text.contains("--accelerator tcg") || text.contains("--qemu"), "{text}");
        }
    }

    #[test]
    fn only_a_whole_flag_counts() {
        assert!(has_virtualization_flag("model name\t: x\nflags\t\t: fpu vmx ept\n"));
        assert!(!has_virtualization_flag("flags\t\t: fpu vmxx\nmodel name\t: svm\n"));
    }
}
