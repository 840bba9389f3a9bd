//! A container's files as an archive: of one that runs, and of one that does not.

use std::io::Read;

use berth_protocol::agent::ErrorCode;

use crate::container::{container, exec, process, script};
use crate::machine::Machine;

#[test]
fn the_files_of_a_container_are_read_whether_it_runs_or_not() {
    let Some(machine) = Machine::boot("the_files_of_a_container_are_read_whether_it_runs_or_not") else {
        return;
    };
    let mut client = machine.client();
    let change = "echo kept > /data/file; ln /data/file /data/link; rm /bin/garbage; mknod /data/null c 1 3; \
                  touch -d @1700000000 /data/file; ln -s /proc/self/environ /data/out; mkdir -m 1777 /mnt; \
                  mount -t tmpfs none /mnt 2>/dev/null; echo ready; sleep 1000";
    client.start(script("c1", change)).unwrap();
    client.stream("c1", berth_protocol::agent::StreamKind::Stdout, 0).unwrap().read_until("ready");
    let running = Files::of(&client.archive("c1", "/").unwrap());
    running.have_what_was_changed();
    client.remove("c1").unwrap();

    assert_eq!(client.archive("c1", "/").unwrap_err().code(), ErrorCode::NoSuchContainer);
    client.mount("c1").unwrap();
    assert_eq!(client.mount("c1").unwrap_err().0, ErrorCode::AlreadyExists);
    assert_eq!(client.exec(exec("c1", process("e1", &["true"]))).unwrap_err().0, ErrorCode::NoSuchContainer);
    let stopped = Files::of(&client.archive("c1", "/").unwrap());
    stopped.have_what_was_changed();
    assert_eq!(running.0, stopped.0);
    assert_eq!(client.archive("c1", "/data").unwrap_err().code(), ErrorCode::InvalidRequest);
    client.remove("c1").unwrap();
    client.start(container("c1", &["cat", "/data/file"])).unwrap();
    assert_eq!(client.stdout("c1"), "kept\n");
    client.remove("c1").unwrap();
}

#[test]
fn a_reader_that_goes_does_not_hold_a_container() {
    let Some(machine) = Machine::boot("a_reader_that_goes_does_not_hold_a_container") else { return };
    let mut client = machine.client();
    client.mount("c1").unwrap();
    drop(client.begin_archive("c1", "/").expect("a reader"));
    client.remove("c1").unwrap();
    assert_eq!(client.archive("c1", "/").unwrap_err().code(), ErrorCode::NoSuchContainer);
}

/// Path, kind, target, seconds and content of each entry.
#[derive(Debug, PartialEq)]
struct Entry {
    path: String,
    kind: tar::EntryType,
    target: Option<String>,
    seconds: u64,
    content: Vec<u8>,
}

struct Files(Vec<Entry>);

impl Files {
    fn of(archive: &[u8]) -> Self {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            Entry {
                path: String::from_utf8(entry.path_bytes().into_owned()).unwrap(),
                kind: entry.header().entry_type(),
                target: entry.link_name_bytes().map(|name| String::from_utf8(name.into_owned()).unwrap()),
                seconds: entry.header().mtime().unwrap(),
                content,
            }
        });
        Self(entries.collect())
    }

    fn get(&self, path: &str) -> &Entry {
        let found = self.0.iter().find(|entry| entry.path == path);
        found.unwrap_or_else(|| panic!("{path} is not there: {:?}", self.paths()))
    }

    fn paths(&self) -> Vec<&str> {
        self.0.iter().map(|entry| entry.path.as_str()).collect()
    }

    fn have_what_was_changed(&self) {
        let file = self.get("data/file");
        assert_eq!((file.content.as_slice(), file.seconds), (&b"kept\n"[..], 1_700_000_000));
        assert_eq!(self.get("data/link").target.as_deref(), Some("data/file"));
        assert_eq!(self.get("data/null").kind, tar::EntryType::Char);
        let out = self.get("data/out");
        assert_eq!((out.kind, out.target.as_deref()), (tar::EntryType::Symlink, Some("/proc/self/environ")));
        let busybox = std::fs::read("/bin/busybox").unwrap();
        assert!(self.get("bin/busybox").content == busybox, "another busybox");
        assert_eq!(
            self.get("etc/hosts").content,
            b"1.2.3.4 of-the-lower\n",
            "what is mounted over it is not read"
        );
        let paths = self.paths();
        assert!(!paths.contains(&"bin/garbage"));
        for mounted in ["proc", "sys", "dev"] {
            let below: Vec<_> =
                paths.iter().filter(|path| path.starts_with(&format!("{mounted}/"))).collect();
            assert_eq!(below, [&format!("{mounted}/")], "a directory without what is mounted on it");
        }
    }
}
