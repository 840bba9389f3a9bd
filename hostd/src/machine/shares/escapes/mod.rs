//! A hostile guest against the share server: requests that no kernel makes, and moments that none can choose. Nothing outside
//! of what is shared is ever read, changed or found.

mod front_end;
mod fuse;

use std::fs::{self, FileTimes};
use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::tests::{Bench, bench};
use super::*;
use fuse::*;

const SECRET: &str = "nobody reads this";

/// A share "tree", writable, beside what is not shared; and a guest that has both it and bad intentions.
struct Attack {
    // First to go: the server ends with it.
    guest: Guest,
    bench: Bench,
    host: tempfile::TempDir,
    tree: u64,
    before: Vec<Witness>,
}

/// What would show that somebody was there.
#[derive(Debug, PartialEq, Eq)]
struct Witness {
    path: PathBuf,
    identity: (u64, u64),
    names: u64,
    owner: (u32, u32, u32),
    times: (i64, i64, i64),
    content: Option<String>,
}

fn witnesses(outside: &Path) -> Vec<Witness> {
    let mut found = vec![];
    for path in [outside.to_owned(), outside.join("secret"), outside.join("directory")] {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let times = (metadata.atime(), metadata.mtime(), metadata.ctime_nsec());
        let content = metadata.is_file().then(|| fs::read_to_string(&path).unwrap());
        // It is read above, which is no guest's doing.
        let back = FileTimes::new().set_accessed(SystemTime::UNIX_EPOCH);
        if metadata.is_file() {
            fs::File::open(&path).unwrap().set_times(back).unwrap();
        }
        let changed = if metadata.is_file() { (times.0, times.1, 0) } else { times };
        found.push(Witness {
            path,
            identity: (metadata.dev(), metadata.ino()),
            names: metadata.nlink(),
            owner: (metadata.uid(), metadata.gid(), metadata.mode()),
            times: changed,
            content,
        });
    }
    found
}

async fn attack(test: &str) -> Option<Attack> {
    let bench = bench(test).await?;
    let host = tempfile::tempdir().unwrap();
    let path = |name: &str| host.path().join(name);
    fs::create_dir_all(path("outside/directory")).unwrap();
    fs::write(path("outside/secret"), SECRET).unwrap();
    fs::create_dir_all(path("tree/inside/deep")).unwrap();
    fs::write(path("tree/file"), "shared").unwrap();
    for (name, to) in [("up", "../outside/secret"), ("absolute", "/etc/passwd"), ("way", "../outside")] {
        std::os::unix::fs::symlink(to, path("tree").join(name)).unwrap();
    }
    bench.add("tree", &path("tree"), ShareAccess::ReadWrite).await.unwrap();
    fs::create_dir(path("fixed")).unwrap();
    fs::write(path("fixed/file"), "fixed").unwrap();
    bench.add("fixed", &path("fixed"), ShareAccess::ReadOnly).await.unwrap();
    // Once to put the times of reading back, once to know them.
    witnesses(&path("outside"));
    let before = witnesses(&path("outside"));
    let mut guest = Guest::of(&bench.socket());
    let tree = guest.look_up(ROOT, "tree").unwrap().node;
    Some(Attack { bench, host, guest, tree, before })
}

impl Attack {
    fn path(&self, name: &str) -> PathBuf {
        self.host.path().join(name)
    }

    fn is_outside(&self, found: Found) -> bool {
        let host = fs::metadata(self.host.path()).unwrap().ino();
        found.inode == host || self.before.iter().any(|witness| witness.identity.1 == found.inode)
    }

    /// Nobody was there, and the server lives.
    fn nothing_happened(&mut self) {
        assert_eq!(witnesses(&self.path("outside")), self.before);
        let file = self.guest.look_up(self.tree, "file").expect("the server still answers");
        let handle = self.guest.open(file.node, 0).unwrap();
        assert_eq!(self.guest.read(file.node, handle, 100).unwrap(), b"shared");
    }
}

