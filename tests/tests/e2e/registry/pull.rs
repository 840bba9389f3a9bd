//! Pulling what is in order: by every kind of name, by both clients, once.

use std::time::Duration;

use berth_tests::made_image::{MadeImage, MadeIndex, noise_layer};
use berth_tests::registry::Relay;
use berth_tests::{Client, Host};

use super::{fill, fill_with, host_and_registry, noise, tiny};

/// The ids of all images.
fn ids(client: &Client) -> Vec<String> {
    let listed = client.run(["images", "--all", "--quiet", "--no-trunc"]).exits_with(0).text();
    let mut ids: Vec<String> = listed.lines().map(str::to_owned).collect();
    ids.sort();
    ids.dedup();
    ids
}

#[test]
fn by_tag_and_by_digest_and_again() {
    let Some((host, registry, skopeo)) = host_and_registry() else { return };
    let image = noise(1, 3);
    fill_with(&skopeo, &image, &registry.image("some/where:first"));
    let name = registry.image("some/where");
    let digest = image.manifest.digest();
    for client in host.clients() {
        let pulled = client.run(["pull", &format!("{name}:first")]).exits_with(0);
        let downloaded = format!("Status: Downloaded newer image for {name}:first");
        pulled.prints(&format!("Digest: {digest}")).prints(&downloaded).prints("Pull complete");
        assert_eq!(ids(&client), [image.config.digest()]);
        let inspected = &client.run(["image", "inspect", &format!("{name}:first")]).exits_with(0).json()[0];
        assert_eq!(inspected["RepoTags"][0], format!("{name}:first"));
        assert_eq!(inspected["RepoDigests"][0], format!("{name}@{digest}"));

        let again = client.run(["pull", &format!("{name}:first")]).exits_with(0);
        again.prints(&format!("Status: Image is up to date for {name}:first"));
        let quiet = client.run(["pull", "--quiet", &format!("{name}:first")]).exits_with(0);
        quiet.prints_exactly(&format!("{name}:first"));
        client.run(["rmi", &format!("{name}:first")]).exits_with(0);
        assert!(ids(&client).is_empty());

        client.run(["pull", &format!("{name}@{digest}")]).exits_with(0);
        let inspected =
            &client.run(["image", "inspect", &format!("{name}@{digest}")]).exits_with(0).json()[0];
        assert_eq!(inspected["RepoTags"].as_array().map_or(0, Vec::len), 0, "{inspected}");
        client.run(["rmi", &format!("{name}@{digest}")]).exits_with(0);
        assert!(ids(&client).is_empty());
    }
    host.has_a_sound_store();
}

#[test]
fn by_platform_out_of_an_index() {
    let Some((host, registry, skopeo)) = host_and_registry() else { return };
    let directory = tempfile::tempdir().unwrap();
    let common = noise_layer(1, 2, 50_000);
    let image = |architecture, seed| {
        MadeImage::for_architecture(architecture, &[common.clone(), noise_layer(seed, 1, 50_000)])
    };
    let index = MadeIndex::of(vec![("arm64", image("arm64", 2)), ("amd64", image("amd64", 3))]);
    let archive = directory.path().join("index.tar");
    index.write_archive(&archive, "several:latest");
    let name = registry.image("several:latest");
    fill(&skopeo, archive.to_str().unwrap(), &name);
    assert_eq!(skopeo.raw_manifest(&name).as_bytes(), index.index.content);
    for client in host.clients() {
        let pulled = client.run(["pull", &name]).exits_with(0);
        // Docker names the digest that the tag leads to, which is the index's.
        pulled.prints(&format!("Digest: {}", index.index.digest()));
        assert_eq!(ids(&client), [index.images[1].config.digest()]);
        client.run(["pull", "--platform", "linux/arm64", &name]).exits_with(0);
        let inspected = &client.run(["image", "inspect", &name]).exits_with(0).json()[0];
        assert_eq!(inspected["Architecture"], "arm64");
        let refused = client.run(["pull", "--platform", "linux/s390x", &name]).exits_with(1);
        refused.complains("no matching manifest for linux/s390x");
        for id in ids(&client) {
            client.run(["rmi", "--force", &id]).exits_with(0);
        }
    }
    host.has_a_sound_store();
}

