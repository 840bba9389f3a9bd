//! What containers have mounted beside their images: of the host's, of volumes, of other containers'.

use std::fs;
use std::os::unix::fs::MetadataExt;

use berth_tests::{Client, Host, eventually};
use rustix::process::geteuid;
use serde_json::{Value, json};

/// A daemon that may share; `None`, said aloud, where there is none.
fn host() -> Option<Host> {
    if !geteuid().is_root() {
        eprintln!("skipped: mounts: sharing takes root's rights");
        return None;
    }
    Host::start()
}

fn sh<'a>(client: &Client, flags: &[&'a str], script: &'a str) -> berth_tests::Outcome {
    client.run([&["run", "--rm"], flags, &["busybox", "sh", "-c", script]].concat())
}

#[test]
fn the_hosts_directories_and_files_are_in_containers() {
    let Some(mut host) = host() else { return };
    let tree = host.path("tree");
    fs::create_dir_all(tree.join("below")).unwrap();
    fs::write(tree.join("file"), "from the host\n").unwrap();
    fs::write(host.path("single"), "alone\n").unwrap();
    fs::create_dir(host.path("other")).unwrap();
    let at = |path: &str| host.path(path).display().to_string();
    let (tree_text, single, other) = (at("tree"), at("single"), at("other"));

    // A directory, a file of its own, and a directory in the directory, which may not be written: whoever asks.
    let (rw, file) = (format!("{tree_text}:/srv/tree"), format!("{single}:/etc/single"));
    let nested = format!("{other}:/srv/tree/below:ro");
    let script = "cat /srv/tree/file /etc/single && echo new > /srv/tree/made && chown 7:8 /srv/tree/made \
                  && ! touch /srv/tree/below/x && grep -q ' /srv/tree/below .* ro,' /proc/mounts && id -u";
    for client in host.clients() {
        let flags = ["-v", &nested, "-v", &rw, "-v", &file, "--read-only"];
        sh(&client, &flags, script).exits_with(0).prints_exactly("from the host\nalone\n0");
        assert_eq!(fs::read_to_string(tree.join("made")).unwrap(), "new\n");
        let made = fs::metadata(tree.join("made")).unwrap();
        assert_eq!((made.uid(), made.gid()), (7, 8), "the container's ids are the host's");
        assert_eq!(fs::read_dir(&other).unwrap().count(), 0);
        fs::remove_file(tree.join("made")).unwrap();
    }

    // What is missing is made by one way of asking, and not by the other.
    let berth = host.berth();
    let missing = at("missing/deep");
    sh(&berth, &["-v", &format!("{missing}:/x")], "touch /x/y").exits_with(0);
    assert!(fs::exists(host.path("missing/deep/y")).unwrap());
    if let Some(docker) = host.docker() {
        let gone = format!("type=bind,src={},dst=/x", at("gone"));
        let refused = docker.run(["run", "--mount", &gone, "busybox", "true"]).exits_with(125);
        refused.complains("bind source path does not exist");
    }

    // Two containers see each other's files, also when the daemon dies in between, and the mounts are shown.
    let shared = format!("{tree_text}:/data");
    berth.run(["run", "-d", "--name", "one", "-v", &shared, "busybox", "sleep", "1000"]).exits_with(0);
    host.kill_daemon();
    host.start_daemon();
    let taken = ["--volumes-from", "one:ro"];
    let script = "until grep -q word /data/said; do sleep 0.1; done; touch /data/x || cat /data/said";
    let listener = std::thread::scope(|scope| {
        let listener = scope.spawn(|| sh(&berth, &taken, script));
        berth.run(["exec", "one", "sh", "-c", "echo a word > /data/said"]).exits_with(0);
        listener.join().unwrap()
    });
    listener.exits_with(0).prints_exactly("a word");
    let shown = berth.run(["inspect", "--format", "{{json .Mounts}}", "one"]).exits_with(0).text();
    let shown: Value = serde_json::from_str(&shown).expect("it was asked for as JSON");
    let expected = json!([{
        "Type": "bind", "Source": tree_text, "Destination": "/data", "Mode": "", "RW": true, "Propagation": "rprivate",
    }]);
    assert_eq!(shown, expected);
    // A restart has the same.
    berth.run(["restart", "-t", "0", "one"]).exits_with(0);
    berth.run(["exec", "one", "cat", "/data/said"]).prints_exactly("a word");

    // Nothing of it stays, and nothing of the host's goes.
    berth.run(["rm", "--force", "one"]).exits_with(0);
    eventually("share servers end", || servers(&tree_text) == 0);
    assert_eq!(fs::read_to_string(tree.join("said")).unwrap(), "a word\n");
}

