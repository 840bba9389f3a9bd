//! The programs that machines need beside the daemon, where they are and which versions they are.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::accelerator::Choice;
use super::report::Check;
use super::settings::Settings;

/// Where a package puts the files that are not for people to start.
const SYSTEM_DIRECTORY: &str = "/usr/lib/berth";
/// Where system programs are that an ordinary user's PATH leaves out.
const SYSTEM_PROGRAMS: [&str; 2] = ["/usr/sbin", "/sbin"];
const BUILD: &str = "build it with `cargo build --release` and keep the four programs in one directory";

/// The directories that are searched, gathered once.
#[derive(Debug)]
pub(super) struct Search {
    /// PATH, and the system's programs.
    path: Vec<PathBuf>,
    /// Where `berth` itself is, where `berthd` is, and the package's directory.
    beside: Vec<PathBuf>,
    qemu: PathBuf,
    vmm: Option<PathBuf>,
}

impl Search {
    pub(super) fn of_process(settings: &Settings) -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path: Vec<_> = std::env::split_paths(&path).chain(SYSTEM_PROGRAMS.map(PathBuf::from)).collect();
        let own = std::env::current_exe().ok().and_then(|program| program.parent().map(Path::to_owned));
        let daemon = path.iter().find(|directory| directory.join("berthd").is_file()).cloned();
        let beside = own.into_iter().chain(daemon).chain([PathBuf::from(SYSTEM_DIRECTORY)]).collect();
        let qemu = settings.qemu.clone().unwrap_or_else(|| "qemu-system-x86_64".into());
        Self { path, beside, qemu, vmm: settings.vmm.clone() }
    }

    /// Where QEMU is, if anywhere.
    pub(super) fn qemu(&self) -> Option<PathBuf> {
        self.in_path(&self.qemu)
    }

    /// A file that the daemon looks for beside itself and in the package's directory; `Err` holds where we looked.
    pub(super) fn beside(&self, named: Option<&Path>, file_name: &str) -> Result<PathBuf, String> {
        let searched: Vec<_> = match named {
            Some(path) => vec![path.to_owned()],
            None => self.beside.iter().map(|directory| directory.join(file_name)).collect(),
        };
        let found = searched.iter().find(|path| path.is_file()).cloned();
        found.ok_or_else(|| {
            let searched = searched.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
            format!("not found at {}", searched.join(", "))
        })
    }

    /// A program by its bare name in PATH, or by its path.
    fn in_path(&self, program: &Path) -> Option<PathBuf> {
        if program.components().count() > 1 {
            return program.is_file().then(|| program.to_owned());
        }
        self.path.iter().map(|directory| directory.join(program)).find(|file| file.is_file())
    }
}

pub(super) fn checks(search: &Search, accelerator: &Choice, is_privileged: bool) -> Vec<Check> {
    let berthd =
        search.beside(None, "berthd").or_else(|error| search.in_path(Path::new("berthd")).ok_or(error));
    let mut checks = vec![
        found_or_missing("berthd", berthd, "--version", BUILD),
        found_or_missing("berth-vmm", search.beside(search.vmm.as_deref(), "berth-vmm"), "--version", BUILD),
        found_or_missing(
            "mkfs.ext4",
            search.in_path(Path::new("mkfs.ext4")).ok_or_else(|| "not found in PATH".to_owned()),
            "-V",
            "install it (`apt-get install e2fsprogs`): scratch disks are made with it",
        ),
    ];
    // With KVM nobody asks for QEMU; without an accelerator that check has said it already.
    if matches!(accelerator, Choice::Tcg { .. }) {
        let qemu = search.qemu().ok_or_else(|| format!("{} was not found", search.qemu.display()));
        checks.push(found_or_missing(
            "qemu",
            qemu,
            "--version",
            "install it (`apt-get install qemu-system-x86`)",
        ));
    }
    if !is_privileged {
        let passt = search.in_path(Path::new("passt")).ok_or_else(|| "not found in PATH".to_owned());
        let fix = "install it (`apt-get install passt`): without privilege it is the network of machines";
        checks.push(found_or_missing("passt", passt, "--version", fix));
    }
    checks
}

fn found_or_missing(
    name: &'static str,
    found: Result<PathBuf, String>,
    version_flag: &str,
    fix: &str,
) -> Check {
    match found {
        Err(where_not) => Check::missing(name, where_not, fix),
        Ok(path) => match version(&path, version_flag) {
            Ok(version) => Check::ok(name, format!("{} ({version})", path.display())),
            Err(error) => Check::missing(name, format!("{} does not run: {error}", path.display()), fix),
        },
    }
}

/// The first line that the program says of itself, wherever it says it.
fn version(program: &Path, flag: &str) -> std::io::Result<String> {
    let output = Command::new(program).arg(flag).stdin(Stdio::null()).output()?;
    let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let line = String::from_utf8_lossy(&said).lines().next().unwrap_or_default().trim().to_owned();
    if output.status.success() && !line.is_empty() { Ok(line) } else { Ok("version unknown".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    fn search(directory: &Path) -> Search {
        Search {
            path: vec![directory.to_owned()],
            beside: vec![directory.to_owned()],
            qemu: "qemu-system-x86_64".into(),
            vmm: None,
        }
    }

    #[cfg(unix)]
    fn install(directory: &Path, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt;

        let path = directory.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn programs_are_found_with_their_versions() {
        let directory = tempfile::tempdir().unwrap();
        install(directory.path(), "berthd", "echo berthd 1.2");
        install(directory.path(), "mkfs.ext4", "echo mke2fs 1.47 >&2");
        let tcg = Choice::Tcg { reason: String::new() };
        let checks = checks(&search(directory.path()), &tcg, false);
        let of = |name: &str| checks.iter().find(|check| check.name == name).unwrap();
        assert!(of("berthd").found.ends_with("(berthd 1.2)"), "{checks:?}");
        assert!(of("mkfs.ext4").found.ends_with("(mke2fs 1.47)"), "{checks:?}");
        assert_eq!(of("passt").verdict, Verdict::Missing);
        assert_eq!((of("berth-vmm").verdict, of("qemu").verdict), (Verdict::Missing, Verdict::Missing));
    }

    #[test]
    fn qemu_is_nobodys_business_where_there_is_kvm() {
        let directory = tempfile::tempdir().unwrap();
        let kvm = Choice::Kvm { reason: String::new(), hardware: true };
        let checks = checks(&search(directory.path()), &kvm, true);
        assert!(!checks.iter().any(|check| ["qemu", "passt"].contains(&check.name)));
    }

    #[test]
    fn a_named_file_is_the_only_one_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("vmlinux"), "").unwrap();
        let search = search(directory.path());
        assert!(search.beside(None, "vmlinux").is_ok());
        assert_eq!(
            search.beside(Some(Path::new("/nowhere/k")), "vmlinux").unwrap_err(),
            "not found at /nowhere/k"
        );
    }
}