#[test]
fn all_tags_of_a_repository() {
    let Some((host, registry, skopeo)) = host_and_registry() else { return };
    let tags = ["one", "two", "three"];
    for tag in tags {
        fill_with(&skopeo, &tiny(tag), &registry.image(&format!("many:{tag}")));
    }
    for client in host.clients() {
        client.run(["pull", "--all-tags", &registry.image("many")]).exits_with(0);
        assert_eq!(ids(&client).len(), 3);
        for tag in tags {
            client.run(["rmi", &registry.image(&format!("many:{tag}"))]).exits_with(0);
        }
    }
}

#[test]
fn what_is_not_there() {
    let Some((host, registry, skopeo)) = host_and_registry() else { return };
    fill_with(&skopeo, &tiny("here"), &registry.image("here:latest"));
    for client in host.clients() {
        for image in ["here:gone", "nosuch:latest"] {
            let name = registry.image(image);
            let refused = client.run(["pull", &name]).exits_with(1);
            assert!(
                refused.stderr.contains("not found") || refused.stderr.contains("manifest unknown"),
                "{refused:?}"
            );
        }
        let unreachable = client.run(["pull", "127.0.0.1:1/nobody:listens"]).exits_with(1);
        unreachable.complains("refused");
        assert!(ids(&client).is_empty());
    }
}

#[test]
fn a_layer_is_fetched_once_whoever_wants_it() {
    let Some((host, registry, skopeo)) = host_and_registry() else { return };
    // Two images that have one layer in common, on a line that is so slow that they meet.
    let common = noise_layer(1, 4, 250_000);
    let image = |seed| MadeImage::of_layers(&[common.clone(), noise_layer(seed, 1, 10_000)]);
    let relay = Relay::to(&registry.address());
    for (seed, tag) in [(2, "one"), (3, "other")] {
        fill_with(&skopeo, &image(seed), &registry.image(&format!("shared:{tag}")));
    }
    relay.limit(1_000_000);
    let client = host.berth();
    let pulls =
        ["one", "other", "one"].map(|tag| client.spawn(["pull", &relay.image(&format!("shared:{tag}"))]));
    for pull in pulls {
        pull.ends().exits_with(0);
    }
    let received_bytes = relay.received_bytes();
    assert!(received_bytes < 1_400_000, "{received_bytes} bytes for a layer of 1,000,000");
    assert_eq!(ids(&client).len(), 2);
    host.has_a_sound_store();
}

#[test]
fn a_pull_whose_client_goes_away_can_be_repeated() {
    let Some((host, registry, skopeo)) = host_and_registry() else { return };
    fill_with(&skopeo, &noise(1, 4), &registry.image("left:latest"));
    let relay = Relay::to(&registry.address());
    relay.limit(500_000);
    let client = host.berth();
    let pull = client.spawn(["pull", &relay.image("left:latest")]);
    berth_tests::eventually("it comes", || relay.received_bytes() > 100_000);
    drop(pull);
    std::thread::sleep(Duration::from_millis(500));
    let stopped_at = relay.received_bytes();
    std::thread::sleep(Duration::from_secs(1));
    assert!(relay.received_bytes() < stopped_at + 200_000, "nobody waits for it, and it goes on");
    relay.limit(0);
    client.run(["pull", &relay.image("left:latest")]).exits_with(0);
    host.has_a_sound_store();
}

