//! Copies between a container and the host through both clients: what comes to lie where, and what is refused.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use berth_tests::made_image::Files;
use berth_tests::{Client, Host};
use tar::EntryType;

const SECONDS: u64 = 1_000_000_000;
const LONG_NAME: &str = "a-name-that-no-field-of-a-tar-header-can-hold-because-it-is-longer-than-one-hundred-bytes\
                         -and-therefore-goes-into-a-header-of-its-own";
/// No UTF-8.
const STRANGE_NAME: &[u8] = b"strange-\xff\xfe";

/// What lies below /d after the copies of [`fill`].
const FILLED: &str = ".\n./f\n./new\n./new/f\n./renamed\n./sub\n./sub/f\n./tree\n./tree/f";

#[test]
fn files_are_copied_both_ways_whether_a_container_runs_or_not() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        let directory = host.path(&format!("copies-{}", client.name));
        fs::create_dir(&directory).expect("a directory");
        let here = |name: &str| directory.join(name).display().to_string();
        make_tree(&directory.join("tree"));
        let program = "mkdir -p /d/sub; ln -s sub /d/link; echo ready; sleep 1000";
        let run = ["run", "--name", "box", "--tmpfs", "/scratch", "busybox", "sh", "-c", program];
        let mut running = client.spawn(run);
        assert_eq!(running.line(), "ready");

        fill(&client, &here);
        let found = "cd /d && find . -maxdepth 2 ! -name '*-*' ! -name 'hard' ! -name s ! -name link | sort";
        client.run(["exec", "box", "sh", "-c", found]).prints_exactly(FILLED);
        client.run(["exec", "box", "cat", "/d/sub/f", "/d/renamed"]).prints_exactly("content\ncontent");
        client
            .run(["exec", "box", "stat", "-c", "%a %Y %h", "/d/tree/f"])
            .prints_exactly("4751 1000000000 2");
        client.run(["exec", "box", "readlink", "/d/tree/s"]).prints_exactly("f");
        refuses_what_docker_refuses(&client, &here);
        // What only its processes see of it is part of it.
        client.run(["cp", &here("tree/f"), "box:/scratch/f"]).exits_with(0);
        client.run(["exec", "box", "cat", "/scratch/f"]).prints_exactly("content");
        client.run(["cp", "box:/scratch/f", &here("from-scratch")]).exits_with(0);
        assert_eq!(fs::read_to_string(here("from-scratch")).expect("a file"), "content\n");
        comes_back_as_it_went(&client, &here, "running");
        let of_running = client.run(["cp", "box:/d/tree", "-"]).exits_with(0).stdout;

        client.run(["kill", "box"]).exits_with(0);
        running.ends().exits_with(137);
        comes_back_as_it_went(&client, &here, "stopped");
        let of_stopped = client.run(["cp", "box:/d/tree", "-"]).exits_with(0).stdout;
        assert!(of_running == of_stopped, "the same files make the same archive");
        let missing = "Could not find the file /scratch/f in container box";
        client.run(["cp", "box:/scratch/f", &here("x")]).exits_with(1).complains(missing);
        client.run(["cp", &here("tree/f"), "box:/d/stopped"]).exits_with(0);
        client
            .run(["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "box"])
            .prints_exactly("exited 137");
        client.run(["start", "box"]).exits_with(0);
        client.run(["exec", "box", "cat", "/d/stopped"]).prints_exactly("content");
        client.run(["rm", "-f", "box"]).exits_with(0);
        host.has_nothing_left_of_machines();
    }
    let events = |event: &str| {
        let filter = format!("event={event}");
        let events = ["events", "--since", "1h", "--until", "0s", "--filter", &filter];
        host.berth().run(events).exits_with(0).stdout.lines().count()
    };
    let clients = host.clients().len();
    assert_eq!((events("extract-to-dir"), events("archive-path")), (7 * clients, 12 * clients));
}

