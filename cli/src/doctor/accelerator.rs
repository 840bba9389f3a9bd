//! Which accelerator this host can run machines on, and why.
//!
//! Hardware KVM is `/dev/kvm` with a processor that says `vmx` or `svm`. Without those flags a `/dev/kvm` that opens
//! is a software one, on which an ordinary guest crawls; QEMU's emulation (tcg) serves better there.

use std::io::ErrorKind;
use std::path::PathBuf;

use super::report::Check;
use super::settings::AcceleratorRequest as Request;

const NAME: &str = "accelerator";
const KVM_GROUP: &str = "add the user that runs berthd to the group that owns /dev/kvm (`usermod -aG kvm USER`, then log in again)";
const KVM_ENABLE: &str =
    "enable virtualization in the firmware or the hypervisor, or start berthd with --accelerator tcg";
const QEMU_INSTALL: &str = "install it (`apt-get install qemu-system-x86`) or name it with --qemu";
const TCG_LIMITS: &str = "for isolation and speed use a host with hardware KVM: tcg is software emulation, slow and no security boundary";
const SOFTWARE_KVM: &str = "the processor shows neither vmx nor svm, so /dev/kvm is software KVM";

/// What the host offers.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    kvm: KvmAccess,
    /// The processor says `vmx` or `svm`.
    hardware: bool,
    qemu: Option<PathBuf>,
}

/// How opening `/dev/kvm` ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum KvmAccess {
    Opens,
    Missing,
    Denied,
    Fails(String),
}

/// What machines would run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Kvm { reason: String, hardware: bool },
    Tcg { reason: String },
    None { reason: String, fix: String },
}

impl Choice {
    fn none(reason: &str, fix: &str) -> Self {
        Self::None { reason: reason.to_owned(), fix: fix.to_owned() }
    }
}

impl Probe {
    pub(super) fn of_host(qemu: Option<PathBuf>) -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self { kvm: open_kvm(), hardware: has_virtualization_flag(&cpuinfo), qemu }
    }

    /// What `request` comes to here. A request is honoured or refused, never replaced.
    pub(super) fn choose(&self, request: Request) -> Choice {
        match request {
            Request::Auto => self.automatic(),
            Request::Kvm => self.kvm(),
            Request::Tcg => self.tcg("asked for with --accelerator tcg"),
        }
    }

    fn automatic(&self) -> Choice {
        match (&self.kvm, self.hardware) {
            (KvmAccess::Opens, true) => Choice::Kvm {
                reason: "hardware KVM: /dev/kvm opens, the processor shows vmx or svm".to_owned(),
                hardware: true,
            },
            // Software in its place would quietly give up the machine's security boundary.
            (KvmAccess::Denied, true) => {
                Choice::none("hardware KVM, but no permission on /dev/kvm", KVM_GROUP)
            }
            (KvmAccess::Opens | KvmAccess::Denied, false) => self.tcg(SOFTWARE_KVM),
            (KvmAccess::Missing, _) => self.tcg("there is no /dev/kvm"),
            (KvmAccess::Fails(error), _) => self.tcg(&format!("/dev/kvm does not open ({error})")),
        }
    }

    fn kvm(&self) -> Choice {
        match &self.kvm {
            KvmAccess::Opens if self.hardware => Choice::Kvm {
                reason: "hardware KVM, asked for with --accelerator kvm".to_owned(),
                hardware: true,
            },
            KvmAccess::Opens => Choice::Kvm {
                reason: format!("asked for with --accelerator kvm, but {SOFTWARE_KVM}"),
                hardware: false,
            },
            KvmAccess::Missing => Choice::none("there is no /dev/kvm on this host", KVM_ENABLE),
            KvmAccess::Denied => Choice::none("no permission on /dev/kvm", KVM_GROUP),
            KvmAccess::Fails(error) => Choice::none(&format!("/dev/kvm does not open ({error})"), KVM_ENABLE),
        }
    }

    fn tcg(&self, reason: &str) -> Choice {
        match self.qemu {
            Some(_) => Choice::Tcg { reason: reason.to_owned() },
            None => Choice::none(&format!("{reason}, and qemu-system-x86_64 was not found"), QEMU_INSTALL),
        }
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

pub(super) fn check(choice: &Choice) -> Check {
    match choice {
        Choice::Kvm { reason, hardware: true } => Check::ok(NAME, format!("kvm: {reason}")),
        Choice::Kvm { reason, hardware: false } => Check::warning(
            NAME,
            format!("kvm: {reason}"),
            "expect starts of half a minute; --accelerator tcg is faster here",
        ),
        Choice::Tcg { reason } => Check::warning(NAME, format!("tcg: {reason}"), TCG_LIMITS),
        Choice::None { reason, fix } => Check::missing(NAME, reason.clone(), fix.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    fn verdict(kvm: KvmAccess, hardware: bool, qemu: bool, request: Request) -> (Verdict, String) {
        let probe = Probe { kvm, hardware, qemu: qemu.then(|| PathBuf::from("/usr/bin/qemu")) };
        let check = check(&probe.choose(request));
        assert_eq!(
            check.verdict == Verdict::Ok,
            check.fix.is_none(),
            "all but the good has a fix: {check:?}"
        );
        (check.verdict, check.found.split(':').next().unwrap().to_owned())
    }

    #[test]
    fn auto_follows_the_table_of_hosts() {
        use KvmAccess::{Denied, Fails, Missing, Opens};
        for (kvm, hardware, qemu, expected) in [
            (Opens, true, false, (Verdict::Ok, "kvm")),
            (Opens, false, true, (Verdict::Warning, "tcg")),
            (Missing, true, true, (Verdict::Warning, "tcg")),
            (Fails("x".to_owned()), true, true, (Verdict::Warning, "tcg")),
            (Denied, false, true, (Verdict::Warning, "tcg")),
            (Denied, true, true, (Verdict::Missing, "hardware KVM, but no permission on /dev/kvm")),
            (
                Missing,
                false,
                false,
                (Verdict::Missing, "there is no /dev/kvm, and qemu-system-x86_64 was not found"),
            ),
        ] {
            let expected = (expected.0, expected.1.to_owned());
            assert_eq!(
                verdict(kvm.clone(), hardware, qemu, Request::Auto),
                expected,
                "{kvm:?} {hardware} {qemu}"
            );
        }
    }

    #[test]
    fn a_request_is_never_replaced() {
        assert_eq!(verdict(KvmAccess::Opens, false, true, Request::Kvm).0, Verdict::Warning);
        assert_eq!(verdict(KvmAccess::Missing, true, true, Request::Kvm).0, Verdict::Missing);
        assert_eq!(verdict(KvmAccess::Opens, true, false, Request::Tcg).0, Verdict::Missing);
    }

    #[test]
    fn only_a_whole_flag_counts() {
        assert!(has_virtualization_flag("model name\t: x\nflags\t\t: fpu vmx ept\n"));
        assert!(!has_virtualization_flag("flags\t\t: fpu vmxx\nmodel name\t: svm\n"));
    }
}