#[test]
fn images_are_removed_while_others_are_pulled() {
    let Some((host, registry, skopeo)) = host_and_registry() else { return };
    let common = noise_layer(1, 4, 100_000);
    let image = |seed| MadeImage::of_layers(&[common.clone(), noise_layer(seed, 2, 100_000)]);
    let relay = Relay::to(&registry.address());
    for seed in 2..6 {
        fill_with(&skopeo, &image(seed), &registry.image(&format!("busy:{seed}")));
    }
    let client = host.berth();
    client.run(["pull", &registry.image("busy:2")]).exits_with(0);
    // Slow enough for everything that follows to happen before the end.
    relay.limit(100_000);
    for seed in 3..6 {
        let pull = client.spawn(["pull", &relay.image(&format!("busy:{seed}"))]);
        // The last image with the common layer goes while another that has it comes.
        std::thread::sleep(Duration::from_millis(60 * seed));
        for id in ids(&client) {
            client.run(["rmi", "--force", &id]).exits_with(0);
        }
        client.run(["image", "prune", "--all", "--force"]).exits_with(0);
        pull.ends().exits_with(0);
        assert_eq!(ids(&client), [image(seed).config.digest()]);
        host.has_a_sound_store();
    }
}

/// The largest story: hundreds of directories, thousands of files, setuid programs, and a machine on top of it.
#[test]
fn a_whole_debian_runs() {
    let Some((host, registry, skopeo)) = host_and_registry() else { return };
    let Some(gzip) = host.large_image_archive("debian") else { return };
    let Some(zstd) = host.large_image_archive("debian-zstd") else { return };
    fill(&skopeo, &gzip, &registry.image("debian:gzip"));
    fill(&skopeo, &zstd, &registry.image("debian:zstd"));
    let name = registry.image("debian:gzip");
    let client = host.berth();
    client.run(["pull", &name]).exits_with(0).prints("Downloaded newer image");
    // The other is the same after decompression, so it is the same image.
    client.run(["pull", &registry.image("debian:zstd")]).exits_with(0);
    assert_eq!(ids(&client).len(), 1);
    looks_like_debian(&host, &name);
    client.run(["rmi", &name, &registry.image("debian:zstd")]).exits_with(0);
    let Some(docker) = host.docker() else { return };
    docker.run(["pull", "--quiet", &registry.image("debian:zstd")]).exits_with(0);
    host.has_a_sound_store();
}

fn looks_like_debian(host: &Host, name: &str) {
    let script = "stat -c %A:%U:%G /usr/bin/passwd && dpkg --verify && cat /etc/os-release && find / -xdev -type f | wc -l";
    let said = host.berth().run(["run", "--rm", name, "sh", "-c", script]).exits_with(0);
    let lines: Vec<&str> = said.stdout.lines().collect();
    // dpkg has nothing to say where every file is as it was packed.
    assert_eq!(lines[0], "-rwsr-xr-x:root:root", "{said:?}");
    assert!(lines[1].starts_with("PRETTY_NAME=\"Debian"), "{said:?}");
    let files: usize = lines.last().and_then(|count| count.trim().parse().ok()).expect("wc counts");
    assert!(files > 5000, "{files} files");
}

#[test]
fn ten_layers_are_one_file_system() {
    let Some((host, registry, skopeo)) = host_and_registry() else { return };
    let Some(archive) = host.large_image_archive("layered") else { return };
    let name = registry.image("layered:latest");
    fill(&skopeo, &archive, &name);
    let client = host.berth();
    let pulled = client.run(["pull", &name]).exits_with(0);
    assert_eq!(pulled.stdout.matches("Pull complete").count(), 10, "{pulled:?}");
    let script = "ls data/1; cat data/2/file-1; echo; ls data/2/file-2 || cat data/9/elsewhere | wc -c; \
                  cmp data/9/same data/9/file-0 && echo same";
    let said = client.run(["run", "--rm", &name, "sh", "-c", script]).exits_with(0);
    said.prints_exactly("only\nreplaced by 5\n200000\nsame");
    host.has_a_sound_store();
}
