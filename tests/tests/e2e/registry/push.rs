//! Pushing: by everybody, exactly, and no more than is missing.

use berth_tests::made_image::{MadeImage, MadeIndex, noise_layer};
use berth_tests::registry::{Registry, Relay};
use berth_tests::{Client, Host};

use super::{fill, fill_with, host_and_registry, noise};

#[test]
fn an_image_that_was_loaded_arrives_and_runs() {
    let Some((host, registry, skopeo)) = host_and_registry() else { return };
    let archive = host.image_archive("busybox");
    for client in host.clients() {
        let name = registry.image(&format!("from/{}:one", client.name));
        client.run(["load", "--quiet", "--input", &archive]).exits_with(0);
        client.run(["tag", "busybox", &name]).exits_with(0);
        let pushed = client.run(["push", &name]).exits_with(0);
        let digest = digest_said(&pushed.stdout);
        pushed.prints("The push refers to repository").prints("one: digest: sha256:");
        let manifest = skopeo.manifest(&name);
        assert_eq!(manifest["layers"].as_array().map(Vec::len), Some(1), "{manifest}");
        assert_eq!(digest, berth_tests::made_image::digest(skopeo.raw_manifest(&name).as_bytes()));
        let inspected = &client.run(["image", "inspect", "busybox"]).json()[0];
        assert_eq!(inspected["Id"], manifest["config"]["digest"]);
        client.run(["rmi", "busybox", &name]).exits_with(0);

        client.run(["pull", &name]).exits_with(0).prints(&digest);
        assert_eq!(client.run(["image", "inspect", &name]).json()[0]["Id"], manifest["config"]["digest"]);
    }
    let name = registry.image("from/berth:one");
    host.berth().run(["run", "--rm", &name, "echo", "back again"]).exits_with(0).prints_exactly("back again");
}

/// Of the last line of a push, as Docker prints it: `TAG: digest: DIGEST size: SIZE`.
fn digest_said(text: &str) -> String {
    let line = text.lines().find(|line| line.contains(": digest: ")).expect("a push says its digest");
    line.split_whitespace().find(|word| word.starts_with("sha256:")).expect("a digest").to_owned()
}

#[test]
fn what_was_pulled_is_pushed_elsewhere_byte_by_byte() {
    let Some((host, registry, skopeo)) = host_and_registry() else { return };
    let Some(other) = Registry::plain() else { return };
    let Some(layered) = host.large_image_archive("layered") else { return };
    let (from, made) = (registry.image("moved:latest"), registry.image("made:latest"));
    fill(&skopeo, &layered, &from);
    fill_with(&skopeo, &noise(1, 2), &made);
    for client in host.clients() {
        for source in [&from, &made] {
            let name = source.rsplit_once('/').unwrap().1;
            let target = other.image(&format!("{}/{name}", client.name));
            client.run(["pull", "--quiet", source]).exits_with(0);
            client.run(["tag", source, &target]).exits_with(0);
            client.run(["push", "--quiet", &target]).exits_with(0);
            assert_eq!(skopeo.raw_manifest(&target), skopeo.raw_manifest(source));
            let repository = target.rsplit_once(':').unwrap().0;
            let digests = &client.run(["image", "inspect", &target]).json()[0]["RepoDigests"];
            let has = digests
                .as_array()
                .unwrap()
                .iter()
                .any(|digest| digest.as_str().unwrap().starts_with(repository));
            assert!(has, "{repository} in {digests}");
            client.run(["rmi", source, &target]).exits_with(0);
        }
    }
    // Not only the manifests: skopeo fetches and checks every blob.
    let directory = tempfile::tempdir().unwrap();
    let to = format!("dir:{}", directory.path().display());
    skopeo.copy(&format!("docker://{}", other.image("berth/moved:latest")), &to);
}

