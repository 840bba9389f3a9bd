//! Shares of a server without a machine, looked at from the host: through its process's root.

use std::io::{ErrorKind, Write};

use super::*;

/// The server, and the program, or why there is none.
pub(super) struct Bench {
    directory: tempfile::TempDir,
    pub(super) shares: Shares,
}

pub(super) async fn bench(test: &str) -> Option<Bench> {
    use rustix::thread::CapabilitySet;
    let may_mount = rustix::thread::capabilities(None)
        .is_ok_and(|own| own.effective.contains(CapabilitySet::SYS_ADMIN | CapabilitySet::SYS_CHROOT));
    let program = std::env::var_os("BERTH_TEST_BIN_DIR").map(|bin| Path::new(&bin).join("virtiofsd"));
    let reason = match program {
        _ if !may_mount => "mounting takes root's rights",
        Some(program) if program.exists() => {
            let directory = tempfile::tempdir().unwrap();
            let shares = Shares::start(&program, directory.path(), &[]).await.unwrap();
            return Some(Bench { directory, shares });
        }
        _ => "BERTH_TEST_BIN_DIR names no directory with virtiofsd",
    };
    eprintln!("skipped: {test}: {reason}");
    None
}

impl Bench {
    /// Where its one guest connects.
    pub(super) fn socket(&self) -> PathBuf {
        self.directory.path().join(SOCKET)
    }

    /// A path as the server sees it.
    fn seen(&self, path: &str) -> PathBuf {
        let tree = std::fs::metadata(&self.shares.tree).unwrap();
        use std::os::unix::fs::MetadataExt;
        let roots = self.shares.server.children().into_iter().map(|child| format!("/proc/{child}/root"));
        let root = roots.map(PathBuf::from).find(|root| {
            std::fs::metadata(root).is_ok_and(|seen| (seen.dev(), seen.ino()) == (tree.dev(), tree.ino()))
        });
        root.unwrap().join(path)
    }

    fn options(&self, point: &str) -> String {
        let table = std::fs::read_to_string(self.seen("").parent().unwrap().join("mountinfo")).unwrap();
        // Of several at one place, the last is on top.
        let line = table.lines().rfind(|line| line.split(' ').nth(4) == Some(point)).unwrap().to_owned();
        line.split(' ').nth(5).unwrap().to_owned()
    }

    pub(super) async fn add(
        &self,
        name: &str,
        source: &Path,
        access: ShareAccess,
    ) -> Result<(), SharesError> {
        let source = open_source(source).unwrap();
        self.shares.add(NewShare { name: name.into(), source, access, below: SharedBelow::Alike }).await
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        end_without_machine(self.directory.path());
        let begun = Instant::now();
        while self.shares.server.end().is_none() {
            assert!(begun.elapsed() < START_DEADLINE, "a server without a machine goes on");
            std::thread::sleep(START_PAUSE);
        }
    }
}

fn error_kind(result: io::Result<impl Sized>) -> ErrorKind {
    result.err().expect("refused").kind()
}

