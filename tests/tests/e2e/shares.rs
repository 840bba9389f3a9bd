//! What containers have of the host's: who hears of it when it changes, and what copies, differences and commits see of it.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use berth_tests::{Client, Host, eventually};
use rustix::process::geteuid;

/// A daemon that may share; `None`, said aloud, where there is none.
fn host(test: &str) -> Option<Host> {
    if !geteuid().is_root() {
        eprintln!("skipped: {test}: sharing takes root's rights");
        return None;
    }
    Host::start()
}

fn exec(client: &Client, container: &str, script: &str) -> berth_tests::Outcome {
    client.run(["exec", container, "sh", "-c", script])
}

/// A line for each event of inotify(7) in one directory: its bits, and the name.
const WATCHER: &str = r#"
    $| = 1; my $fd = syscall(294, 0); my $place = "/tree";
    syscall(254, $fd, $place, 0xfce) > 0 or die "$place: $!";
    open(my $in, "<&=", $fd) or die $!;
    while (sysread($in, my $bytes, 65536)) {
        while (length $bytes) {
            my ($wd, $mask, $cookie, $length) = unpack("iIII", $bytes);
            printf "%x %s\n", $mask, unpack("Z*", substr($bytes, 16, $length));
            substr($bytes, 0, 16 + $length) = "";
        }
    }"#;

#[test]
fn a_container_hears_what_the_host_does_in_its_bind_and_what_it_does_itself_once() {
    let Some(host) = host("a container hears") else { return };
    if !Path::new("/usr/bin/perl").exists() || !Path::new("/usr/lib64").exists() {
        eprintln!("skipped: a container hears: the watcher is the host's perl");
        return;
    }
    let berth = host.berth();
    let at = |name: &str| host.path("tree").join(name);
    fs::create_dir(host.path("tree")).unwrap();
    fs::write(at("old"), "").unwrap();
    let tree = format!("{}:/tree", host.path("tree").display());
    let tools = ["-v", "/usr:/usr:ro", "-v", "/usr/lib:/lib:ro", "-v", "/usr/lib64:/lib64:ro"];
    let run = [&["run", "-d", "--name", "watcher", "-v", &tree], &tools[..], &["busybox"]].concat();
    berth.run([&run[..], &["/usr/bin/perl", "-e", WATCHER]].concat()).exits_with(0);
    let heard = || berth.run(["logs", "watcher"]).exits_with(0).text();
    // The host looks from a moment after the container does.
    let mut pokes = 0;
    eventually("the host's changes are heard", || {
        pokes += 1;
        fs::write(at(&format!("poke{pokes}")), "").unwrap();
        heard().contains(" poke")
    });

    // What is gone before the guest looks at it has not been written to, as far as the guest can know.
    fs::write(at("old"), "more\n").unwrap();
    fs::write(at("new"), "some\n").unwrap();
    eventually("what is written is heard", || heard().contains("8 new"));
    fs::rename(at("new"), at("moved")).unwrap();
    fs::remove_file(at("moved")).unwrap();
    fs::create_dir(at("directory")).unwrap();
    exec(&berth, "watcher", "echo x > /tree/own && mv /tree/own /tree/owned && rm /tree/owned").exits_with(0);
    fs::write(at("end"), "").unwrap();
    eventually("the last is heard", || heard().contains("100 end"));
    let heard = heard();
    let of = |names: &[&str]| {
        let is_of = |line: &&str| names.iter().any(|name| line.ends_with(&format!(" {name}")));
        heard.lines().filter(is_of).map(str::to_owned).collect::<Vec<_>>()
    };
    let new = of(&["new", "moved"]);
    assert_eq!(
        (new.first().unwrap().as_str(), new.last().unwrap().as_str()),
        ("100 new", "200 moved"),
        "{heard}"
    );
    for line in ["2 new", "8 new", "40 new", "80 moved", "2 old", "40000100 directory"] {
        assert!(heard.lines().any(|heard| heard == line), "no {line}: {heard}");
    }
    // By its own kernel, and not by the host's as well.
    let own = ["100 own", "2 own", "8 own", "40 own", "80 owned", "200 owned"];
    assert_eq!(of(&["own", "owned"]), own, "{heard}");
    berth.run(["rm", "--force", "watcher"]).exits_with(0);
}

