//! Export through both clients: a container's files as an archive, and as an image again.

use std::io::Read;

use berth_tests::{Client, Host, Running, eventually};

const CHANGE: &str = "[ -e /file ] || echo kept > /file; ln /file /second; rm /etc/group; mkfifo -m 600 /pipe; \
     touch -d @1700000000 /file; ln -s /file /symbolic; echo ready";
const STATE: &str = "{{.State.Status}} {{.State.ExitCode}}";
const LARGE_BYTES: usize = 48 << 20;

#[test]
fn a_containers_files_are_exported_whether_it_runs_or_not() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        let mut running = client.spawn([
            "run",
            "--name",
            "source",
            "busybox",
            "sh",
            "-c",
            &format!("{CHANGE}; sleep 1000"),
        ]);
        assert_eq!(running.line(), "ready");
        let of_running = export(&host, &client, "source");
        has_what_was_changed(&of_running);
        client.run(["pause", "source"]).exits_with(0);
        assert!(export(&host, &client, "source") == of_running, "what stands still is exported too");
        client.run(["unpause", "source"]).exits_with(0);
        client.run(["kill", "source"]).exits_with(0);
        running.ends().exits_with(137);

        let of_exited = export(&host, &client, "source");
        assert!(of_running == of_exited, "the same files make the same archive");
        client.run(["inspect", "--format", STATE, "source"]).prints_exactly("exited 137");
        client.run(["start", "source"]).exits_with(0);
        client.run(["exec", "source", "cat", "/second"]).prints_exactly("kept");
        client.run(["rm", "-f", "source"]).exits_with(0);
        host.has_nothing_left_of_machines();
    }
    let events =
        ["events", "--since", "1h", "--until", "0s", "--filter", "event=export", "--format", "{{.Action}}"];
    let exports = host.berth().run(events).exits_with(0).stdout;
    assert_eq!(exports.lines().count(), 3 * host.clients().len(), "{exports}");
}

#[test]
fn a_containers_files_become_an_image() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        client.run(["create", "--name", "source", "busybox", "false"]).exits_with(0);
        assert!(!names(&export(&host, &client, "source")).contains(&"file".to_owned()), "it never ran");
        client.run(["rm", "source"]).exits_with(0);
        client.run(["run", "--name", "source", "busybox", "sh", "-c", CHANGE]).exits_with(0);
        let archive = export(&host, &client, "source");
        client.run(["rm", "source"]).exits_with(0);
        let path = host.path("exported.tar").to_string_lossy().into_owned();
        let name = format!("imported:{}", client.name);
        client.run(["import", "--change", "CMD [\"cat\", \"/second\"]", &path, &name]).exits_with(0);
        client.run(["run", "--rm", &name]).exits_with(0).prints_exactly("kept");
        client.run(["rmi", &name]).exits_with(0);
        client.run_with_input(["import", "-", &name], &archive).exits_with(0);
        client.run(["rmi", &name]).exits_with(0);
        client
            .run(["export", "--output", &path, "nosuch"])
            .exits_with(1)
            .complains("No such container: nosuch");
    }
    host.has_a_sound_store();
}

#[test]
fn an_export_that_breaks_off_is_not_taken_for_a_whole_one() {
    let Some(host) = Host::start() else { return };
    for client in host.clients() {
        has_a_large_file(&host, &client);
        let exporting = begin_export(&host, &client);
        host.kill_the_machine();
        let exported = exporting.ends();
        assert_eq!((exported.code, exported.stdout.len() > LARGE_BYTES), (1, false), "{}", exported.stderr);
        client.run(["inspect", "--format", STATE, "source"]).prints_exactly("exited 7");
        client.run(["rm", "source"]).exits_with(0);
    }
}

#[test]
fn a_start_waits_for_an_export_and_a_removal_does_not() {
    let Some(host) = Host::start() else { return };
    let client = host.berth();
    has_a_large_file(&host, &client);
    let exporting = begin_export(&host, &client);
    let starting = client.spawn(["start", "source"]);
    std::thread::sleep(std::time::Duration::from_millis(500));
    client.run(["inspect", "--format", STATE, "source"]).prints_exactly("exited 7");
    let exported = exporting.ends();
    assert_eq!((exported.code, exported.stdout.len() > LARGE_BYTES), (0, true), "{}", exported.stderr);
    starting.ends().exits_with(0);
    client.run(["wait", "source"]).prints_exactly("7");
    host.has_nothing_left_of_machines();

    let exporting = begin_export(&host, &client);
    client.run(["rm", "source"]).exits_with(0);
    client.run(["ps", "-aq"]).prints_exactly("");
    drop(exporting);
    host.has_nothing_left_of_machines();
}

#[test]
fn a_daemon_that_is_killed_while_it_exports_leaves_no_machine() {
    let Some(mut host) = Host::start() else { return };
    let client = host.berth();
    has_a_large_file(&host, &client);
    let exporting = begin_export(&host, &client);
    assert!(!host.machine_processes().is_empty(), "a machine for the files alone");
    host.kill_daemon();
    drop(exporting);
    host.start_daemon();
    host.has_nothing_left_of_machines();
    client.run(["inspect", "--format", STATE, "source"]).prints_exactly("exited 7");
    assert!(names(&export(&host, &client, "source")).contains(&"big".to_owned()));
}

/// A container whose archive is larger than what lies between the agent and a client.
fn has_a_large_file(host: &Host, client: &Client) {
    let write = "dd if=/dev/zero of=/big bs=1M count=48 2>/dev/null; exit 7";
    client.run(["run", "--name", "source", "busybox", "sh", "-c", write]).exits_with(7);
    host.has_nothing_left_of_machines();
}

/// An export that nobody reads: it holds the archive, and with it the machine.
fn begin_export(host: &Host, client: &Client) -> Running {
    let events = ["events", "--since", "1h", "--until", "0s", "--filter", "event=export"];
    let begun = || host.berth().run(events).exits_with(0).stdout.lines().count();
    let before = begun();
    let exporting = client.spawn(["export", "source"]);
    eventually("the export begins", || begun() > before);
    exporting
}

fn export(host: &Host, client: &Client, container: &str) -> Vec<u8> {
    let path = host.path("exported.tar").to_string_lossy().into_owned();
    client.run(["export", "--output", &path, container]).exits_with(0);
    std::fs::read(&path).expect("an archive")
}

fn has_what_was_changed(archive: &[u8]) {
    let names = names(archive);
    for name in ["file", "second", "pipe", "symbolic", "bin/busybox", "proc", "dev"] {
        assert!(names.iter().any(|found| found == name), "{name} is missing: {names:?}");
    }
    for name in ["etc/group", "proc/self", "dev/null", "proc/1"] {
        assert!(!names.iter().any(|found| found == name), "{name} is there");
    }
    let mut archive = tar::Archive::new(archive);
    let mut entries = archive.entries().expect("an archive").map(|entry| entry.expect("an entry"));
    let mut file =
        entries.find(|entry| entry.path().is_ok_and(|path| path.as_os_str() == "file")).expect("there");
    let mut content = String::new();
    file.read_to_string(&mut content).expect("text");
    assert_eq!((content.as_str(), file.header().mtime().expect("a time")), ("kept\n", 1_700_000_000));
}

fn names(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().expect("an archive").map(|entry| entry.expect("an entry"));
    let name = |entry: tar::Entry<'_, _>| entry.path().expect("a path").display().to_string();
    entries.map(name).map(|name| name.trim_end_matches('/').to_owned()).collect()
}
