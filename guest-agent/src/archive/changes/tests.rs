//! Upper directories as the kernel leaves them, what is said of them, and layers that are applied again.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::fs::{CWD, Mode, XattrFlags, makedev, mknodat, setxattr};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change, unmount};
use tar::{Archive, EntryType};

use super::*;

#[derive(Default)]
struct Told(Vec<String>);

impl Visit for Told {
    fn visit(&mut self, change: &Change<'_>) -> io::Result<()> {
        let letter = match change.kind {
            ChangeKind::Modified => 'C',
            ChangeKind::Added => 'A',
            ChangeKind::Deleted => 'D',
        };
        assert_eq!(change.file.is_none(), change.kind == ChangeKind::Deleted);
        self.0.push(format!("{letter} /{}", String::from_utf8_lossy(change.path)));
        Ok(())
    }
}

/// Two directories, and an overlay of them where there is a mount namespace for it.
struct Sides {
    directory: tempfile::TempDir,
    furnishings: Vec<Furnishing>,
}

impl Sides {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for side in ["upper", "lower", "work", "merged"] {
            fs::create_dir(directory.path().join(side)).unwrap();
        }
        Self { directory, furnishings: Vec::new() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn with<T>(&self, work: impl FnOnce(&Overlay<'_>) -> T) -> T {
        let [upper, lower] = ["upper", "lower"].map(|side| fs::File::open(self.path(side)).unwrap());
        work(&Overlay { upper: upper.as_fd(), lower: lower.as_fd(), furnishings: &self.furnishings })
    }

    fn changes(&self) -> Vec<String> {
        let mut told = Told::default();
        self.with(|overlay| overlay.changes(Scope::Seen, &mut told)).unwrap();
        told.0
    }

    fn layer(&self) -> io::Result<Vec<u8>> {
        let mut layer = Vec::new();
        self.with(|overlay| overlay.write_layer(&mut layer)).map(|()| layer)
    }

    /// As the kernel does before it writes to what is below.
    fn copy_directory_up(&self, path: &str) {
        let (lower, upper) = (self.path("lower").join(path), self.path("upper").join(path));
        fs::create_dir(&upper).unwrap();
        let metadata = fs::metadata(&lower).unwrap();
        fs::set_permissions(&upper, metadata.permissions()).unwrap();
        fs::File::open(&upper).unwrap().set_modified(metadata.modified().unwrap()).unwrap();
    }

    fn restore_times(&self, path: &str) {
        let modified = fs::metadata(self.path("lower").join(path)).unwrap().modified().unwrap();
        fs::File::open(self.path("upper").join(path)).unwrap().set_modified(modified).unwrap();
    }
}

fn white_out(path: &Path) {
    mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), makedev(0, 0)).unwrap();
}

fn names(layer: &[u8]) -> Vec<String> {
    let mut archive = Archive::new(layer);
    let entries = archive.entries().unwrap();
    entries.map(|entry| String::from_utf8_lossy(&entry.unwrap().path_bytes()).into_owned()).collect()
}

#[test]
fn nothing_written_is_no_change_and_an_archive_without_entries() {
    let sides = Sides::new();
    fs::create_dir_all(sides.path("lower/etc/more")).unwrap();
    sides.copy_directory_up("etc");
    sides.copy_directory_up("etc/more");
    sides.restore_times("etc");
    assert_eq!(sides.changes(), [""; 0]);
    assert_eq!(sides.layer().unwrap(), [0; 1024]);
}

#[test]
fn what_is_changed_brings_the_directories_that_it_is_in() {
    let sides = Sides::new();
    fs::create_dir_all(sides.path("lower/etc/deep/deeper")).unwrap();
    for file in ["etc/passwd", "etc/deep/deeper/gone", "gone"] {
        fs::write(sides.path("lower").join(file), "below").unwrap();
    }
    make_old(&sides.path("lower"));
    for directory in ["etc", "etc/deep", "etc/deep/deeper"] {
        sides.copy_directory_up(directory);
    }
    fs::write(sides.path("upper/etc/passwd"), "above").unwrap();
    white_out(&sides.path("upper/etc/deep/deeper/gone"));
    white_out(&sides.path("upper/gone"));
    white_out(&sides.path("upper/never-there"));
    fs::create_dir_all(sides.path("upper/new/inside")).unwrap();
    assert_eq!(
        sides.changes(),
        [
            "C /etc",
            "C /etc/deep",
            "C /etc/deep/deeper",
            "D /etc/deep/deeper/gone",
            "C /etc/passwd",
            "D /gone",
            "A /new",
            "A /new/inside",
        ]
    );
    assert_eq!(
        names(&sides.layer().unwrap()),
        [
            "etc/",
            "etc/deep/",
            "etc/deep/deeper/",
            "etc/deep/deeper/.wh.gone",
            "etc/passwd",
            ".wh.gone",
            "new/",
            "new/inside/",
        ]
    );
}

