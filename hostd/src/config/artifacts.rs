//! The files a machine is started from, and where they are found: as named, beside `berthd`, in `/usr/lib/berth`.

use std::path::{Path, PathBuf};

use super::{ConfigError, absolute};

/// Where a package puts them.
const SYSTEM_DIRECTORY: &str = "/usr/lib/berth";

pub(super) struct Artifacts {
    pub(super) kernel: PathBuf,
    pub(super) initramfs: PathBuf,
    pub(super) vmm: PathBuf,
    pub(super) virtiofsd: PathBuf,
}

impl Artifacts {
    pub(super) fn find(
        kernel: Option<PathBuf>,
        initramfs: Option<PathBuf>,
        vmm: Option<PathBuf>,
        virtiofsd: Option<PathBuf>,
    ) -> Result<Self, ConfigError> {
        let program = std::env::current_exe().ok();
        let beside = program.as_deref().and_then(Path::parent);
        Ok(Self {
            kernel: KERNEL.find(kernel, beside)?,
            initramfs: INITRAMFS.find(initramfs, beside)?,
            vmm: VMM.find(vmm, beside)?,
            virtiofsd: VIRTIOFSD.find_or_expect(virtiofsd, beside)?,
        })
    }
}

struct Artifact {
    what: &'static str,
    flag: &'static str,
    setting: &'static str,
    file_name: &'static str,
}

const KERNEL: Artifact =
    Artifact { what: "the guest kernel", flag: "--kernel", setting: "kernel", file_name: "vmlinux" };
const INITRAMFS: Artifact = Artifact {
    what: "the agent's initramfs",
    flag: "--initramfs",
    setting: "initramfs",
    file_name: "initramfs.cpio",
};
const VMM: Artifact =
    Artifact { what: "the machine monitor", flag: "--vmm", setting: "vmm", file_name: "berth-vmm" };

const VIRTIOFSD: Artifact = Artifact {
    what: "the server of shares",
    flag: "--virtiofsd",
    setting: "virtiofsd",
    file_name: "virtiofsd",
};

impl Artifact {
    /// As [`Self::find`], for what most machines do without: where it is nowhere, the place where it should be. What was
    /// named must be there.
    fn find_or_expect(&self, named: Option<PathBuf>, beside: Option<&Path>) -> Result<PathBuf, ConfigError> {
        let is_named = named.is_some();
        match self.find(named, beside) {
            Err(ConfigError::Missing { .. }) if !is_named => {
                Ok(Path::new(SYSTEM_DIRECTORY).join(self.file_name))
            }
            result => result,
        }
    }

    fn find(&self, named: Option<PathBuf>, beside: Option<&Path>) -> Result<PathBuf, ConfigError> {
        let searched = match named {
            Some(path) => vec![absolute(self.setting, &path)?],
            None => beside
                .into_iter()
                .chain([Path::new(SYSTEM_DIRECTORY)])
                .map(|directory| directory.join(self.file_name))
                .collect(),
        };
        let found = searched.iter().find(|path| path.is_file()).cloned();
        found.ok_or(ConfigError::Missing { what: self.what, flag: self.flag, searched })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_file_wins_and_must_exist() {
        let directory = tempfile::tempdir().unwrap();
        let named = directory.path().join("my-kernel");
        let missing = KERNEL.find(Some(named.clone()), Some(directory.path())).unwrap_err();
        assert!(
            missing.to_string().contains("my-kernel") && missing.to_string().contains("--kernel"),
            "{missing}"
        );
        std::fs::write(&named, "").unwrap();
        std::fs::write(directory.path().join("vmlinux"), "").unwrap();
        assert_eq!(KERNEL.find(Some(named.clone()), Some(directory.path())).unwrap(), named);
    }

    #[test]
    fn what_can_be_done_without_is_missed_only_if_it_was_named() {
        let directory = tempfile::tempdir().unwrap();
        let expected = VIRTIOFSD.find_or_expect(None, Some(directory.path())).unwrap();
        assert!(expected.ends_with("virtiofsd"));
        let named = Some(directory.path().join("mine"));
        let missing = VIRTIOFSD.find_or_expect(named, Some(directory.path())).unwrap_err();
        assert!(missing.to_string().contains("--virtiofsd"), "{missing}");
    }

    #[test]
    fn otherwise_it_is_found_beside_the_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let beside = directory.path().join("berth-vmm");
        std::fs::write(&beside, "").unwrap();
        assert_eq!(VMM.find(None, Some(directory.path())).unwrap(), beside);
    }
}
