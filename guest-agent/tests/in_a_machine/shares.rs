//! What the host shares with a machine, in its containers; and what they try with it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use berth_protocol::agent::{ErrorCode, Mount};

use crate::container::{Change, container, exec, process, script};
use crate::machine::Machine;

const PATIENCE: Duration = Duration::from_secs(120);

/// The server of a tree with shares: `data`, which is a file system of its own, and `note`, a file. Beside the tree is a
/// secret. For those who have work to do there are also `tools`, the host's root, and `small`, with room for a mebibyte; none
/// of them can be written to but that and `data`.
pub(crate) struct Server {
    directory: Arc<tempfile::TempDir>,
    socket: PathBuf,
    process: Child,
}

impl Server {
    pub(crate) fn start(test: &str) -> Option<Self> {
        Self::start_of(test, Arc::new(tempfile::tempdir().unwrap()), &[])
    }

    /// Of all shares, where this host has the tools.
    pub(crate) fn with_tools(test: &str) -> Option<Self> {
        if !Path::new("/usr/bin/perl").exists() {
            eprintln!("skipped: {test}: perl is not installed");
            return None;
        }
        Self::start_of(test, Arc::new(tempfile::tempdir().unwrap()), &["tools", "small"])
    }

    /// Another server of the same data.
    pub(crate) fn beside(&self, test: &str) -> Option<Self> {
        Self::start_of(test, Arc::clone(&self.directory), &["tools"])
    }

    fn start_of(test: &str, directory: Arc<tempfile::TempDir>, more: &[&str]) -> Option<Self> {
        let program = std::env::var_os("BERTH_TEST_BIN_DIR").map(|bin| Path::new(&bin).join("virtiofsd"));
        let reason = match program {
            _ if !rustix::process::geteuid().is_root() => "mounting takes root's rights",
            Some(program) if program.exists() => return Some(Self::serve(&program, directory, more)),
            _ => "BERTH_TEST_BIN_DIR names no directory with virtiofsd",
        };
        eprintln!("skipped: {test}: {reason}");
        None
    }

