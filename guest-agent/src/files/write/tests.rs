//! What is written into directories, well-meant and not.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use berth_protocol::agent::FileKind;

use super::*;

/// A root with a directory /d in it, inside a directory that nothing may be written to.
struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("root/d")).unwrap();
        Self(directory)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join("root").join(path)
    }

    fn writer(&self, request: &WriteFiles) -> Result<Writer, Failure> {
        Writer::open(View::new(fs::File::open(self.path("")).unwrap().into()).unwrap(), request)
    }

    fn write(&self, path: &str, members: &[FileMember]) -> Result<(), Failure> {
        self.write_as(&WriteFiles { path: path.into(), ..WriteFiles::default() }, members)
    }

    fn write_as(&self, request: &WriteFiles, members: &[FileMember]) -> Result<(), Failure> {
        let mut writer = self.writer(request)?;
        for member in members {
            writer.member(member)?;
            if member.kind() == FileKind::RegularFile {
                writer.content(&FileContent { offset: 0, bytes: b"new".to_vec() })?;
            }
        }
        writer.finish()
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| error.kind().to_string())
    }
}

fn member(path: &str, kind: FileKind) -> FileMember {
    let own = fs::metadata("/proc/self").unwrap();
    FileMember {
        path: path.into(),
        kind: kind.into(),
        mode: 0o640,
        user_id: own.uid(),
        group_id: own.gid(),
        modified_unix_s: 1_000_000_000,
        modified_ns: 5,
        size_bytes: if kind == FileKind::RegularFile { 3 } else { 0 },
        ..FileMember::default()
    }
}

fn file(path: &str) -> FileMember {
    member(path, FileKind::RegularFile)
}

fn directory(path: &str) -> FileMember {
    FileMember { mode: 0o750, ..member(path, FileKind::Directory) }
}

fn link(path: &str, kind: FileKind, target: &str) -> FileMember {
    FileMember { target: target.into(), ..member(path, kind) }
}

fn metadata(path: &Path) -> (u32, i64, i64) {
    let metadata = fs::symlink_metadata(path).unwrap();
    (metadata.permissions().mode() & 0o7777, metadata.mtime(), metadata.mtime_nsec())
}

#[test]
fn every_kind_of_file_is_made_with_what_it_has() {
    let root = Root::new();
    let members = [
        directory("a"),
        file("a/f"),
        link("a/h", FileKind::HardLink, "a/f"),
        link("s", FileKind::SymbolicLink, "../../nowhere"),
        member("p", FileKind::Fifo),
        file("implied/directory/f"),
    ];
    root.write("/d", &members).unwrap();
    assert_eq!((root.read("d/a/f"), root.read("d/implied/directory/f")), ("new".into(), "new".into()));
    assert_eq!(metadata(&root.path("d/a/f")), (0o640, 1_000_000_000, 5));
    assert_eq!(metadata(&root.path("d/a")), (0o750, 1_000_000_000, 5), "although a file came into it later");
    assert_eq!(metadata(&root.path("d/implied")).0, 0o755);
    assert_eq!(metadata(&root.path("d/s")).1, 1_000_000_000);
    assert_eq!(fs::metadata(root.path("d/a/h")).unwrap().nlink(), 2);
    assert_eq!(fs::read_link(root.path("d/s")).unwrap(), Path::new("../../nowhere"));
    assert!(fs::symlink_metadata(root.path("d/p")).unwrap().file_type().is_fifo());
}

#[test]
fn content_that_does_not_come_is_zeros() {
    let root = Root::new();
    let request = WriteFiles { path: b"/d".to_vec(), ..WriteFiles::default() };
    let mut writer = root.writer(&request).unwrap();
    writer.member(&FileMember { size_bytes: 10, ..file("f") }).unwrap();
    writer.content(&FileContent { offset: 4, bytes: b"xy".to_vec() }).unwrap();
    for (offset, length) in [(9, 2), (u64::MAX, 1), (11, 0)] {
        let behind = FileContent { offset, bytes: vec![1; length] };
        assert_eq!(writer.content(&behind).unwrap_err().code, ErrorCode::InvalidRequest);
    }
    writer.finish().unwrap();
    assert_eq!(fs::read(root.path("d/f")).unwrap(), b"\0\0\0\0xy\0\0\0\0");
    let mut writer = root.writer(&request).unwrap();
    assert!(writer.content(&FileContent { offset: 0, bytes: b"x".to_vec() }).is_err(), "of no file");
}