#[test]
fn a_directory_changes_by_its_own_properties_too() {
    let sides = Sides::new();
    for name in ["mode", "time", "same"] {
        fs::create_dir(sides.path("lower").join(name)).unwrap();
        sides.copy_directory_up(name);
    }
    fs::set_permissions(sides.path("upper/mode"), fs::Permissions::from_mode(0o700)).unwrap();
    let earlier = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000);
    fs::File::open(sides.path("upper/time")).unwrap().set_modified(earlier).unwrap();
    assert_eq!(sides.changes(), ["C /mode"]);
    assert_eq!(names(&sides.layer().unwrap()), ["mode/", "time/"]);
}

#[test]
fn what_was_copied_up_and_left_as_it_was_is_in_the_layer_alone() {
    let sides = Sides::new();
    for name in ["same", "time", "mode", "size"] {
        for side in ["lower", "upper"] {
            let path = sides.path(side).join(name);
            fs::write(&path, "content").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        }
        sides.restore_times(name);
    }
    let earlier = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000);
    fs::File::open(sides.path("upper/time")).unwrap().set_modified(earlier).unwrap();
    fs::set_permissions(sides.path("upper/mode"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(sides.path("upper/size"), "longer content").unwrap();
    sides.restore_times("size");
    assert_eq!(sides.changes(), ["C /mode", "C /size", "C /time"]);
    assert_eq!(names(&sides.layer().unwrap()), ["mode", "same", "size", "time"]);
}

#[test]
fn what_is_put_into_every_root_is_no_change() {
    let mut sides = Sides::new();
    use Furnishing::{Directory, File};
    sides.furnishings =
        vec![Directory("etc"), Directory("proc"), File("etc/hostname"), File("etc/hosts"), Directory("dev")];
    for directory in ["etc", "proc", "dev"] {
        fs::create_dir(sides.path("upper").join(directory)).unwrap();
    }
    fs::write(sides.path("upper/etc/hostname"), "").unwrap();
    assert_eq!(sides.changes(), [""; 0]);
    fs::write(sides.path("upper/etc/passwd"), "").unwrap();
    assert_eq!(sides.changes(), ["C /etc", "A /etc/passwd"]);
    assert_eq!(names(&sides.layer().unwrap()), ["etc/", "etc/passwd"]);
    fs::remove_file(sides.path("upper/etc/passwd")).unwrap();
    fs::create_dir(sides.path("lower/etc")).unwrap();
    assert_eq!(sides.changes(), [""; 0]);
    assert_eq!(sides.layer().unwrap().len(), 1024, "its time changed with what was put into it");
    fs::write(sides.path("lower/etc/hostname"), "").unwrap();
    fs::write(sides.path("lower/etc/hosts"), "").unwrap();
    fs::write(sides.path("upper/etc/hostname"), "of its own").unwrap();
    assert_eq!(sides.changes(), ["C /etc", "C /etc/hostname"], "nothing needed to be put there");
    fs::set_permissions(sides.path("upper/dev"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(sides.changes(), ["C /dev", "C /etc", "C /etc/hostname"]);
}

#[test]
fn a_directory_in_place_of_another_hides_all_of_it() {
    let sides = Sides::new();
    fs::create_dir_all(sides.path("lower/data/both/old")).unwrap();
    fs::write(sides.path("lower/data/both/kept"), "").unwrap();
    fs::write(sides.path("lower/data/both/other"), "").unwrap();
    fs::write(sides.path("lower/data/old"), "").unwrap();
    fs::create_dir_all(sides.path("upper/data/both")).unwrap();
    fs::write(sides.path("upper/data/both/kept"), "").unwrap();
    sides.restore_times("data/both/kept");
    fs::write(sides.path("upper/data/both/other"), "changed").unwrap();
    fs::write(sides.path("upper/data/new"), "").unwrap();
    fs::create_dir_all(sides.path("upper/fresh")).unwrap();
    for directory in ["upper/data", "upper/fresh"] {
        let marked = setxattr(sides.path(directory), OPAQUE, b"y", XattrFlags::empty());
        if let Err(error) = marked {
            eprintln!("skipped: changes: attributes of overlays take root: {error}");
            return;
        }
    }
    let directory = sides.changes();
    assert_eq!(
        directory,
        [
            "C /data",
            "C /data/both",
            "D /data/both/old",
            "C /data/both/other",
            "A /data/new",
            "D /data/old",
            "A /fresh"
        ]
    );
    let layer = sides.layer().unwrap();
    assert_eq!(
        names(&layer),
        [
            "data/",
            "data/.wh..wh..opq",
            "data/both/",
            "data/both/kept",
            "data/both/other",
            "data/new",
            "fresh/"
        ]
    );
    assert!(!String::from_utf8_lossy(&layer).contains("trusted.overlay"), "the file system's own");
}

#[test]
fn a_name_that_no_layer_can_hold_is_an_error() {
    let sides = Sides::new();
    fs::write(sides.path("upper/.wh.x"), "").unwrap();
    assert_eq!(sides.changes(), ["A /.wh.x"]);
    let error = sides.layer().unwrap_err().to_string();
    assert_eq!(error, "/.wh.x: no layer can hold a name that begins with .wh.");
}

/// What a process does in its root.
#[derive(Clone, Debug)]
enum Action {
    Write(String, u8),
    MakeDirectory(String),
    Remove(String),
    Rename(String, String),
    Symlink(String),
    Link(String, String),
    Mode(String, u32),
}

fn path() -> impl Strategy<Value = String> {
    "[ab](/[ab]){0,2}"
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        (path(), any::<u8>()).prop_map(|(path, content)| Action::Write(path, content)),
        path().prop_map(Action::MakeDirectory),
        path().prop_map(Action::Remove),
        path().prop_map(Action::Remove),
        (path(), path()).prop_map(|(from, to)| Action::Rename(from, to)),
        path().prop_map(Action::Symlink),
        (path(), path()).prop_map(|(from, to)| Action::Link(from, to)),
        (path(), 0o700..0o7777_u32).prop_map(|(path, mode)| Action::Mode(path, mode)),
    ]
}

impl Action {
    /// What cannot be done is left.
    fn perform(&self, root: &Path) {
        let done = match self {
            // A file that is as long and as old as another looks like it, whatever is in them: no two that differ are as long.
            Self::Write(path, content) => {
                fs::write(root.join(path), vec![*content; 1 + usize::from(*content)])
            }
            Self::MakeDirectory(path) => fs::create_dir(root.join(path)),
            Self::Remove(path) => remove(&root.join(path)),
            Self::Rename(from, to) => fs::rename(root.join(from), root.join(to)),
            Self::Symlink(path) => symlink("nowhere", root.join(path)),
            Self::Link(from, to) => fs::hard_link(root.join(from), root.join(to)),
            Self::Mode(path, mode) => fs::set_permissions(root.join(path), fs::Permissions::from_mode(*mode)),
        };
        done.unwrap_or_default();
    }
}

fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// Every path with what can be seen of it.
fn seen(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut seen = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let content = if metadata.is_dir() {
                waiting.push(path.clone());
                Vec::new()
            } else if metadata.is_symlink() {
                fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()
            } else {
                fs::read(&path).unwrap()
            };
            seen.insert(path.strip_prefix(root).unwrap().to_owned(), (metadata.mode(), content));
        }
    }
    seen
}