#[test]
fn what_is_mounted_is_copied_and_is_no_part_of_the_container() {
    let Some(host) = host("what is mounted") else { return };
    let berth = host.berth();
    fs::create_dir(host.path("tree")).unwrap();
    fs::write(host.path("letter"), "dear container\n").unwrap();
    let (tree, letter) = (format!("{}:/tree", host.path("tree").display()), host.path("letter"));
    let letter = letter.to_str().expect("the path is text");
    let at = |name: &str| host.path(name).display().to_string();
    let read_only = format!("{tree}-too:ro");
    let mounts = ["-v", "data:/data", "-v", &tree, "-v", &read_only];
    let run = [&["run", "-d", "--name", "box"], &mounts[..], &["busybox", "sleep", "1000"]].concat();
    berth.run(run).exits_with(0);
    exec(&berth, "box", "echo a > /data/a; echo b > /tree/b; echo own > /own; ln -s /data /way")
        .exits_with(0);

    // Both ways, by the place and by a link to it, of what runs.
    let reads = |path: &str, text: &str| {
        berth.run(["cp", &format!("box:{path}"), "-"]).exits_with(0).prints(text);
    };
    let writes = |path: &str| drop(berth.run(["cp", letter, &format!("box:{path}")]).exits_with(0));
    reads("/data/a", "a");
    reads("/way/a", "a");
    writes("/tree/letter");
    writes("/way/letter");
    assert_eq!(fs::read_to_string(host.path("tree/letter")).unwrap(), "dear container\n");
    exec(&berth, "box", "cat /data/letter").prints_exactly("dear container");

    // What is in a mount has not changed in the container, and is not committed.
    let changed = berth.run(["diff", "box"]).exits_with(0).text();
    let mut changed: Vec<&str> = changed.lines().collect();
    changed.sort_unstable();
    assert_eq!(changed, ["A /data", "A /own", "A /tree", "A /tree-too", "A /way"]);
    berth.run(["commit", "box", "committed:1"]).exits_with(0);
    let look = ["run", "--rm", "committed:1", "sh", "-c", "cat /own; ls -A /data /tree"];
    berth.run(look).exits_with(0).prints_exactly("own\n/data:\n\n/tree:");

    // The same of what does not run; and where nobody may write, nobody does.
    berth.run(["stop", "-t", "0", "box"]).exits_with(0);
    reads("/data/a", "a");
    reads("/way/a", "a");
    writes("/way/later");
    writes("/tree/later");
    let refused = berth.run(["cp", letter, "box:/tree-too/x"]).exits_with(1);
    assert!(refused.stderr.to_lowercase().contains("read-only"), "{refused:?}");
    assert_eq!(berth.run(["diff", "box"]).exits_with(0).text().lines().count(), changed.len());
    berth.run(["export", "--output", &at("exported.tar"), "box"]).exits_with(0);
    let exported = fs::read(host.path("exported.tar")).unwrap();
    let has = |text: &[u8]| exported.windows(text.len()).any(|window| window == text);
    assert!(has(b"own\n") && !has(b"dear container"), "its own files alone");
    assert_eq!(fs::read_to_string(host.path("tree/later")).unwrap(), "dear container\n");
    berth.run(["start", "box"]).exits_with(0);
    exec(&berth, "box", "cat /data/later; ls /tree").prints_exactly("dear container\nb\nlater\nletter");
    berth.run(["rm", "--force", "box"]).exits_with(0);
    berth.run(["volume", "rm", "data"]).exits_with(0);
}