#[tokio::test]
async fn no_name_leads_out() {
    let Some(mut attack) = attack("no_name_leads_out").await else { return };
    let names = [
        "..",
        ".",
        "",
        "/",
        "../outside",
        "../../outside/secret",
        "inside/../../outside",
        "/etc/passwd",
        "up/",
        "way/secret",
        "a/b",
    ];
    let (tree, guest) = (attack.tree, &mut attack.guest);
    let inside = guest.look_up(tree, "inside").unwrap().node;
    let mut found = vec![];
    for directory in [ROOT, tree, inside] {
        found.extend(names.iter().filter_map(|name| guest.look_up(directory, name).ok()));
        // As far up as one likes.
        let mut up = directory;
        for _step in 0..8 {
            let Ok(next) = guest.look_up(up, "..") else { break };
            found.push(next);
            up = next.node;
            found.extend(
                ["outside", "etc", "proc", "secret"].iter().filter_map(|name| guest.look_up(up, name).ok()),
            );
        }
    }
    for name in names.into_iter().filter(|name| name.contains('/')) {
        for operation in [MKDIR, UNLINK, RMDIR] {
            let head = if operation == MKDIR { words_of_mkdir() } else { vec![] };
            let refused = guest.ask(operation, tree, &[head, text(name)].concat());
            assert!(refused.is_err(), "{operation} {name}");
        }
        // Its openat2(2) takes the directory for the root, where there is nothing above.
        let _made_inside = guest.create(tree, name);
        assert!(guest.make_node(tree, name, 0o100_644, 0).is_err(), "make {name}");
        assert!(guest.ask(SYMLINK, tree, &[text(name), text("x")].concat()).is_err(), "link {name}");
        assert!(guest.rename((tree, "file"), (tree, name)).is_err(), "rename to {name}");
        assert!(guest.rename((tree, name), (tree, "mine")).is_err(), "rename {name}");
    }
    let names = |directory: &Path| {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
        entries.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(names(attack.host.path()), ["fixed", "outside", "tree"].map(Into::into).into());
    assert_eq!(names(&attack.bench.shares.tree), ["fixed", "tree"].map(Into::into).into());
    let outside: Vec<_> = found.into_iter().filter(|found| attack.is_outside(*found)).collect();
    assert_eq!(outside, []);
    attack.nothing_happened();
}

fn words_of_mkdir() -> Vec<u8> {
    front_end::words(&[0o755, 0])
}

#[tokio::test]
async fn links_are_text_and_no_way() {
    let Some(mut attack) = attack("links_are_text_and_no_way").await else { return };
    let (tree, guest) = (attack.tree, &mut attack.guest);
    for (name, to) in [("up", "../outside/secret"), ("absolute", "/etc/passwd"), ("way", "../outside")] {
        let link = guest.look_up(tree, name).unwrap();
        assert_eq!(link.mode & 0o170_000, 0o120_000, "{name} is not followed");
        assert_eq!(guest.ask(READLINK, link.node, &[]).unwrap(), to.as_bytes());
        assert!(guest.open(link.node, 0).is_err() && guest.open(link.node, 2).is_err(), "{name} opens");
        assert!(guest.look_up(link.node, "secret").is_err(), "{name} is a directory");
        assert!(guest.ask(OPENDIR, link.node, &front_end::words(&[0, 0])).is_err(), "{name} is listed");
        assert!(guest.create(link.node, "mine").is_err());
    }
    // One of its own making, in place of what it has open as a directory.
    let inside = guest.look_up(tree, "inside").unwrap();
    guest.rename((tree, "inside"), (tree, "aside")).unwrap();
    guest.ask(SYMLINK, tree, &[text("inside"), text("../outside")].concat()).unwrap();
    assert!(guest.look_up(inside.node, "secret").is_err());
    assert!(guest.look_up(inside.node, "deep").is_ok(), "a directory stays what it was");
    attack.nothing_happened();
}

#[tokio::test]
async fn what_the_host_moves_out_is_no_way_up() {
    let Some(mut attack) = attack("what_the_host_moves_out_is_no_way_up").await else { return };
    let (tree, guest) = (attack.tree, &mut attack.guest);
    let inside = guest.look_up(tree, "inside").unwrap().node;
    let deep = guest.look_up(inside, "deep").unwrap().node;
    // The oldest escape from a changed root: a directory that one holds is moved where it has other parents.
    fs::create_dir(attack.host.path().join("elsewhere")).unwrap();
    fs::rename(attack.host.path().join("tree/inside"), attack.host.path().join("elsewhere/inside")).unwrap();
    let mut found = vec![];
    for start in [inside, deep] {
        let mut up = start;
        for _step in 0..6 {
            let Ok(next) = guest.look_up(up, "..") else { break };
            found.push(next);
            up = next.node;
            found.extend(["outside", "elsewhere"].iter().filter_map(|name| guest.look_up(up, name).ok()));
        }
    }
    let elsewhere = fs::metadata(attack.path("elsewhere")).unwrap().ino();
    let outside = |found: &&Found| attack.is_outside(**found) || found.inode == elsewhere;
    assert_eq!(found.iter().filter(outside).collect::<Vec<_>>(), Vec::<&Found>::new());
    attack.nothing_happened();
}

#[tokio::test]
async fn a_rename_that_races_an_open_opens_nothing_else() {
    let Some(mut attack) = attack("a_rename_that_races_an_open_opens_nothing_else").await else { return };
    let (file, link) = (attack.path("tree/race"), attack.path("tree/trap"));
    std::os::unix::fs::symlink(attack.path("outside/secret"), &link).unwrap();
    fs::write(&file, "shared").unwrap();
    let end = Arc::new(AtomicBool::new(false));
    let swap = {
        let end = Arc::clone(&end);
        std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(CWD, &file, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        })
    };
    let (tree, guest) = (attack.tree, &mut attack.guest);
    let (mut opened, mut links) = (0, 0);
    for _try in 0..2000 {
        let Ok(found) = guest.look_up(tree, "race") else { continue };
        links += u32::from(found.mode & 0o170_000 == 0o120_000);
        if let Ok(handle) = guest.open(found.node, 0) {
            opened += 1;
            assert_eq!(guest.read(found.node, handle, 100).unwrap(), b"shared");
        }
        if let Ok(created) = guest.create(tree, "race") {
            let node = u64::from_le_bytes(created[..8].try_into().unwrap());
            let handle = guest.open(node, 0).unwrap_or(u64::MAX);
            assert_ne!(guest.read(node, handle, 100).unwrap_or_default(), SECRET.as_bytes());
        }
    }
    end.store(true, Ordering::Relaxed);
    swap.join().unwrap();
    assert!(opened > 0, "{opened} files and {links} links were met");
    attack.nothing_happened();
}

