//! Images and containers in archives: what we write others read, what they write we read.

use std::path::Path;

use berth_tests::made_image::{MadeImage, noise_layer};
use berth_tests::registry::Registry;
use berth_tests::{Client, Host, Skopeo};

fn id(client: &Client, image: &str) -> String {
    let inspected = client.run(["image", "inspect", image]).exits_with(0).json();
    inspected[0]["Id"].as_str().expect("an image has an id").to_owned()
}

fn forget_everything(client: &Client) {
    client.run(["image", "prune", "--all", "--force"]).exits_with(0);
    client.run(["images", "--all", "--quiet"]).prints_exactly("");
}

#[test]
fn what_is_saved_is_read_by_skopeo_and_by_us() {
    let Some(host) = Host::start() else { return };
    let Some(skopeo) = Skopeo::find() else { return };
    for client in host.clients() {
        let ids = ["busybox", "hello-world"].map(|image| id(&client, image));
        let (one, both) = (host.path("one.tar"), host.path("both.tar"));
        let paths = [&one, &both].map(|path| path.to_string_lossy().into_owned());
        client.run(["save", "--output", &paths[0], "busybox"]).exits_with(0);
        client.run(["save", "--output", &paths[1], "busybox", "hello-world"]).exits_with(0);
        for (transport, name) in [("docker-archive", ":busybox:latest"), ("oci-archive", "")] {
            let inspected = skopeo.run(["inspect", "--config", &format!("{transport}:{}{name}", paths[0])]);
            assert_eq!(inspected.exits_with(0).json()["config"]["Cmd"][0], "sh", "{transport}");
            let copied = host.path("copied");
            skopeo.copy(&format!("{transport}:{}{name}", paths[0]), &format!("dir:{}", copied.display()));
            assert!(has_blob(&copied, &ids[0]), "{transport}: skopeo finds another image");
            std::fs::remove_dir_all(copied).unwrap();
        }
        let again = host.path("again.tar");
        client.run(["save", "-o", &again.to_string_lossy(), "busybox", "hello-world"]).exits_with(0);
        assert_eq!(std::fs::read(&again).unwrap(), std::fs::read(&both).unwrap(), "not the same bytes");

        forget_everything(&client);
        let loaded = client.run(["load", "--input", &paths[1]]).exits_with(0);
        loaded.prints("Loaded image: busybox:latest").prints("Loaded image: hello-world:latest");
        assert_eq!(["busybox", "hello-world"].map(|image| id(&client, image)), ids);
    }
    host.berth().run(["run", "--rm", "busybox", "echo", "back"]).exits_with(0).prints_exactly("back");
    host.has_a_sound_store();
}

/// Whether skopeo's directory has what that digest names.
fn has_blob(directory: &Path, digest: &str) -> bool {
    directory.join(digest.trim_start_matches("sha256:")).exists()
}

#[test]
fn what_skopeo_writes_is_loaded() {
    let (Some(host), Some(registry), Some(skopeo)) = (Host::empty(), Registry::plain(), Skopeo::find())
    else {
        return;
    };
    let image = MadeImage::of_layers(&[noise_layer(1, 2, 50_000), noise_layer(2, 2, 50_000)]);
    let made = host.path("made.tar");
    image.write_archive(&made, "made:latest");
    let source = format!("docker://{}", registry.image("made:latest"));
    skopeo.copy(&format!("oci-archive:{}", made.display()), &source);
    for client in host.clients() {
        for (transport, name) in [("docker-archive", ":given:one"), ("oci-archive", ":given:one")] {
            let path = host.path(&format!("{}-{transport}.tar", client.name));
            // skopeo would keep the list and nothing else with `--all`.
            let to = format!("{transport}:{}{name}", path.display());
            skopeo.run(["copy", "--quiet", "--src-tls-verify=false", &source, &to]).exits_with(0);
            client.run(["load", "--input", &path.to_string_lossy()]).exits_with(0);
            // The id is the config's digest, which no transport changes.
            let ids = client.run(["images", "--all", "--quiet", "--no-trunc"]).text();
            assert_eq!(ids, image.config.digest(), "{transport}");
            client.run(["rmi", "--force", &ids]).exits_with(0);
        }
    }
    host.has_a_sound_store();
}

#[test]
fn a_saved_image_keeps_the_digest_that_it_was_pulled_with() {
    let (Some(host), Some(registry), Some(skopeo)) = (Host::empty(), Registry::plain(), Skopeo::find())
    else {
        return;
    };
    let image = MadeImage::of_layers(&[noise_layer(1, 2, 50_000), noise_layer(2, 2, 50_000)]);
    let made = host.path("made.tar");
    image.write_archive(&made, "made:latest");
    let (name, target) = (registry.image("made:latest"), registry.image("loaded:latest"));
    skopeo.copy(&format!("oci-archive:{}", made.display()), &format!("docker://{name}"));
    let saved = host.path("saved.tar").to_string_lossy().into_owned();
    for client in host.clients() {
        client.run(["pull", &name]).exits_with(0);
        client.run(["save", "--output", &saved, &name]).exits_with(0);
        forget_everything(&client);
        client.run(["load", "--input", &saved]).exits_with(0);
        client.run(["tag", &name, &target]).exits_with(0);
        client.run(["push", &target]).exits_with(0);
        assert_eq!(skopeo.raw_manifest(&target).as_bytes(), image.manifest.content);
        client.run(["rmi", &name, &target]).exits_with(0);
    }
}