/// Mounts of anything of that path in any process's table.
fn servers(path: &str) -> usize {
    let processes = fs::read_dir("/proc").expect("Linux has it");
    let tables = processes.flatten().map(|process| process.path().join("mountinfo"));
    tables.filter(|table| fs::read_to_string(table).is_ok_and(|table| table.contains(path))).count()
}

#[test]
fn what_no_machine_can_have_is_refused_by_name() {
    let Some(host) = host() else { return };
    for client in host.clients() {
        let shared = ["run", "--rm", "-v", "/tmp:/x:rshared", "busybox", "true"];
        client.run(shared).exits_with(125).complains("propagation rshared of /x");
    }
}

/// Names of volumes, sorted.
fn volumes(client: &Client) -> Vec<String> {
    let listed = client.run(["volume", "ls", "--quiet"]).exits_with(0).text();
    listed.lines().map(str::to_owned).collect()
}

#[test]
fn volumes_outlive_containers_and_the_daemon_unless_nobody_named_them() {
    let Some(mut host) = host() else { return };
    let berth = host.berth();

    // Two containers that run have one volume, and one of them only reads it.
    berth
        .run(["run", "-d", "--name", "writes", "-v", "data:/d", "-v", "/own", "busybox", "sleep", "1000"])
        .exits_with(0);
    let reads = "type=volume,src=data,dst=/deep/er,ro,volume-subpath=sub";
    berth
        .run(["exec", "writes", "sh", "-c", "mkdir /d/sub && echo here > /d/sub/file && touch /own/x"])
        .exits_with(0);
    sh(&berth, &["--mount", reads], "cat /deep/er/file; touch /deep/er/x || ls /deep/er")
        .exits_with(0)
        .prints_exactly("here\nfile");
    assert_eq!(volumes(&berth).len(), 2, "one with a name and one without");

    // Who has one keeps it, also from the next daemon.
    host.kill_daemon();
    host.start_daemon();
    berth.run(["volume", "rm", "data"]).exits_with(1).complains("volume is in use");
    berth.run(["exec", "writes", "cat", "/d/sub/file"]).prints_exactly("here");
    let shown = berth.run(["inspect", "--format", "{{json .Mounts}}", "writes"]).exits_with(0).text();
    let shown: Vec<Value> = serde_json::from_str(&shown).expect("it was asked for as JSON");
    let of = |field: &str| shown.iter().map(|mount| mount[field].clone()).collect::<Vec<_>>();
    assert_eq!(of("Type"), ["volume", "volume"]);
    assert_eq!(of("Destination"), ["/d", "/own"]);
    assert_eq!(of("Mode"), ["z", ""]);
    assert_eq!(of("RW"), [true, true]);
    let filter = ["ps", "--quiet", "--filter", "volume=data"];
    assert_eq!(berth.run(filter).text().lines().count(), 1);

    // Its own volume goes with it if that is asked for; the other one stays, with what is in it.
    berth.run(["rm", "--force", "--volumes", "writes"]).exits_with(0);
    assert_eq!(volumes(&berth), ["data"]);
    sh(&berth, &["-v", "data:/d", "-v", "/own"], "cat /d/sub/file").exits_with(0).prints_exactly("here");
    assert_eq!(volumes(&berth), ["data"], "--rm removes what nobody named");
    berth.run(["volume", "rm", "data"]).exits_with(0);
    assert_eq!(volumes(&berth), [""; 0]);
}

#[test]
fn what_an_image_has_in_the_place_of_its_volume_is_in_the_volume() {
    let Some(host) = host() else { return };
    let berth = host.berth();
    let make = "mkdir -p /kept/below && echo seed > /kept/below/file && chown 5:6 /kept && chmod 750 /kept";
    berth.run(["run", "--name", "seed", "busybox", "sh", "-c", make]).exits_with(0);
    berth.run(["commit", "--change", "VOLUME /kept", "seed", "keeps:1"]).exits_with(0);
    berth.run(["rm", "seed"]).exits_with(0);

    // A volume of the container's own, another one of each; and one with a name, unless it is to be empty.
    let look = "cat /kept/below/file; stat -c %u:%g:%a /kept; grep -c ' /kept ' /proc/mounts; echo more >> /kept/below/file";
    let run = |flags: &[&str]| berth.run([&["run", "--rm"], flags, &["keeps:1", "sh", "-c", look]].concat());
    run(&[]).exits_with(0).prints_exactly("seed\n5:6:750\n1");
    run(&[]).exits_with(0).prints_exactly("seed\n5:6:750\n1");
    run(&["-v", "named:/kept"]).exits_with(0).prints_exactly("seed\n5:6:750\n1");
    run(&["-v", "named:/kept"]).exits_with(0).prints_exactly("seed\nmore\n5:6:750\n1");
    let empty = run(&["-v", "empty:/kept:nocopy"]);
    assert!(!empty.stdout.contains("seed"), "{empty:?}");
    assert_eq!(volumes(&berth), ["empty", "named"]);

    // A container that never ran has them too, for who copies.
    berth.run(["create", "--name", "made", "-v", "named:/kept", "keeps:1", "true"]).exits_with(0);
    berth.run(["cp", "made:/kept/below/file", "-"]).exits_with(0).prints("seed\nmore");
    berth.run(["rm", "--volumes", "made"]).exits_with(0);
    berth.run(["volume", "rm", "named", "empty"]).exits_with(0);
}