#[test]
fn a_containers_user_and_its_read_only_root_are_respected() {
    let Some(host) = Host::start() else { return };
    let client = host.berth();
    fs::write(host.path("f"), "content").expect("a file");
    let file = host.path("f").display().to_string();
    client.run(["create", "--name", "user", "--user", "7:8", "busybox"]).exits_with(0);
    client.run(["cp", "--archive", &file, "user:/tmp/own"]).exits_with(0);
    client.run(["cp", &file, "user:/tmp/not-own"]).exits_with(0);
    let archive = client.run(["cp", "user:/tmp", "-"]).exits_with(0).stdout;
    let owners = headers(archive.as_bytes());
    assert!(owners.contains(&("tmp/own".to_owned(), 7, 8)), "{owners:?}");
    let own = fs::metadata(&file).expect("a file");
    assert!(owners.contains(&("tmp/not-own".to_owned(), own.uid().into(), own.gid().into())), "{owners:?}");
    client.run(["create", "--name", "readonly", "--read-only", "busybox"]).exits_with(0);
    let refusal = client.run(["cp", &file, "readonly:/tmp/f"]).exits_with(1);
    refusal.complains("container rootfs is marked read-only");
    client.run(["cp", "readonly:/etc/passwd", &host.path("passwd").display().to_string()]).exits_with(0);
    client.run(["rm", "user", "readonly"]).exits_with(0);
    host.has_nothing_left_of_machines();
}

#[test]
fn hostile_archives_stay_in_their_container_and_hostile_containers_hold_nobody_up() {
    let Some(host) = Host::start() else { return };
    let client = host.berth();
    let program = "mkdir -p /d; mkfifo /d/pipe; echo ready; sleep 1000";
    let mut running = client.spawn(["run", "--rm", "--name", "box", "busybox", "sh", "-c", program]);
    assert_eq!(running.line(), "ready");
    let put = |files: Files| client.run_with_input(["cp", "-", "box:/d"], &files.tar());

    for name in [&b"../escaped"[..], b"a/../../escaped"] {
        put(Files::new().file_named_exactly(name, b"x")).exits_with(1).complains("is outside of");
    }
    put(Files::new().file_named_exactly(b"/absolute", b"inside")).exits_with(0);
    let links = Files::new().link(EntryType::Symlink, "root", "/").file("root/berth-through", b"inside");
    put(links).exits_with(0);
    let reads = ["exec", "box", "cat", "/d/absolute", "/berth-through"];
    client.run(reads).prints_exactly("insideinside");
    assert!(!Path::new("/berth-through").exists() && !Path::new("/absolute").exists());
    let refused = [
        Files::new().link(EntryType::Link, "hard", "../../etc/passwd"),
        Files::new().link(EntryType::Link, "hard", "nowhere"),
        Files::new().file("absolute/below-a-file", b"x"),
        Files::new().file("size", b"x").with_size_field(b"77777777777\0"),
        Files::new().extended_header(&[b'x'; 4000]).file("f", b"x"),
    ];
    for files in refused {
        put(files).exits_with(1);
    }
    client
        .run_with_input(["cp", "-", "box:/d"], &[7; 3000])
        .exits_with(1)
        .complains("Error processing tar file");
    // Nobody reads this pipe, and nobody is waited for.
    put(Files::new().file("pipe", b"a file now")).exits_with(0);
    client.run(["exec", "box", "cat", "/d/pipe"]).prints_exactly("a file now");
    let not_there = "Could not find the file /proc/kmsg in container box";
    client.run(["cp", "box:/proc/kmsg", "-"]).exits_with(1).complains(not_there);
    client.run_with_input(["cp", "-", "box:/proc"], &Files::new().file("f", b"x").tar()).exits_with(1);
    let devices = client.run(["cp", "box:/dev", "-"]).exits_with(0).stdout;
    assert!(headers(devices.as_bytes()).iter().any(|(name, ..)| name == "dev/null"));
    client.run(["exec", "box", "echo", "alive"]).prints_exactly("alive");
    client.run(["kill", "box"]).exits_with(0);
    running.ends().exits_with(137);
}

