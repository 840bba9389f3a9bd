//! The disks of the tests' containers: busybox as an EROFS file system, and empty ext4 ones.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const SCRATCH_BYTES: u64 = 64 << 20;

/// The image disk of every test: made once.
pub(crate) fn busybox() -> PathBuf {
    static DISK: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = DISK.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        furnish(&tree);
        let disk = directory.path().join("busybox.erofs");
        run("mkfs.erofs", &["-x-1", "--all-root", path_text(&disk), path_text(&tree)]);
        (directory, disk)
    });
    path.clone()
}

/// A fresh scratch disk.
pub(crate) fn scratch(directory: &Path, number: usize) -> PathBuf {
    static TEMPLATE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, template) = TEMPLATE.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let template = directory.path().join("template.ext4");
        fs::File::create(&template).unwrap().set_len(SCRATCH_BYTES).unwrap();
        run("mkfs.ext4", &["-q", "-F", path_text(&template)]);
        (directory, template)
    });
    let path = directory.join(format!("scratch-{number}.ext4"));
    fs::copy(template, &path).unwrap();
    path
}

/// As `machine.json` wants it.
pub(crate) fn describe(disk: &Path, access: &str) -> String {
    let (bytes, extents) = (whole_sectors(disk), extents(disk));
    format!(r#"{{"capacity_bytes": {bytes}, "access": "{access}", "extents": {extents}}}"#)
}

/// The same for a disk that is bound later.
pub(crate) fn describe_unbound(disk: &Path, access: &str) -> String {
    format!(r#"{{"capacity_bytes": {}, "access": "{access}", "extents": []}}"#, whole_sectors(disk))
}

/// A whole file, as the messages of `berth-vmm` name it.
pub(crate) fn extents(disk: &Path) -> String {
    let (path, bytes) = (path_text(disk), whole_sectors(disk));
    format!(r#"[{{"path": {path:?}, "offset_bytes": 0, "length_bytes": {bytes}}}]"#)
}

/// The file's length, after it has been made one that a disk can have.
fn whole_sectors(disk: &Path) -> u64 {
    let bytes = fs::metadata(disk).unwrap().len().next_multiple_of(512);
    fs::File::options().write(true).open(disk).unwrap().set_len(bytes).unwrap();
    bytes
}

/// What a busybox container holds, and a few files that the tests ask for.
fn furnish(tree: &Path) {
    for directory in ["bin", "etc", "proc", "sys", "dev", "tmp", "root", "home/web", "data"] {
        fs::create_dir_all(tree.join(directory)).unwrap();
    }
    fs::copy("/bin/busybox", tree.join("bin/busybox")).unwrap();
    let applets = Command::new("/bin/busybox").arg("--list").output().unwrap();
    for applet in String::from_utf8(applets.stdout).unwrap().lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", tree.join("bin").join(applet)).unwrap();
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/home/web:/bin/sh\n";
    fs::write(tree.join("etc/passwd"), passwd).unwrap();
    fs::write(tree.join("etc/group"), "root:x:0:\nweb:x:33:\nstaff:x:50:web\n").unwrap();
    fs::write(tree.join("etc/hosts"), "1.2.3.4 of-the-lower\n").unwrap();
    program(&tree.join("bin/not-executable"), "#!/bin/sh\n", 0o644);
    program(&tree.join("bin/garbage"), "\u{1}\u{2}\u{3}", 0o755);
    program(&tree.join("bin/no-interpreter"), "#!/no/such/interpreter\n", 0o755);
}

fn program(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).arg("--help").output();
    assert!(output.is_ok(), "{program} is missing");
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}