#[test]
fn an_images_files_are_mounted_and_it_stays_for_as_long() {
    let Some(mut host) = Host::start() else { return };
    let berth = host.berth();
    let make = "mkdir -p /tools/deep && echo kept > /tools/deep/file && ln -s deep /tools/link && chown 5:6 /tools/deep/file";
    berth.run(["run", "--name", "made", "busybox", "sh", "-c", make]).exits_with(0);
    berth.run(["commit", "made", "tools:1"]).exits_with(0);
    berth.run(["rm", "made"]).exits_with(0);

    // All of it, a directory in it by way of a link, a single file; of two images; and nobody writes there.
    let script = "cat /whole/tools/deep/file /part/file /etc/file; stat -c %u:%g /part/file; ls /hello; \
                  touch /whole/x || touch /part/file || echo x > /etc/file || grep -c ' erofs ro' /proc/mounts";
    let mounts = [
        "type=image,src=tools:1,dst=/whole",
        "type=image,src=tools:1,dst=/part,image-subpath=tools/link",
        "type=image,src=tools:1,dst=/etc/file,image-subpath=tools/deep/file",
        "type=image,src=hello-world,dst=/hello",
    ];
    let flags: Vec<&str> = mounts.iter().flat_map(|mount| ["--mount", *mount]).collect();
    for client in host.clients() {
        let seen = client.run([&["run", "--rm"], &flags[..], &["busybox", "sh", "-c", script]].concat());
        seen.exits_with(0).prints_exactly("kept\nkept\nkept\n5:6\nhello\n4");
        let absent = "type=image,src=tools:1,dst=/x,image-subpath=no/such";
        let refused = client.run(["run", "--rm", "--mount", absent, "busybox", "true"]);
        refused.exits_with(125).complains("open no/such of the disk for /x");
    }
    let missing =
        ["run", "--rm", "--pull", "never", "--mount", "type=image,src=nosuch,dst=/x", "busybox", "true"];
    berth.run(missing).exits_with(125).complains("No such image: nosuch");

    // What has it mounted holds it, whether it runs or not, also before the next daemon.
    let one = [&["run", "-d", "--name", "user"], &flags[..2], &["busybox", "sleep", "1000"]].concat();
    berth.run(one).exits_with(0);
    let shown = berth.run(["inspect", "--format", "{{json .Mounts}}", "user"]).exits_with(0).text();
    let shown: Value = serde_json::from_str(&shown).expect("it was asked for as JSON");
    let id = berth.run(["image", "inspect", "--format", "{{.Id}}", "tools:1"]).exits_with(0).text();
    let expected = json!([{
        "Type": "image", "Name": "tools:1", "Source": id.trim(), "Destination": "/whole", "Mode": "", "RW": false,
        "Propagation": "rprivate",
    }]);
    assert_eq!(shown, expected);
    host.kill_daemon();
    host.start_daemon();
    berth.run(["exec", "user", "cat", "/whole/tools/link/file"]).prints_exactly("kept");
    berth.run(["rmi", "--force", id.trim()]).exits_with(1).complains("running container");
    berth.run(["kill", "user"]).exits_with(0);
    berth.run(["rmi", "tools:1"]).exits_with(1).complains("is using its referenced image");
    berth.run(["image", "prune", "--all", "--force"]).exits_with(0);
    berth.run(["start", "user"]).exits_with(0);
    berth.run(["exec", "user", "cat", "/whole/tools/link/file"]).prints_exactly("kept");
    // A copy sees it, and only while it is there; a difference does not.
    berth.run(["cp", "user:/whole/tools/deep/file", "-"]).exits_with(0).prints("kept");
    assert_eq!(berth.run(["diff", "user"]).exits_with(0).text(), "A /whole");
    berth.run(["rm", "--force", "user"]).exits_with(0);
    berth.run(["rmi", "tools:1"]).exits_with(0);
}
