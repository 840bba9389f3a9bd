//! The files that every machine starts from: the guest kernel and the initramfs with the agent.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::programs::Search;
use super::report::Check;
use super::settings::Settings;
use crate::quantity::binary_size;

/// ELF, 64 bits, little-endian (ELF specification, "ELF Identification").
const ELF64: &[u8] = &[0x7f, b'E', b'L', b'F', 2, 1];
/// A cpio archive in the "new ASCII" format, which is all the kernel unpacks uncompressed.
const CPIO: &[u8] = b"070701";
const KERNEL_FIX: &str = "build it with `cargo xtask kernel`, or name one with --kernel";
const INITRAMFS_FIX: &str = "build it with `cargo xtask demo`, or name one with --initramfs";

pub(super) fn checks(settings: &Settings, search: &Search) -> [Check; 2] {
    let kernel = search.beside(settings.kernel.as_deref(), "vmlinux");
    let initramfs = search.beside(settings.initramfs.as_deref(), "initramfs.cpio");
    [
        match kernel {
            Ok(path) => check("kernel", &path, ELF64, "an uncompressed 64-bit ELF kernel", KERNEL_FIX),
            Err(where_not) => Check::missing("kernel", where_not, KERNEL_FIX),
        },
        match initramfs {
            Ok(path) => check("initramfs", &path, CPIO, "an uncompressed cpio archive", INITRAMFS_FIX),
            Err(where_not) => Check::missing("initramfs", where_not, INITRAMFS_FIX),
        },
    ]
}

/// Readable, and by its first bytes what it should be.
fn check(name: &'static str, path: &Path, magic: &[u8], what: &str, fix: &str) -> Check {
    match starts_with(path, magic) {
        Ok((true, length_bytes)) => {
            Check::ok(name, format!("{} ({})", path.display(), binary_size(length_bytes)))
        }
        Ok((false, _)) => Check::missing(name, format!("{} is not {what}", path.display()), fix),
        Err(error) => Check::missing(name, format!("{} cannot be read: {error}", path.display()), fix),
    }
}

fn starts_with(path: &Path, magic: &[u8]) -> std::io::Result<(bool, u64)> {
    let file = File::open(path)?;
    let length_bytes = file.metadata()?.len();
    let mut first = Vec::with_capacity(magic.len());
    file.take(u64::try_from(magic.len()).unwrap_or(0)).read_to_end(&mut first)?;
    Ok((first == magic, length_bytes))
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    #[test]
    fn a_file_of_another_kind_is_told_from_a_kernel() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vmlinux");
        for (content, verdict) in
            [(&b"\x7fELF\x02\x01rest"[..], Verdict::Ok), (b"MZ", Verdict::Missing), (b"", Verdict::Missing)]
        {
            std::fs::write(&path, content).unwrap();
            let settings = Settings { kernel: Some(path.clone()), ..Settings::default() };
            let [kernel, _] = checks(&settings, &Search::of_process(&settings));
            assert_eq!(kernel.verdict, verdict, "{kernel:?}");
        }
    }
}