#[test]
fn users_of_containers_own_in_volumes_what_they_own_on_the_host() {
    if !geteuid().is_root() {
        eprintln!("skipped: users of containers: sharing takes root's rights");
        return;
    }
    let Some(host) = Host::with_flags(&["--userns-remap=default"]) else { return };
    let berth = host.berth();
    berth.run(["load", "--quiet", "--input", &host.image_archive("busybox")]).exits_with(0);
    let map = berth.run(["run", "--rm", "busybox", "cat", "/proc/self/uid_map"]).exits_with(0).text();
    let first: u32 = map.split_whitespace().nth(1).expect("three numbers").parse().expect("numbers");
    fs::create_dir(host.path("tree")).unwrap();
    for (name, owner) in [("theirs", first + 7), ("roots", 0)] {
        fs::write(host.path("tree").join(name), name).unwrap();
        chown(host.path("tree").join(name), Some(owner), Some(owner)).unwrap();
    }
    chown(host.path("tree"), Some(first), Some(first)).unwrap();
    let tree = format!("{}:/tree", host.path("tree").display());
    let flags = ["run", "--rm", "-v", "data:/data", "-v", &tree, "busybox", "sh", "-c"];
    // A new volume is its root's; files of the host's root are nobody's, and nothing of theirs can be had.
    let script = "stat -c %u:%g /data /tree/theirs /tree/roots; touch /data/made /tree/made; chown 9:9 /tree/made; \
                  chown 0 /tree/roots || echo refused";
    let seen = berth.run([&flags[..], &[script]].concat());
    seen.exits_with(0).prints_exactly("0:0\n7:7\n65534:65534\nrefused");
    let owner = |path: &Path| fs::metadata(path).map(|found| (found.uid(), found.gid())).unwrap();
    assert_eq!(owner(&host.path("tree/made")), (first + 9, first + 9));
    let place = berth.run(["volume", "inspect", "-f", "{{.Mountpoint}}", "data"]).exits_with(0).text();
    assert_eq!(owner(&Path::new(place.trim()).join("made")), (first, first));
}

#[test]
fn a_tree_may_have_more_files_than_its_server_has_descriptors() {
    let Some(host) = host("a tree of many files") else { return };
    host.limit_descriptors(2048);
    fs::create_dir(host.path("tree")).unwrap();
    let files = 30 * 100;
    for number in 0..files {
        let directory = host.path("tree").join(format!("{}", number % 30));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("{number}")), "x").unwrap();
    }
    let tree = format!("{}:/tree", host.path("tree").display());
    let berth = host.berth();
    // What is in use is not forgotten: a directory, a file that is open, and one that has lost its name.
    let script = "cd /tree/7; exec 7<7 8>gone; rm gone; find /tree -type f | wc -l; \
                  for turn in 1 2; do find /tree -type f -print0 | xargs -0 cat | wc -c; done; \
                  echo word >&8; cat 7 - <&7; stat -L -c %s /proc/self/fd/8; ls | wc -l";
    let seen = berth.run(["run", "--rm", "-v", &tree, "busybox", "sh", "-c", script]).exits_with(0);
    seen.prints_exactly("3000\n3000\n3000\nxx5\n100");
}

#[test]
fn who_writes_to_a_file_takes_the_privileges_that_it_grants() {
    let Some(host) = host("privileges of files") else { return };
    let berth = host.berth();
    let make = "cd /data; for f in written cut kept; do echo x > $f; chmod 6777 $f; done";
    berth.run(["run", "--rm", "-v", "data:/data", "busybox", "sh", "-c", make]).exits_with(0);
    // Root may write and leave them.
    let write = "cd /data; echo y >> kept; stat -c %a kept";
    berth
        .run(["run", "--rm", "-v", "data:/data", "busybox", "sh", "-c", write])
        .exits_with(0)
        .prints_exactly("6777");
    let write = "cd /data; echo y >> written; : > cut; stat -c '%a %s' written cut kept";
    let seen = berth.run(["run", "--rm", "-u", "7", "-v", "data:/data", "busybox", "sh", "-c", write]);
    seen.exits_with(0).prints_exactly("777 4\n777 0\n6777 4");
    let place = berth.run(["volume", "inspect", "-f", "{{.Mountpoint}}", "data"]).exits_with(0).text();
    let mode = |name| fs::metadata(Path::new(place.trim()).join(name)).unwrap().mode() & 0o7777;
    assert_eq!(["written", "cut", "kept"].map(mode), [0o777, 0o777, 0o6777], "also for the host");
}