#[tokio::test]
async fn devices_are_not_made_and_shares_do_not_meet() {
    let Some(mut attack) = attack("devices_are_not_made_and_shares_do_not_meet").await else { return };
    let (tree, guest) = (attack.tree, &mut attack.guest);
    for mode in [0o060_666, 0o020_666] {
        assert_eq!(guest.make_node(tree, "device", mode, 0x0101), Err(Errno::PERM));
    }
    let fixed = guest.look_up(ROOT, "fixed").unwrap().node;
    let file = guest.look_up(fixed, "file").unwrap().node;
    let named = [front_end::longs(&[file]), text("stolen")].concat();
    assert_eq!(guest.ask(LINK, tree, &named), Err(Errno::XDEV));
    assert_eq!(guest.rename((fixed, "file"), (tree, "stolen")).err(), Some(Errno::XDEV));
    assert_eq!(guest.create(fixed, "mine"), Err(Errno::ROFS));
    assert_eq!(guest.open(file, 2), Err(Errno::ROFS));
    assert_eq!(guest.rename((fixed, "file"), (fixed, "other")), Err(Errno::ROFS));
    // The directory of all shares is nobody's.
    assert_eq!(guest.create(ROOT, "mine"), Err(Errno::ROFS));
    assert!(guest.rename((ROOT, "tree"), (ROOT, "other")).is_err());
    assert_eq!(fs::read_to_string(attack.path("fixed/file")).unwrap(), "fixed");
    attack.nothing_happened();
}

