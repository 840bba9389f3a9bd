//! The image store through both clients: names, archives, what is removed and what stays, events, and the check of it
//! all. No machine is needed for any of it.

use berth_tests::{Client, Host};

fn loaded(host: &Host, client: &Client) {
    client.run(["load", "-q", "-i", &host.image_archive("busybox")]).exits_with(0);
}

fn ids(client: &Client) -> String {
    client.run(["images", "-q", "--no-trunc"]).exits_with(0).text()
}

#[test]
fn what_is_saved_here_is_the_same_image_elsewhere() {
    let (Some(host), Some(other)) = (Host::empty(), Host::empty()) else { return };
    for (client, receiver) in host.clients().iter().zip(other.clients()) {
        loaded(&host, client);
        client.run(["tag", "busybox", "localhost:5000/team/box:1"]).exits_with(0);
        let archive = host.path("saved.tar").display().to_string();
        client.run(["save", "-o", &archive, "busybox", "localhost:5000/team/box:1"]).exits_with(0);
        let again = client.run(["save", "busybox", "localhost:5000/team/box:1"]).exits_with(0);
        let saved = std::fs::read(&archive).unwrap();
        assert!(again.text() == String::from_utf8_lossy(&saved).trim(), "the same images, the same bytes");
        let load = receiver.run(["load", "-i", &archive]).exits_with(0);
        load.prints("Loaded image: busybox:latest").prints("Loaded image: localhost:5000/team/box:1");
        assert_eq!(ids(&receiver), ids(client));
        std::fs::remove_file(&archive).unwrap();
    }
    other.has_a_sound_store();
}

#[test]
fn an_image_that_a_container_needs_stays_until_it_goes() {
    let Some(host) = Host::empty() else { return };
    for client in host.clients() {
        loaded(&host, &client);
        client.run(["create", "--name", "user", "busybox", "true"]).exits_with(0);
        client
            .run(["rmi", "busybox"])
            .exits_with(1)
            .complains("conflict: unable to remove repository reference");
        client.run(["rmi", "-f", "busybox"]).exits_with(0).prints("Untagged: busybox:latest");
        client.run(["image", "prune", "-f"]).exits_with(0).prints("Total reclaimed space: 0B");
        client.run(["rm", "user"]).exits_with(0);
        client.run(["image", "prune", "-f"]).exits_with(0).prints("deleted: sha256:");
        client.run(["images", "-q"]).prints_exactly("");
    }
    host.has_a_sound_store();
}

#[test]
fn an_imported_file_system_runs_as_its_changes_say() {
    let Some(host) = Host::empty() else { return };
    for client in host.clients() {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        header.set_mode(0o644);
        archive.append_data(&mut header, "etc/word", &b"value"[..]).unwrap();
        let archive = archive.into_inner().unwrap();
        let change = ["-c", "CMD [\"cat\", \"/etc/word\"]", "-c", "LABEL made=by-import"];
        let arguments = [&["import", "-m", "from a test"], &change[..], &["-", "mine:1"]].concat();
        client.run_with_input(arguments, &archive).exits_with(0).prints("sha256:");
        let format = "{{json .Config.Cmd}} {{.Comment}} {{.Config.Labels.made}}";
        let shown = client.run(["inspect", "-f", format, "mine:1"]).exits_with(0);
        shown.prints_exactly("[\"cat\",\"/etc/word\"] from a test by-import");
        client
            .run(["history", "--format", "{{.Comment}} {{.Size}}", "mine:1"])
            .prints_exactly("from a test 5B");
        client.run(["rmi", "mine:1"]).exits_with(0);
    }
}

#[test]
fn events_tell_what_was_done_to_images_and_containers() {
    let Some(host) = Host::empty() else { return };
    for (number, client) in host.clients().iter().enumerate() {
        let name = format!("told{number}");
        let format = "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}";
        let mut heard =
            client.spawn(["events", "--format", format, "--filter", "event=tag", "--filter", "event=create"]);
        loaded(&host, client);
        // The client listens some moments after it has started: what it misses is said again.
        client.run(["tag", "busybox", "story:0"]).exits_with(0);
        std::thread::sleep(std::time::Duration::from_millis(500));
        client.run(["tag", "busybox", "story:1"]).exits_with(0);
        let line = heard.line();
        assert!(line.starts_with("image tag story:"), "{line}");
        client.run(["create", "--name", &name, "busybox", "true"]).exits_with(0);
        let next =
            std::iter::repeat_with(|| heard.line()).find(|line| line.starts_with("container")).unwrap();
        assert_eq!(next.trim(), format!("container create {name}"));
        client.run(["rm", &name]).exits_with(0);
        // docker's client rounds the end down to whole seconds.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let past = [
            "events",
            "--since",
            "1h",
            "--until",
            "0s",
            "--filter",
            &format!("container={name}"),
            "--format",
            "{{.Action}}",
        ];
        client.run(past).exits_with(0).prints_exactly("create\ndestroy");
        client.run(["rmi", "busybox", "story:0", "story:1"]).exits_with(0);
    }
}

#[test]
fn a_store_whose_files_were_damaged_is_repaired() {
    let Some(host) = Host::empty() else { return };
    let berth = host.berth();
    loaded(&host, &berth);
    let layers = host.path("data/image/layers");
    let layer = std::fs::read_dir(&layers).unwrap().next().unwrap().unwrap().path();
    let data = std::fs::read(layer.join("data")).unwrap();
    std::fs::write(layer.join("data"), &data[..data.len() - 4096]).unwrap();
    berth.run(["system", "check"]).exits_with(1).prints("busybox:latest");
    berth.run(["system", "check", "--repair"]).exits_with(0).prints("Repaired:");
    assert!(std::fs::read(layer.join("data")).unwrap() == data);
    host.has_a_sound_store();
    for client in host.clients() {
        client.run(["system", "df"]).exits_with(0).prints("Images").prints("Containers");
    }
}
