//! Diff and commit through both clients: what a container has changed, and an image of it.

use berth_tests::registry::Registry;
use berth_tests::{Client, Host, eventually};

/// Deletes, replaces, links and marks files of busybox.
const CHANGE: &str = "echo x >> /etc/passwd; rm /etc/group; rm -r /var; mkdir -p /var/new; cp /bin/busybox /su; \
     chmod 4755 /su; ln /su /su2; ln -s su /symbolic; chown 7:8 /var/new; touch -d @1700000000 /capable; \
     touch /dev/shm/not-on-disk; echo ready";
/// What `CHANGE` leaves, as a container sees it.
const SHOW: &str = "tail -n1 /etc/passwd; ls /etc/group /var 2>&1 | grep -v cannot; stat -c '%n %a %h %u:%g' /su /su2 /var/new; \
     readlink /symbolic; stat -c %Y /capable; id -un";
const STATE: &str = "{{.State.Status}}";
/// `security.capability`, revision 2: NET_RAW, effective.
const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

#[test]
fn what_a_container_has_changed_is_listed_whether_it_runs_or_not() {
    let Some(host) = Host::start() else { return };
    import_with_a_capability(&host);
    let expected = "C /capable\nC /etc\nD /etc/group\nC /etc/passwd\nA /su\nA /su2\nA /symbolic\nC /var\nA /var/new\n\
         D /var/spool\nD /var/tmp";
    for client in host.clients() {
        client.run(["run", "--name", "idle", "capable", "true"]).exits_with(0);
        client.run(["diff", "idle"]).exits_with(0).prints_exactly("");
        client.run(["rm", "idle"]).exits_with(0);
        let mut running =
            client.spawn(["run", "--name", "source", "capable", "sh", "-c", &then_sleep(CHANGE)]);
        assert_eq!(running.line(), "ready");
        client.run(["diff", "source"]).exits_with(0).prints_exactly(expected);
        client.run(["kill", "source"]).exits_with(0);
        running.ends().exits_with(137);
        client.run(["diff", "source"]).exits_with(0).prints_exactly(expected);
        client.run(["inspect", "--format", STATE, "source"]).prints_exactly("exited");
        client.run(["rm", "source"]).exits_with(0);
        client.run(["diff", "nosuch"]).exits_with(1).complains("No such container: nosuch");
    }
    let berth = host.berth();
    berth.run(["create", "--name", "new", "busybox", "true"]).exits_with(0);
    berth.run(["diff", "--format", "table", "new"]).prints_exactly("CHANGE TYPE   PATH");
}

#[test]
fn a_container_becomes_an_image_that_runs_elsewhere() {
    let Some(host) = Host::start() else { return };
    let Some(registry) = Registry::plain() else { return };
    import_with_a_capability(&host);
    for client in host.clients() {
        let mut running =
            client.spawn(["run", "--name", "source", "capable", "sh", "-c", &then_sleep(CHANGE)]);
        assert_eq!(running.line(), "ready");
        let name = registry.image(&format!("{}:committed", client.name));
        let committed = client.run([
            "commit",
            "--author",
            "me",
            "--message",
            "as it ran",
            "--change",
            "ENV A=1 B=$PATH",
            "--change",
            "USER nobody",
            "source",
            &name,
        ]);
        let id = committed.exits_with(0).text();
        client.run(["inspect", "--format", STATE, "source"]).prints_exactly("running");
        let inspected = &client.run(["image", "inspect", &name]).json()[0];
        assert_eq!(inspected["Id"].as_str(), Some(id.as_str()));
        assert_eq!((&inspected["Author"], &inspected["Comment"]), (&"me".into(), &"as it ran".into()));
        assert_eq!(
            (&inspected["Config"]["User"], &inspected["Config"]["Cmd"][0]),
            (&"nobody".into(), &"sh".into())
        );
        assert!(inspected["Config"]["Env"].to_string().contains("B=/"), "{inspected}");
        assert_eq!(inspected["RootFS"]["Layers"].as_array().map(Vec::len), Some(2));
        let history = client.run(["history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", &name]);
        history.prints("sh -c ").prints("|as it ran");

        let expected =
            client.run(["exec", "source", "sh", "-c", &SHOW.replace("id -un", "echo nobody")]).text();
        client.run(["rm", "-f", "source"]).exits_with(0);
        running.ends().exits_with(137);
        client.run(["push", "--quiet", &name]).exits_with(0);
        client.run(["rmi", &name]).exits_with(0);
        client.run(["pull", "--quiet", &name]).exits_with(0);
        client.run(["run", "--rm", &name, "sh", "-c", SHOW]).exits_with(0).prints_exactly(&expected);
        assert!(expected.contains("/su 4755 2 0:0\n/su2 4755 2 0:0\n/var/new 755 2 7:8\n"), "{expected}");
        keeps_the_capability(&host, &client, &name);
        client.run(["rmi", &name]).exits_with(0);
    }
    host.has_a_sound_store();
}

