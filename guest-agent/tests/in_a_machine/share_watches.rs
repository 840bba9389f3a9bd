//! Processes that watch files of shares: what the host is told of that, and how they hear of what it does.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

use berth_protocol::agent::{ShareChange, ShareWatch, StreamHeader, StreamKind, WatchShares};
use berth_protocol::frame;

use crate::client::{Client, read_frame};
use crate::machine::Machine;
use crate::share_files::{perl, tools_and_data};
use crate::shares::Server;

/// Bits of inotify(7).
const MODIFY: u32 = 0x2;
const ATTRIB: u32 = 0x4;
const MOVED_FROM: u32 = 0x40;
const MOVED_TO: u32 = 0x80;
const CREATE: u32 = 0x100;
const DELETE: u32 = 0x200;
const OVERFLOW: u32 = 0x4000;
const IS_DIRECTORY: u32 = 0x4000_0000;

/// Watches what it is given, and writes a line for each event: the number of the watch, the event, whether it has a cookie, the
/// name, and, if something was modified, how large the file "hello" is then.
const WATCHER: &str = r#"
    $| = 1; my $fd = syscall(294, 0);
    for (@ARGV) { my $path = $_; syscall(254, $fd, $path, 0xfce) > 0 or die "$path: $!"; -s "/mnt/hello" }
    print "ready\n";
    open(my $in, "<&=", $fd) or die $!;
    while (sysread($in, my $bytes, 65536)) {
        while (length $bytes) {
            my ($wd, $mask, $cookie, $length) = unpack("iIII", $bytes);
            my $name = unpack("Z*", substr($bytes, 16, $length));
            printf "%d %x %d %s %s\n", $wd, $mask, $cookie ? 1 : 0, $name, $mask & 2 ? -s "/mnt/hello" : "-";
            substr($bytes, 0, 16 + $length) = "";
        }
    }"#;

/// The host's end of a machine's watches.
struct Watching {
    connection: UnixStream,
}

impl Watching {
    fn begin(client: &Client) -> Self {
        let header = StreamHeader { watch_shares: Some(WatchShares {}), ..StreamHeader::default() };
        Self { connection: client.begin_pieces(&header).unwrap() }
    }

    fn next(&mut self) -> ShareWatch {
        read_frame(&mut self.connection).expect("the agent says what is watched")
    }

    fn some(&mut self, count: usize) -> Vec<ShareWatch> {
        (0..count).map(|_one| self.next()).collect()
    }

    fn tell(&mut self, watch_id: u64, events: u32, cookie: u32, name: &str) {
        let change = ShareChange { watch_id, events, cookie, name: name.into() };
        self.connection.write_all(&frame::encode(&change).unwrap()).unwrap();
    }
}

#[test]
fn who_watches_a_share_hears_of_what_the_host_does() {
    let test = "who_watches_a_share_hears_of_what_the_host_does";
    let Some(server) = Server::with_tools(test) else { return };
    let Some(machine) = Machine::boot_with_shares(test, server.socket()) else { return };
    let mut client = machine.client();
    let watched = ["/mnt", "/mnt/deep", "/mnt/hello", "/etc"];
    let watcher = perl("c1", WATCHER, &watched, tools_and_data());
    client.start(watcher).unwrap();
    let mut stdout = client.stream("c1", StreamKind::Stdout, 0).unwrap();
    stdout.read_until("ready\n");

    let mut watching = Watching::begin(&client);
    let mut watches = watching.some(4);
    watches.sort_by_key(|watch| watch.id);
    let places: Vec<_> = watches.iter().map(|it| (it.share.as_str(), it.path.as_slice())).collect();
    assert_eq!(places, [("data", &b""[..]), ("data", b"deep"), ("data", b"hello"), ("tools", b"etc")]);
    let inode = |name: &str| std::fs::metadata(server.path(name)).unwrap().ino();
    assert_eq!(watches[0].inode, inode("data"));
    assert_eq!((watches[1].inode, watches[2].inode), (inode("data/deep"), inode("data/hello")));
    let [data, deep, hello] = [0, 1, 2].map(|watch: usize| watches[watch].id);

    // As the daemon would: something happens, and it says so. What is known of the file is then what is so.
    let mut heard = |text: &str| stdout.read_until(text);
    std::fs::write(server.path("data/hello"), "much longer\n").unwrap();
    watching.tell(data, MODIFY, 0, "hello");
    assert_eq!(heard("3 2 0  12\n"), "1 2 0 hello 12\n3 2 0  12\n", "to its directory and to itself");
    std::fs::write(server.path("data/hello"), "short\n").unwrap();
    watching.tell(hello, MODIFY, 0, "");
    assert_eq!(heard("6\n"), "3 2 0  6\n");
    std::fs::write(server.path("data/new"), "").unwrap();
    watching.tell(data, CREATE, 0, "new");
    assert_eq!(heard("\n"), "1 100 0 new -\n");
    std::fs::rename(server.path("data/new"), server.path("data/deep/moved")).unwrap();
    watching.tell(data, MOVED_FROM, 5, "new");
    watching.tell(deep, MOVED_TO, 5, "moved");
    assert_eq!(heard("moved -\n"), "1 40 1 new -\n2 80 1 moved -\n");

    // What is removed is watched no longer, and both sides know.
    std::fs::remove_dir_all(server.path("data/deep")).unwrap();
    watching.tell(data, DELETE | IS_DIRECTORY, 0, "deep");
    assert_eq!(heard("2 8000 0  -\n"), "1 40000200 0 deep -\n2 400 0  -\n2 8000 0  -\n");
    assert_eq!(watching.next(), ShareWatch { id: deep, ..ShareWatch::default() });
    std::fs::remove_file(server.path("data/hello")).unwrap();
    watching.tell(hello, ATTRIB, 0, "");
    assert_eq!(heard("3 8000 0  -\n"), "3 4 0  -\n3 400 0  -\n3 8000 0  -\n");
    assert_eq!(watching.next().id, hello);

    // What makes no sense is not raised, and events that were lost are said to be.
    for (watch, events, name) in [
        (0, CREATE, "a"),
        (999, CREATE, "a"),
        (deep, CREATE, "a"),
        (data, 0, ""),
        (data, CREATE, ""),
        (data, CREATE, "a/b"),
        (data, CREATE, ".."),
        (data, MODIFY, "nothing"),
        (data, 0x2000, "a"),
        (data, CREATE, &"a".repeat(256)),
    ] {
        watching.tell(watch, events, 0, name);
    }
    watching.tell(0, OVERFLOW, 0, "");
    let text = heard("-1 4000 0  -\n");
    let raised: Vec<_> =
        text.lines().filter(|line| line.contains(" a") || line.contains("nothing")).collect();
    assert_eq!(raised, Vec::<&str>::new(), "{text}");

    // A later daemon hears of what there is, and the earlier one's connection ends.
    let mut later = Watching::begin(&client);
    let left: Vec<_> = later.some(2).into_iter().map(|watch| watch.path).collect();
    assert_eq!(left, [b"".to_vec(), b"etc".to_vec()]);
    assert!(read_frame::<ShareWatch>(&mut watching.connection).is_err());
    drop(stdout);
    client.remove("c1").unwrap();
    assert!(later.some(2).iter().all(|watch| !watch.begun));
}
