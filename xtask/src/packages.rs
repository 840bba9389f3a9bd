//! `cargo xtask packages`: what Berth is built and tested with beside Rust, each package with its reason.
//!
//! Installs what is missing when it may (as root, by apt-get); otherwise it prints the command and stops.

use std::process::Command;

use anyhow::{Context, bail};

use crate::program;
use crate::progress;

/// A Debian package and why it is needed.
struct Package {
    name: &'static str,
    reason: &'static str,
}

const fn package(name: &'static str, reason: &'static str) -> Package {
    Package { name, reason }
}

/// In the order in which they are used.
const PACKAGES: [Package; 20] = [
    package("build-essential", "the linker for Rust, and the compiler for the kernel and SQLite"),
    package("linux-source-6.12", "the guest kernel's source"),
    package("xz-utils", "unpacks that source"),
    package("flex", "the kernel's configuration language"),
    package("bison", "the same"),
    package("bc", "computes the kernel's time constants"),
    package("libelf-dev", "the kernel's own object file checks"),
    package("libcap-ng-dev", "virtiofsd, which gives up capabilities with it"),
    package("libseccomp-dev", "the same, for its system calls"),
    package("qemu-system-x86", "the accelerator `tcg`"),
    package("e2fsprogs", "makes the empty scratch disk"),
    package("erofs-utils", "checks image disks in the tests"),
    package("busybox-static", "the content of the busybox image"),
    package("iproute2", "network namespaces and interfaces in the tests"),
    package("nftables", "the rules of networks on the host"),
    package("passt", "the network of machines where the daemon has no privilege"),
    package("docker-registry", "the registry that the tests push to and pull from"),
    package("skopeo", "a second opinion on what is in a registry and in an archive"),
    package("python3-venv", "the Python clients of the tests, in an environment of their own"),
    package("debootstrap", "the content of the Debian image"),
];

/// What `cargo xtask bench` measures with or against, and nothing else needs.
const FOR_BENCHMARKS: [Package; 2] = [
    package("fio", "the block device's peer: the same reads without a guest"),
    package("strace", "counts the monitor's system calls"),
];

pub(crate) fn run() -> anyhow::Result<()> {
    for Package { name, reason } in &PACKAGES {
        println!("{name:20} {reason}");
    }
    ensure()
}

/// Every package is installed afterwards.
///
/// # Errors
/// When packages are missing and we are not root: the message is the command that installs them.
pub(crate) fn ensure() -> anyhow::Result<()> {
    ensure_all(&PACKAGES)
}

/// The same for benchmarks alone.
///
/// # Errors
/// As [`ensure`].
pub(crate) fn ensure_for_benchmarks() -> anyhow::Result<()> {
    ensure_all(&FOR_BENCHMARKS)
}

fn ensure_all(packages: &[Package]) -> anyhow::Result<()> {
    let missing = missing(packages, &installed()?);
    if missing.is_empty() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        bail!(
            "Debian packages are missing. Install them and try again:\n\n    sudo apt-get update && \
             sudo apt-get install --no-install-recommends {}\n",
            missing.join(" ")
        );
    }
    progress::heading(format_args!("installing Debian packages: {}", missing.join(" ")));
    program::run(apt_get().arg("update"))?;
    program::run(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(&missing))
}

/// apt-get that asks nothing, and whose output goes where progress goes.
fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.arg("--quiet").env("DEBIAN_FRONTEND", "noninteractive").stdout(std::io::stderr());
    command
}

/// The names of all installed packages, one a line.
fn installed() -> anyhow::Result<String> {
    let format = "${db:Status-Status} ${Package}\n";
    program::output(Command::new("dpkg-query").args(["--show", "--showformat", format]))
        .context("Berth is built with Debian's packages, and dpkg-query does not answer")
}

fn missing(packages: &[Package], installed: &str) -> Vec<&'static str> {
    let present = |package: &Package| {
        installed.lines().any(|line| line.strip_prefix("installed ") == Some(package.name))
    };
    packages.iter().filter(|package| !present(package)).map(|package| package.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_was_removed_but_configured_counts_as_missing() {
        let mut list = String::new();
        for Package { name, .. } in &PACKAGES {
            let status = if *name == "flex" { "config-files" } else { "installed" };
            list += &format!("{status} {name}\n");
        }
        assert_eq!(missing(&PACKAGES, &list), ["flex"]);
        assert_eq!(missing(&PACKAGES, "").len(), PACKAGES.len());
    }
}