    fn serve(program: &Path, directory: Arc<tempfile::TempDir>, more: &[&str]) -> Self {
        static SERVERS: AtomicU32 = AtomicU32::new(0);
        let socket = directory.path().join(format!("socket-{}", SERVERS.fetch_add(1, Ordering::Relaxed)));
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir_all(at("tree/data")).unwrap();
        std::fs::create_dir_all(at("data/deep")).unwrap();
        for name in more {
            std::fs::create_dir_all(at("tree").join(name)).unwrap();
        }
        for (name, text) in [("tree/note", "noted\n"), ("data/hello", "hello\n"), ("secret", "secret\n")] {
            std::fs::write(at(name), text).unwrap();
        }
        // As the daemon does it: mounted where only the server sees it.
        let text = "mount --make-rprivate / && mount --bind \"$1/data\" \"$1/tree/data\" && \
            mount -o remount,bind,nodev,nosuid,noexec \"$1/tree/data\" && \
            if [ -d \"$1/tree/tools\" ]; then mount --bind / \"$1/tree/tools\" && \
            mount -o remount,bind,ro,nodev,nosuid \"$1/tree/tools\"; fi && \
            if [ -d \"$1/tree/small\" ]; then mount -t tmpfs -o size=1m small \"$1/tree/small\"; fi && \
            exec \"$0\" --shared-dir \"$1/tree\" \
            --socket-path \"$2\" --inode-file-handles=never --modcaps=-mknod --cache=auto \
            --xattr --announce-submounts --thread-pool-size=8 --log-level=error";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", text]).arg(program).arg(directory.path()).arg(&socket);
        let process = command.spawn().unwrap();
        let begun = Instant::now();
        while !socket.exists() {
            assert!(begun.elapsed() < PATIENCE, "virtiofsd does not listen");
            std::thread::sleep(Duration::from_millis(2));
        }
        Self { directory, socket, process }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

pub(crate) fn share(name: &str, path: &str, target: &str, options: &[&str]) -> Mount {
    Mount {
        kind: "share".into(),
        target: target.into(),
        options: options.iter().map(|&option| option.into()).collect(),
        share: name.into(),
        path_inside: path.into(),
        ..Mount::default()
    }
}

fn mounts() -> Vec<Mount> {
    vec![
        share("data", "", "/data", &[]),
        share("data", "deep", "/made/up", &["ro"]),
        share("note", "", "/etc/note", &["ro"]),
    ]
}

/// What must work, then what must not: a word for each that does otherwise.
const STORY: &str = r#"
    cat /data/hello /etc/note
    echo made > /data/made && chown 7:8 /data/made && mv /data/made /data/moved
    mkdir /data/dir && ln /data/moved /data/dir/linked && rm /data/moved && cat /data/dir/linked
    touch /made/up/x 2>/dev/null && echo WRITABLE
    echo x 2>/dev/null >> /etc/note && echo WRITABLE
    mknod /data/device c 1 5 2>/dev/null && echo DEVICE
    mkfifo /data/fifo || echo NO-FIFO
    ln -s ../secret /data/up; ln -s /proc/1/root /data/root; ln -s /proc/self/fd /data/fds
    cat /data/up /data/../secret /data/dir/../../secret 2>/dev/null && echo ESCAPED
    ls /data/root/secret /data/fds/../secret 2>/dev/null && echo ESCAPED
    ln /data/hello /hello 2>/dev/null && echo CROSSED
    ls /run/shares 2>/dev/null && echo TREE
    i=0; while [ $i -lt 50 ]; do
        mkdir -p /data/a/b; (cd /data/a/b && mv /data/a /data/c && cat ../../secret ../../../secret 2>/dev/null && echo ESCAPED)
        ln -sfn .. /data/swap; cat /data/swap/secret 2>/dev/null && echo ESCAPED
        rm -rf /data/c /data/swap; i=$((i+1))
    done
    echo end"#;

#[test]
fn containers_use_what_is_shared_and_come_by_nothing_else() {
    let test = "containers_use_what_is_shared_and_come_by_nothing_else";
    let Some(mut server) = Server::start(test) else { return };
    let Some(machine) = Machine::boot_with_shares(test, server.socket()) else { return };
    let mut client = machine.client();
    client.start(script("c1", STORY).with(|container| container.mounts = mounts())).unwrap();
    assert_eq!(client.stdout("c1"), "hello\nnoted\nmade\nend\n");
    let linked = std::fs::metadata(server.path("data/dir/linked")).unwrap();
    assert_eq!((linked.uid(), linked.gid()), (7, 8));
    assert!(!server.path("data/device").exists() && !server.path("data/made").exists());
    assert_eq!(std::fs::read_link(server.path("data/up")).unwrap(), Path::new("../secret"));
    client.remove("c1").unwrap();

    // Another container of the machine; what the host changes is seen.
    let sleeping = container("c2", &["sleep", "1000"]).with(|container| container.mounts = mounts());
    client.start(sleeping).unwrap();
    std::fs::write(server.path("data/hello"), "changed\n").unwrap();
    let text = "i=0; until grep -q changed /data/hello; do sleep 0.1; i=$((i+1)); [ $i -lt 600 ] || exit 1; done; echo seen";
    client.exec(exec("c2", process("e1", &["sh", "-c", text]))).unwrap();
    assert_eq!(client.stdout("e1"), "seen\n");
    client.remove("c2").unwrap();

    let refused = [
        (share("nothing", "", "/x", &[]), ErrorCode::MountFailed, "open the share nothing"),
        (share("data", "../secret", "/x", &[]), ErrorCode::MountFailed, "of the share data"),
        (share("data", "up", "/x", &[]), ErrorCode::MountFailed, "of the share data"),
        (share("..", "", "/x", &[]), ErrorCode::InvalidRequest, "names no share"),
        (share("data", "", "/x", &["size=1m"]), ErrorCode::InvalidRequest, "size=1m"),
    ];
    for (mount, code, words) in refused {
        let refusal =
            client.start(container("c3", &["true"]).with(|container| container.mounts = vec![mount]));
        let (kind, message) = refusal.unwrap_err();
        assert!(kind == code && message.contains(words), "{message}");
    }
    // The server goes with the machine.
    drop(machine);
    let begun = Instant::now();
    while server.process.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < PATIENCE, "virtiofsd goes on without its machine");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_machine_without_shares_says_so() {
    let Some(machine) = Machine::boot("a_machine_without_shares_says_so") else { return };
    let mut client = machine.client();
    let request = container("c1", &["true"]).with(|container| container.mounts = mounts());
    assert_eq!(
        client.start(request).unwrap_err(),
        (ErrorCode::MountFailed, "the machine has no shares".to_owned())
    );
    client.start(script("c1", "echo fine")).expect("nothing is left of it");
    assert_eq!(client.stdout("c1"), "fine\n");
}