/// What is written again within a tick of the kernel's clock would look unchanged.
fn make_old(root: &Path) {
    let earlier = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    for path in seen(root).keys().map(|path| root.join(path)) {
        if !fs::symlink_metadata(&path).unwrap().is_symlink() {
            fs::File::open(path).unwrap().set_modified(earlier).unwrap();
        }
    }
}

/// By the rules of the specification, as simply as can be.
fn apply(layer: &[u8], root: &Path) {
    let mut archive = Archive::new(layer);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        // Without the slash at its end, behind which a link would be followed.
        let path: PathBuf = root.join(entry.path().unwrap()).components().collect();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name == ".wh..wh..opq" {
            for below in fs::read_dir(path.parent().unwrap()).unwrap() {
                remove(&below.unwrap().path()).unwrap();
            }
        } else if let Some(name) = name.strip_prefix(".wh.") {
            remove(&path.with_file_name(name)).unwrap();
        } else {
            let is_directory = entry.header().entry_type() == EntryType::Directory;
            if !(is_directory && path.is_dir() && !path.is_symlink()) {
                remove(&path).unwrap_or_default();
            }
            if let EntryType::Link = entry.header().entry_type() {
                fs::hard_link(root.join(entry.link_name().unwrap().unwrap()), path).unwrap();
                continue;
            }
            entry.set_preserve_permissions(true);
            entry.unpack_in(root).unwrap();
        }
    }
}

