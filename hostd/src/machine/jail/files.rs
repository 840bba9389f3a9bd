//! Opens what a machine's configuration names, with no more access than the machine has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use berth_vmm::config::{Accelerator, DiskAccess, Extent, MachineConfig};

const KVM: &str = "/dev/kvm";

/// Everything of the configuration that has a path or a name, once. Of files an emulated machine gets none: QEMU finds
/// them by itself.
pub(super) fn open_for(config: &MachineConfig) -> io::Result<Vec<(PathBuf, OwnedFd)>> {
    let mut opened = match config.accelerator {
        Accelerator::Kvm => open_files(config)?,
        Accelerator::Tcg => Vec::new(),
    };
    for name in config.network_cards.iter().filter_map(|card| card.tap.as_ref()) {
        opened.push((PathBuf::from(name), berth_vmm::open_tap(name).map_err(io::Error::other)?));
    }
    for gateway in config.network_cards.iter().filter_map(|card| card.gateway.as_ref()) {
        let stack = UnixStream::connect(&gateway.socket).map_err(named(&gateway.socket))?;
        opened.push((gateway.socket.clone(), stack.into()));
    }
    for share in &config.shares {
        let server = UnixStream::connect(&share.socket).map_err(named(&share.socket))?;
        opened.push((share.socket.clone(), server.into()));
    }
    Ok(opened)
}

fn open_files(config: &MachineConfig) -> io::Result<Vec<(PathBuf, OwnedFd)>> {
    let opened = accesses(config).into_iter().map(|(path, writable)| {
        let file = OpenOptions::new().read(true).write(writable).open(path).map_err(named(path))?;
        Ok((path.to_owned(), file.into()))
    });
    opened.collect()
}

/// Which files are needed, and whether to write them.
fn accesses(config: &MachineConfig) -> BTreeMap<&Path, bool> {
    let mut accesses = BTreeMap::from([(Path::new(KVM), true), (config.kernel.as_path(), false)]);
    accesses.extend(config.initramfs.as_deref().map(|path| (path, false)));
    for disk in &config.disks {
        for extent in &disk.extents {
            let writable = accesses.entry(&extent.path).or_default();
            *writable |= disk.access == DiskAccess::ReadWrite;
        }
    }
    accesses
}

/// The files of a disk that is bound to a machine later, each once.
pub(super) fn open_extents(extents: &[Extent], access: DiskAccess) -> io::Result<Vec<(PathBuf, OwnedFd)>> {
    let paths: BTreeSet<&Path> = extents.iter().map(|extent| extent.path.as_path()).collect();
    let opened = paths.into_iter().map(|path| {
        let file = OpenOptions::new().read(true).write(access == DiskAccess::ReadWrite).open(path);
        Ok((path.to_owned(), file.map_err(named(path))?.into()))
    });
    opened.collect()
}

pub(super) fn open_to_write(path: &Path) -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().write(true).open(path).map_err(named(path))?.into())
}

fn named(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