#[test]
fn one_platform_of_an_index_keeps_its_digest() {
    let Some((host, registry, skopeo)) = host_and_registry() else { return };
    let directory = tempfile::tempdir().unwrap();
    let image =
        |architecture, seed| MadeImage::for_architecture(architecture, &[noise_layer(seed, 1, 50_000)]);
    let index = MadeIndex::of(vec![("arm64", image("arm64", 2)), ("amd64", image("amd64", 3))]);
    let archive = directory.path().join("index.tar");
    index.write_archive(&archive, "several:latest");
    let name = registry.image("several:latest");
    fill(&skopeo, archive.to_str().unwrap(), &name);
    let client = host.berth();
    client.run(["pull", &name]).exits_with(0);
    let target = registry.image("mine:latest");
    client.run(["tag", &name, &target]).exits_with(0);
    client.run(["push", &target]).exits_with(0);
    // Only one of its images is here, so the whole index cannot be pushed.
    assert_eq!(skopeo.raw_manifest(&target).as_bytes(), index.images[1].manifest.content);
}

#[test]
fn what_a_registry_has_is_not_sent_again() {
    let Some((host, registry, skopeo)) = host_and_registry() else { return };
    let image = noise(1, 3);
    let size_bytes: u64 = image.layers.iter().map(|layer| layer.content.len() as u64).sum();
    let relay = Relay::to(&registry.address());
    fill_with(&skopeo, &image, &registry.image("known:latest"));
    for client in host.clients() {
        let known = relay.image("known:latest");
        client.run(["pull", &known]).exits_with(0);
        let sent = |to: &str, said: &str| {
            let before = relay.sent_bytes();
            client.run(["tag", &known, to]).exits_with(0);
            client.run(["push", to]).exits_with(0).prints(said);
            relay.sent_bytes() - before
        };
        let again = sent(&relay.image("known:again"), "Layer already exists");
        assert!(again < size_bytes / 10, "{again} bytes for a tag");
        let mounted = sent(&relay.image(&format!("other/{}:latest", client.name)), "Mounted from ");
        assert!(mounted < size_bytes / 10, "{mounted} bytes for another repository of the same registry");
        remove_all(&client);
    }
}

fn remove_all(client: &Client) {
    let ids = client.run(["images", "--quiet", "--no-trunc"]).text();
    let ids: std::collections::BTreeSet<&str> = ids.lines().collect();
    client.run(["rmi", "--force"].into_iter().chain(ids)).exits_with(0);
}

#[test]
fn all_tags_of_a_repository_and_what_is_not_there() {
    let Some((host, registry, skopeo)) = host_and_registry() else { return };
    for client in host.clients() {
        let repository = registry.image(&format!("tags/{}", client.name));
        client.run(["load", "--quiet", "--input", &host.image_archive("hello-world")]).exits_with(0);
        for tag in ["one", "two"] {
            client.run(["tag", "hello-world", &format!("{repository}:{tag}")]).exits_with(0);
        }
        client.run(["push", "--all-tags", &repository]).exits_with(0);
        let tags = skopeo.run(["list-tags", "--tls-verify=false", &format!("docker://{repository}")]).json();
        assert_eq!(tags["Tags"].as_array().map(Vec::len), Some(2), "{tags}");
        let missing = client.run(["push", &registry.image("no/such:image")]).exits_with(1);
        missing.complains("An image does not exist locally with the tag");
    }
}

#[test]
fn a_registry_is_asked_about_an_image_without_pulling_it() {
    let Some((host, registry, skopeo)) = host_and_registry() else { return };
    let image = noise(1, 2);
    fill_with(&skopeo, &image, &registry.image("far:latest"));
    let inspected = host.berth().run(["manifest", "inspect", &registry.image("far:latest")]).exits_with(0);
    assert_eq!(inspected.json()["config"]["digest"], image.config.digest());
    assert_eq!(image_count(&host), 0);
}

fn image_count(host: &Host) -> usize {
    host.berth().run(["images", "--quiet"]).text().lines().count()
}