#[test]
fn a_committed_image_lives_without_its_parent() {
    let Some(host) = Host::start() else { return };
    let client = host.clients().remove(0);
    client
        .run(["run", "--name", "source", "--label", "own=1", "busybox", "sh", "-c", "echo kept > /file"])
        .exits_with(0);
    client.run(["commit", "--change", "CMD [\"cat\", \"/file\"]", "source", "child"]).exits_with(0);
    client.run(["run", "--name", "second", "child"]).exits_with(0).prints_exactly("kept");
    client.run(["rmi", "busybox"]).exits_with(1).complains("container");
    client.run(["rm", "source"]).exits_with(0);
    client.run(["rmi", "busybox"]).exits_with(0).prints("Untagged: busybox:latest");
    client.run(["rmi", "child"]).exits_with(1).complains("container");
    // Nothing was changed: a step without a layer. The name moves, and the container keeps its image.
    let before = client.run(["image", "inspect", "child"]).json()[0]["RootFS"]["Layers"].clone();
    client.run(["commit", "second", "child"]).exits_with(0);
    assert_eq!(client.run(["image", "inspect", "child"]).json()[0]["RootFS"]["Layers"], before);
    client.run(["image", "prune", "--force"]).exits_with(0);
    client.run(["start", "--attach", "second"]).exits_with(0).prints_exactly("kept");
    client.run(["rm", "second"]).exits_with(0);
    client.run(["image", "prune", "--force"]).exits_with(0).prints("deleted: sha256:");
    let archive = host.path("child.tar").to_string_lossy().into_owned();
    client.run(["save", "--output", &archive, "child"]).exits_with(0);
    client.run(["rmi", "child"]).exits_with(0);
    client.run(["load", "--input", &archive]).exits_with(0);
    client.run(["run", "--rm", "child"]).exits_with(0).prints_exactly("kept");
    client.run(["image", "inspect", "--format", "{{.Config.Labels.own}}", "child"]).prints_exactly("1");
    host.has_a_sound_store();
}

#[test]
fn a_commit_stands_still_for_as_long_as_it_reads_and_no_longer() {
    let Some(mut host) = Host::start() else { return };
    let client = host.berth();
    let write = "dd if=/dev/urandom of=/big bs=1M count=48 2>/dev/null; echo ready; sleep 1000";
    let mut running = client.spawn(["run", "--name", "source", "busybox", "sh", "-c", write]);
    assert_eq!(running.line(), "ready");
    client.run(["commit", "--pause=false", "source", "moving"]).exits_with(0);
    assert_eq!(actions(&client), "commit");
    client.run(["commit", "source", "still"]).exits_with(0);
    assert_eq!(actions(&client), "commit pause unpause commit");
    client.run(["pause", "source"]).exits_with(0);
    client.run(["commit", "source"]).exits_with(0);
    client.run(["inspect", "--format", STATE, "source"]).prints_exactly("paused");
    client.run(["unpause", "source"]).exits_with(0);
    client.run(["rmi", "moving", "still"]).exits_with(0);
    client.run(["image", "prune", "--force"]).exits_with(0);

    let committing = client.spawn(["commit", "source", "half"]);
    eventually("the container stands still", || {
        client.run(["inspect", "--format", STATE, "source"]).text() == "paused"
    });
    host.kill_daemon();
    drop((committing, running));
    host.start_daemon();
    eventually("it goes on", || client.run(["inspect", "--format", STATE, "source"]).text() == "running");
    client.run(["exec", "source", "true"]).exits_with(0);
    client.run(["images", "--quiet", "half"]).prints_exactly("");
    client.run(["rm", "-f", "source"]).exits_with(0);
    host.has_a_sound_store();
}

fn actions(client: &Client) -> String {
    let events =
        ["events", "--since", "1h", "--until", "0s", "--filter", "type=container", "--format", "{{.Action}}"];
    let events = client.run(events).exits_with(0).stdout;
    let of_commits = events.lines().filter(|action| ["commit", "pause", "unpause"].contains(action));
    of_commits.collect::<Vec<_>>().join(" ")
}

fn then_sleep(script: &str) -> String {
    format!("{script}; sleep 1000")
}

/// The image `capable`: busybox with a file that has an attribute, which no program of busybox could give it.
fn import_with_a_capability(host: &Host) {
    let berth = host.berth();
    berth.run(["create", "--name", "plain", "busybox", "true"]).exits_with(0);
    let mut archive = export(host, &berth, "plain");
    berth.run(["rm", "plain"]).exits_with(0);
    // Before the two empty blocks at its end.
    archive.truncate(archive.len() - 1024);
    let mut builder = tar::Builder::new(archive);
    builder.append_pax_extensions([("SCHILY.xattr.security.capability", CAPABILITY)]).expect("a Vec grows");
    let mut header = tar::Header::new_ustar();
    header.set_size(3);
    header.set_mode(0o755);
    builder.append_data(&mut header, "capable", &b"yes"[..]).expect("a Vec grows");
    let archive = builder.into_inner().expect("a Vec grows");
    let import = ["import", "--change", "CMD [\"sh\"]", "--change", "ENV PATH=/bin", "-", "capable"];
    berth.run_with_input(import, &archive).exits_with(0);
}

fn keeps_the_capability(host: &Host, client: &Client, image: &str) {
    client.run(["create", "--name", "committed", image]).exits_with(0);
    let archive = export(host, client, "committed");
    client.run(["rm", "committed"]).exits_with(0);
    let mut archive = tar::Archive::new(archive.as_slice());
    let mut entries = archive.entries().expect("an archive").map(|entry| entry.expect("an entry"));
    let mut capable = entries.find(|entry| &*entry.path_bytes() == b"capable").expect("the file");
    let records = capable.pax_extensions().expect("records").expect("there are some");
    let mut records = records.map(|record| record.expect("a record"));
    let capability = records.find(|record| record.key_bytes() == b"SCHILY.xattr.security.capability");
    assert_eq!(capability.expect("the attribute").value_bytes(), CAPABILITY);
}

fn export(host: &Host, client: &Client, container: &str) -> Vec<u8> {
    let path = host.path("exported.tar").to_string_lossy().into_owned();
    client.run(["export", "--output", &path, container]).exits_with(0);
    std::fs::read(&path).expect("an archive")
}