/// A tree of what is hard to copy.
fn make_tree(tree: &Path) {
    fs::create_dir(tree).expect("a directory");
    let file = tree.join("f");
    fs::write(&file, "content\n").expect("a file");
    fs::hard_link(&file, tree.join("hard")).expect("a link");
    symlink("f", tree.join("s")).expect("a link");
    fs::write(tree.join(LONG_NAME), "long").expect("a file");
    fs::write(tree.join(OsStr::from_bytes(STRANGE_NAME)), "strange").expect("a file");
    fs::File::create(tree.join("sparse-file")).and_then(|file| file.set_len(1 << 20)).expect("a file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4751)).expect("a mode");
    let time = UNIX_EPOCH + Duration::from_secs(SECONDS);
    fs::File::options().write(true).open(&file).and_then(|file| file.set_modified(time)).expect("a time");
}

/// The table that `docker cp` documents.
fn fill(client: &Client, here: &dyn Fn(&str) -> String) {
    for (source, destination) in [
        ("tree/f", "box:/d"),
        ("tree/f", "box:/d/renamed"),
        ("tree", "box:/d"),
        ("tree", "box:/d/new"),
        ("tree/.", "box:/d/link"),
    ] {
        client.run(["cp", &here(source), destination]).exits_with(0);
    }
}

fn refuses_what_docker_refuses(client: &Client, here: &dyn Fn(&str) -> String) {
    let refuses = |source: &str, destination: &str, text: &str| {
        client.run(["cp", source, destination]).exits_with(1).complains(text);
    };
    refuses(&here("tree"), "box:/d/f", "cannot copy directory");
    refuses(&here("tree/f"), "box:/d/none/", "no such directory");
    refuses(&here("tree/f"), "box:/none/deep/f", "Could not find the file /none/deep in container box");
    refuses(&here("nothing"), "box:/d", "lstat");
    refuses("box:/nothing", &here("x"), "Could not find the file /nothing in container box");
    refuses("box:/d/f", &here("none/x"), "does not exist");
    refuses("box:/d/tree", &here("tree/f"), "cannot copy directory");
    refuses("nosuch:/d", &here("x"), "No such container: nosuch");
}

fn comes_back_as_it_went(client: &Client, here: &dyn Fn(&str) -> String, state: &str) {
    let back = |name: &str| here(&format!("{state}-{name}"));
    client.run(["cp", "box:/d/tree", &back("new")]).exits_with(0);
    client.run(["cp", "box:/d/tree/.", &here(".")]).exits_with(0);
    client.run(["cp", "box:/d/tree/s", &back("link")]).exits_with(0);
    client.run(["cp", "-L", "box:/d/tree/s", &back("followed")]).exits_with(0);
    assert_eq!(fs::read_link(back("link")).expect("a link"), Path::new("f"));
    assert_eq!(fs::read_to_string(back("followed")).expect("a file"), "content\n");
    for tree in [back("new"), here(".")] {
        let tree = Path::new(&tree);
        assert_eq!(fs::read_to_string(tree.join("s")).expect("a link that leads"), "content\n");
        assert_eq!(fs::read_to_string(tree.join(LONG_NAME)).expect("a file"), "long");
        let strange = tree.join(OsStr::from_bytes(STRANGE_NAME));
        assert_eq!(fs::read_to_string(strange).expect("a file"), "strange");
        assert_eq!(fs::read(tree.join("sparse-file")).expect("a file"), vec![0; 1 << 20]);
        let file = fs::metadata(tree.join("f")).expect("a file");
        let expected = (0o4751, i64::try_from(SECONDS).expect("small"), 2);
        assert_eq!((file.mode() & 0o7777, file.mtime(), file.nlink()), expected, "{}", tree.display());
    }
}

fn headers(archive: &[u8]) -> Vec<(String, u64, u64)> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().expect("an archive").map(|entry| entry.expect("an entry"));
    let header = |entry: tar::Entry<'_, _>| {
        let name = entry.path().expect("a path").display().to_string();
        (name, entry.header().uid().expect("a user"), entry.header().gid().expect("a group"))
    };
    entries.map(header).collect()
}