#[tokio::test]
async fn shares_come_and_go_and_the_host_never_sees_a_mount() {
    let Some(bench) = bench("shares_come_and_go_and_the_host_never_sees_a_mount").await else { return };
    let table = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = table().lines().count();
    let host = tempfile::tempdir().unwrap();
    std::fs::write(host.path().join("file"), "text").unwrap();

    bench.add("directory", host.path(), ShareAccess::ReadWrite).await.unwrap();
    bench.add("file", &host.path().join("file"), ShareAccess::ReadOnly).await.unwrap();
    assert_eq!(std::fs::read_to_string(bench.seen("directory/file")).unwrap(), "text");
    std::fs::write(bench.seen("directory/new"), "from there").unwrap();
    assert_eq!(std::fs::read_to_string(host.path().join("new")).unwrap(), "from there");
    assert_eq!(std::fs::read_to_string(bench.seen("file")).unwrap(), "text");
    let mut opening = OpenOptions::new();
    assert_eq!(error_kind(opening.append(true).open(bench.seen("file"))), ErrorKind::ReadOnlyFilesystem);
    // The tree itself is nobody's to write; what is mounted allows as little as it can.
    assert_eq!(error_kind(std::fs::write(bench.seen("mine"), "")), ErrorKind::ReadOnlyFilesystem);
    assert!(bench.options("/directory").starts_with("rw,nosuid,nodev,noexec"));
    assert!(bench.options("/file").starts_with("ro,nosuid,nodev,noexec"));

    let taken = bench.add("file", host.path(), ShareAccess::ReadOnly).await.unwrap_err();
    assert!(taken.to_string().contains("share file: cannot make a place"), "{taken}");
    assert!(matches!(bench.add("..", host.path(), ShareAccess::ReadOnly).await, Err(SharesError::Name(_))));

    bench.shares.remove("directory").await.unwrap();
    bench.shares.remove("file").await.unwrap();
    assert!(bench.shares.remove("file").await.is_err());
    assert_eq!(std::fs::read_dir(bench.seen("")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(host.path()).unwrap().count(), 2, "what was shared is untouched");
    assert_eq!(table().lines().count(), before);
}

#[tokio::test]
async fn what_is_shared_is_what_was_there_when_it_was_opened() {
    let test = "what_is_shared_is_what_was_there_when_it_was_opened";
    let Some(bench) = bench(test).await else { return };
    let host = tempfile::tempdir().unwrap();
    let path = |name: &str| host.path().join(name);
    std::fs::create_dir(path("meant")).unwrap();
    std::os::unix::fs::symlink(path("meant"), path("link")).unwrap();
    let source = open_source(&path("link")).unwrap();
    // Whoever owns the path points it elsewhere, at the worst moment.
    std::fs::remove_file(path("link")).unwrap();
    std::os::unix::fs::symlink("/etc", path("link")).unwrap();
    let share =
        NewShare { name: "a".into(), source, access: ShareAccess::ReadWrite, below: SharedBelow::Alike };
    bench.shares.add(share).await.unwrap();
    std::fs::File::create(bench.seen("a/made")).unwrap().write_all(b"x").unwrap();
    assert!(path("meant/made").exists());
}

#[tokio::test]
async fn mounts_below_come_along_and_are_read_only_too() {
    let test = "mounts_below_come_along_and_are_read_only_too";
    let Some(bench) = bench(test).await else { return };
    // Every host has some below these.
    let below = |root: &str| {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let points = table.lines().filter_map(|line| line.split(' ').nth(4));
        points.filter(|point| point.starts_with(root)).map(str::to_owned).collect::<Vec<_>>()
    };
    let Some(point) = below("/dev/").into_iter().find(|point| !point.contains('\\')) else {
        eprintln!("skipped: {test}: nothing is mounted below /dev");
        return;
    };
    bench.add("dev", Path::new("/dev"), ShareAccess::ReadOnly).await.unwrap();
    let options = bench.options(&point);
    assert!(options.starts_with("ro,nosuid,nodev,noexec"), "{point}: {options}");
    let null = std::fs::File::open(bench.seen("dev/null"));
    assert_eq!(error_kind(null), ErrorKind::PermissionDenied, "a device of the host opens");
}

#[tokio::test]
async fn a_later_daemon_finds_them_and_removing_the_directory_removes_nothing_shared() {
    let test = "a_later_daemon_finds_them_and_removing_the_directory_removes_nothing_shared";
    let Some(bench) = bench(test).await else { return };
    let host = tempfile::tempdir().unwrap();
    std::fs::write(host.path().join("precious"), "text").unwrap();
    bench.add("first", host.path(), ShareAccess::ReadWrite).await.unwrap();
    let later = Shares::find(bench.directory.path()).unwrap();
    let source = open_source(host.path()).unwrap();
    let share =
        NewShare { name: "second".into(), source, access: ShareAccess::ReadWrite, below: SharedBelow::Alike };
    later.add(share).await.unwrap();
    assert!(bench.seen("first/precious").exists() && bench.seen("second/precious").exists());
    // With the server alive and everything mounted, as after a daemon that was killed.
    std::fs::remove_dir_all(&bench.shares.tree).unwrap();
    assert_eq!(std::fs::read_to_string(host.path().join("precious")).unwrap(), "text");
}

#[tokio::test]
async fn a_missing_program_is_named_with_its_flag() {
    let directory = tempfile::tempdir().unwrap();
    let error = Shares::start(Path::new("/nowhere/virtiofsd"), directory.path(), &[]).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("/nowhere/virtiofsd") && text.contains("--virtiofsd"), "{text}");
}