#[tokio::test]
async fn numbers_and_lengths_that_nobody_gave_it_lead_nowhere() {
    let test = "numbers_and_lengths_that_nobody_gave_it_lead_nowhere";
    let Some(mut attack) = attack(test).await else { return };
    let (tree, guest) = (attack.tree, &mut attack.guest);
    for node in [0, 7777, u64::from(u32::MAX), 1 << 63, u64::MAX] {
        assert!(guest.open(node, 0).is_err() && guest.look_up(node, "file").is_err(), "node {node}");
        let named = [front_end::longs(&[node]), text("stolen")].concat();
        assert!(guest.ask(LINK, tree, &named).is_err(), "link of {node}");
        assert!(guest.ask(GETATTR, node, &front_end::longs(&[0, 0])).is_err(), "attributes of {node}");
        assert!(guest.rename((tree, "file"), (node, "file")).is_err(), "rename into {node}");
    }
    let file = guest.look_up(tree, "file").unwrap().node;
    for handle in [1000, 1 << 31, u64::MAX] {
        assert!(guest.read(file, handle, 100).is_err(), "handle {handle}");
        let body =
            [front_end::longs(&[handle, 0]), front_end::words(&[u32::MAX, 0]), front_end::longs(&[0, 0])];
        assert!(guest.ask(WRITE, file, &body.concat()).is_err(), "handle {handle} is written");
        assert!(guest.ask(READDIR, tree, &body.concat()).is_err(), "handle {handle} is listed");
        // FIONREAD and FS_IOC_SETFLAGS.
        for command in [0x541b, 0x4008_6602] {
            let head = [front_end::longs(&[handle]), front_end::words(&[0, command])].concat();
            assert!(guest.ask(IOCTL, file, &[head, front_end::longs(&[0, 0])].concat()).is_err());
        }
    }
    assert_eq!(guest.look_up(tree, [b'a'; 256]), Err(Errno::NAMETOOLONG));
    attack.nothing_happened();
}

/// A server may end when its guest breaks the protocol, and does; nobody else has it.
#[tokio::test]
async fn noise_changes_nothing_outside() {
    let mut random = SmallRng::seed_from_u64(42);
    // Not those that are the guest's own to lose, or have no answer: FORGET, INIT, DESTROY, BATCH_FORGET.
    let operations: Vec<u32> = (1..=52).filter(|it| ![2, INIT, 38, 42].contains(it)).collect();
    let mut answers = 0;
    for _server in 0..10 {
        let Some(mut attack) = attack("noise_changes_nothing_outside").await else { return };
        for _request in 0..200 {
            let operation = operations[random.random_range(0..operations.len())];
            let nodes = [ROOT, attack.tree, random.random_range(0..64), random.random()];
            let node = nodes[random.random_range(0..nodes.len())];
            let mut body = vec![0; random.random_range(0..120)];
            random.fill_bytes(&mut body);
            body.extend(
                [&b"../outside/secret\0"[..], b"..\0", b"up\0", b"file2\0"][random.random_range(0..4)],
            );
            let length = u32::try_from(body.len()).unwrap() + 40;
            let claimed = if random.random_ratio(1, 50) { random.random() } else { length };
            if attack.guest.ask_claiming(claimed, operation, node, &body) == Err(GONE) {
                break;
            }
            answers += 1;
        }
        let mut bytes = vec![1; random.random_range(1..100)];
        random.fill_bytes(&mut bytes);
        attack.guest.throw(&bytes);
        assert_eq!(witnesses(&attack.path("outside")), attack.before);
    }
    assert!(answers > 50, "{answers} of the requests were answered at all");
}

#[tokio::test]
async fn the_server_has_nothing_else_of_the_host() {
    let Some(attack) = attack("the_server_has_nothing_else_of_the_host").await else { return };
    let tree = fs::metadata(&attack.bench.shares.tree).unwrap().ino();
    let is_home = |pid: &u32| fs::metadata(format!("/proc/{pid}/root")).is_ok_and(|root| root.ino() == tree);
    let pid = attack.bench.shares.server.children().into_iter().find(is_home).expect("it lives in the tree");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.trim().to_owned()
    };
    assert_eq!(field("Seccomp"), "2", "calls are filtered");
    let capabilities = u64::from_str_radix(&field("CapEff"), 16).unwrap();
    // CAP_DAC_READ_SEARCH, NET_ADMIN, SYS_MODULE, SYS_RAWIO, SYS_CHROOT, SYS_PTRACE, SYS_ADMIN, MKNOD.
    for capability in [2, 12, 16, 17, 18, 19, 21, 27] {
        assert_eq!(capabilities >> capability & 1, 0, "capability {capability} of {capabilities:x}");
    }
    for namespace in ["mnt", "pid", "net"] {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{namespace}")).unwrap();
        assert_ne!(of(&pid.to_string()), of("self"), "{namespace}");
    }
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let mut points: Vec<_> = mounts.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    points.sort_unstable();
    points.dedup();
    assert_eq!(points, ["/", "/fixed", "/tree"]);
}