#[test]
fn what_is_in_the_way_is_replaced_unless_that_is_forbidden() {
    let root = Root::new();
    fs::create_dir_all(root.path("d/tree/deep/er")).unwrap();
    fs::write(root.path("d/tree/deep/er/f"), "").unwrap();
    fs::write(root.path("d/file"), "old").unwrap();
    let outside = root.0.path().join("outside");
    fs::write(&outside, "outside").unwrap();
    symlink(&outside, root.path("d/link")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, root.path("d/pipe"), rustix::fs::Mode::RWXU).unwrap();
    let careful = WriteFiles { path: b"/d".to_vec(), keep_kinds: true, ..WriteFiles::default() };
    for (member, message) in [
        (file("tree"), "cannot overwrite directory \"/d/tree\" with non-directory \"/d\""),
        (directory("file"), "cannot overwrite non-directory \"/d/file\" with directory \"/d\""),
        (file("."), "cannot overwrite directory \"/d\" with non-directory \"/d\""),
    ] {
        let failure = root.write_as(&careful, &[member]).unwrap_err();
        assert_eq!((failure.code, failure.message.as_str()), (ErrorCode::InvalidRequest, message));
    }
    root.write_as(&careful, &[directory("tree"), file("link"), file("pipe"), directory(".")]).unwrap();
    assert!(root.path("d/tree/deep/er/f").exists(), "a directory stays");
    assert_eq!((root.read("d/link"), root.read("d/pipe")), ("new".into(), "new".into()));
    assert_eq!(fs::read_to_string(&outside).unwrap(), "outside", "a link is replaced, not followed");
    root.write("/d", &[file("tree"), directory("file")]).unwrap();
    assert_eq!(root.read("d/tree"), "new");
    assert!(root.path("d/file").is_dir());
}

#[test]
fn nothing_is_written_outside_of_the_root() {
    let root = Root::new();
    symlink("/", root.path("d/root")).unwrap();
    symlink("../..", root.path("d/up")).unwrap();
    symlink("/proc/self/root/tmp", root.path("d/magic")).unwrap();
    for path in ["../f", "a/../../f", "..", "a/..", "a\0b"] {
        let failure = root.write("/d", &[file(path)]).unwrap_err();
        assert_eq!(failure.code, ErrorCode::InvalidRequest, "{path}");
    }
    root.write("/d", &[file("/absolute"), file("root/one"), file("up/two")]).unwrap();
    assert_eq!(root.read("d/absolute"), "new");
    assert_eq!((root.read("one"), root.read("two")), ("new".into(), "new".into()), "links lead inside");
    assert!(root.write("/d", &[file("magic/three")]).is_err());
    for target in ["../../secret", "nothing", "h", ""] {
        let failure = root.write("/d", &[link("h", FileKind::HardLink, target)]).unwrap_err();
        assert!(
            matches!(failure.code, ErrorCode::InvalidRequest | ErrorCode::Internal),
            "{target}: {failure}"
        );
    }
    let outside: Vec<_> = fs::read_dir(root.0.path()).unwrap().collect();
    assert_eq!(outside.len(), 1, "{outside:?}");
}

#[test]
fn the_directory_must_be_one() {
    let root = Root::new();
    fs::write(root.path("file"), "").unwrap();
    symlink("d", root.path("link")).unwrap();
    let code = |path: &str| root.write(path, &[]).map_err(|failure| failure.code);
    assert_eq!(code("/nothing"), Err(ErrorCode::NoSuchFile));
    assert_eq!(code("/file"), Err(ErrorCode::NotADirectory));
    assert_eq!(code("/link"), Ok(()));
    let readonly = WriteFiles { path: b"/d".to_vec(), readonly_rootfs: true, ..WriteFiles::default() };
    let failure = root.write_as(&readonly, &[]).unwrap_err();
    let message = "container rootfs is marked read-only";
    assert_eq!((failure.code, failure.message.as_str()), (ErrorCode::ReadOnly, message));
    let kernels = View::new(fs::File::open("/").unwrap().into()).unwrap();
    let proc = WriteFiles { path: b"/proc/self".to_vec(), ..WriteFiles::default() };
    let code = Writer::open(kernels, &proc).map(drop).map_err(|failure| failure.code);
    // A link of procfs is none to follow; where it is none, nothing can be kept.
    assert!(matches!(code, Err(ErrorCode::ReadOnly)), "{code:?}");
}

#[test]
fn a_users_files_are_his_whatever_the_members_say() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: a_users_files_are_his_whatever_the_members_say: only root gives files away");
        return;
    }
    let root = Root::new();
    fs::create_dir(root.path("etc")).unwrap();
    fs::write(root.path("etc/passwd"), "web:x:33:34::/:\n").unwrap();
    let request =
        |owner: &str| WriteFiles { path: b"/d".to_vec(), owner: owner.into(), ..WriteFiles::default() };
    root.write_as(&request("web"), &[directory("d"), file("d/f"), file("i/f")]).unwrap();
    let ids = |path: &str| fs::metadata(root.path(path)).map(|found| (found.uid(), found.gid())).unwrap();
    assert_eq!([ids("d/d"), ids("d/d/f"), ids("d/i/f"), ids("d/i")], [(33, 34), (33, 34), (33, 34), (0, 0)]);
    let failure = root.write_as(&request("nobody"), &[]).unwrap_err();
    assert_eq!(failure.code, ErrorCode::NoSuchUser);
    fs::remove_file(root.path("etc/passwd")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, root.path("etc/passwd"), rustix::fs::Mode::RWXU).unwrap();
    assert!(root.write_as(&request("web"), &[]).is_err(), "and nobody waits for a writer of the pipe");
}

#[test]
fn deep_trees_go_without_recursion() {
    let root = Root::new();
    let mut path = root.path("d/deep");
    for _ in 0..300 {
        path.push("x");
    }
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("f"), "").unwrap();
    root.write("/d", &[file("deep")]).unwrap();
    assert_eq!(root.read("d/deep"), "new");
}