/// Of trees: whatever differs, and the directories that it is in.
fn expected(before: &Path, after: &Path) -> Vec<String> {
    let (before, after) = (seen(before), seen(after));
    let mut changed = BTreeMap::new();
    for (path, now) in &after {
        match before.get(path) {
            None => drop(changed.insert(path.clone(), 'A')),
            Some(earlier) if earlier != now => drop(changed.insert(path.clone(), 'C')),
            Some(_) => {}
        }
    }
    let is_gone_with_its_directory = |path: &Path| {
        let parent = path.parent().unwrap();
        parent != Path::new("") && after.get(parent).is_none_or(|(mode, _)| mode & 0o170_000 != 0o040_000)
    };
    for path in before.keys() {
        if !after.contains_key(path) && !is_gone_with_its_directory(path) {
            changed.insert(path.clone(), 'D');
        }
    }
    for path in changed.keys().cloned().collect::<Vec<_>>() {
        for directory in path.ancestors().skip(1).filter(|directory| *directory != Path::new("")) {
            changed.entry(directory.to_owned()).or_insert('C');
        }
    }
    changed.into_iter().map(|(path, letter)| format!("{letter} /{}", path.display())).collect()
}

/// Runs in a mount namespace that only one thread of the tests is in.
fn in_own_mounts(test: impl FnOnce() + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: changes: a mount namespace takes root");
        return;
    }
    let thread = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        test();
    });
    thread.join().unwrap();
}

#[test]
fn a_layer_makes_of_what_is_below_what_was_seen_above() {
    in_own_mounts(|| {
        let actions = (prop::collection::vec(action(), 0..30), prop::collection::vec(action(), 0..30));
        let directory = tempfile::tempdir().unwrap();
        mount("tmpfs", directory.path(), "tmpfs", MountFlags::empty(), None).unwrap();
        let runner_settings = ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() };
        let mut runner = prop::test_runner::TestRunner::new(runner_settings);
        runner
            .run(&actions, |(before, after)| {
                let mut sides = Sides::new();
                sides.directory = tempfile::tempdir_in(directory.path()).unwrap();
                for side in ["upper", "lower", "work", "merged"] {
                    fs::create_dir(sides.path(side)).unwrap();
                }
                before.iter().for_each(|action| action.perform(&sides.path("lower")));
                make_old(&sides.path("lower"));
                let options = format!(
                    "lowerdir={},upperdir={},workdir={},index=off,redirect_dir=off,metacopy=off",
                    sides.path("lower").display(),
                    sides.path("upper").display(),
                    sides.path("work").display(),
                );
                let options = std::ffi::CString::new(options).unwrap();
                let merged = sides.path("merged");
                mount("overlay", &merged, "overlay", MountFlags::empty(), options.as_c_str()).unwrap();
                after.iter().for_each(|action| action.perform(&merged));
                let (wanted, expected) = (seen(&merged), expected(&sides.path("lower"), &merged));
                let (changes, layer) = (sides.changes(), sides.layer().unwrap());
                unmount(&merged, rustix::mount::UnmountFlags::empty()).unwrap();
                apply(&layer, &sides.path("lower"));
                prop_assert_eq!(seen(&sides.path("lower")), wanted);
                let missing: Vec<_> = expected.iter().filter(|line| !changes.contains(line)).collect();
                prop_assert!(missing.is_empty(), "{:?} in {:?}", missing, changes);
                // What was written again as it was is told too.
                let invented = changes.iter().filter(|line| !expected.contains(line));
                let invented: Vec<_> = invented.filter(|line| !line.starts_with('C')).collect();
                prop_assert!(invented.is_empty(), "{:?} beyond {:?}", invented, expected);
                Ok(())
            })
            .unwrap();
    });
}
