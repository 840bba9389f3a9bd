//! Registries and lines that break: what arrived stays, the rest is asked for again.

use berth_tests::eventually;
use berth_tests::registry::Relay;

use super::{fill_with, host_and_registry, noise};

#[test]
fn a_transfer_that_breaks_is_resumed_where_it_broke() {
    let Some((host, registry, skopeo)) = host_and_registry() else { return };
    let image = noise(1, 2);
    let size_bytes: u64 = image.layers.iter().map(|layer| layer.content.len() as u64).sum();
    fill_with(&skopeo, &image, &registry.image("broken:latest"));
    let relay = Relay::to(&registry.address());
    relay.cut(150_000, 4);
    let client = host.berth();
    client.run(["pull", &relay.image("broken:latest")]).exits_with(0);
    assert_eq!(relay.cuts_left(), 0, "the line was not bad enough");
    let received_bytes = relay.received_bytes();
    assert!(
        received_bytes < size_bytes * 5 / 4,
        "{received_bytes} bytes for {size_bytes}: nothing was resumed"
    );
    host.has_a_sound_store();
}

#[test]
fn a_registry_that_is_restarted_meanwhile_is_waited_for() {
    let Some((host, mut registry, skopeo)) = host_and_registry() else { return };
    fill_with(&skopeo, &noise(1, 3), &registry.image("restarted:latest"));
    let relay = Relay::to(&registry.address());
    relay.limit(400_000);
    let client = host.berth();
    let pull = client.spawn(["pull", &relay.image("restarted:latest")]);
    eventually("it comes", || relay.received_bytes() > 200_000);
    registry.stop();
    std::thread::sleep(std::time::Duration::from_millis(300));
    registry.start();
    relay.limit(0);
    pull.ends().exits_with(0);
    host.has_a_sound_store();
}

#[test]
fn an_upload_that_breaks_is_finished() {
    let Some((host, mut registry, skopeo)) = host_and_registry() else { return };
    let image = noise(1, 3);
    fill_with(&skopeo, &image, &registry.image("source:latest"));
    let client = host.berth();
    client.run(["pull", "--quiet", &registry.image("source:latest")]).exits_with(0);
    let Some(other) = berth_tests::registry::Registry::plain() else { return };
    let relay = Relay::to(&other.address());
    relay.limit(400_000);
    let target = relay.image("target:latest");
    client.run(["tag", &registry.image("source:latest"), &target]).exits_with(0);
    registry.stop();
    let push = client.spawn(["push", &target]);
    eventually("it goes", || relay.sent_bytes() > 200_000);
    // The next word from the registry is its last on that connection.
    relay.cut(1, 2);
    relay.limit(0);
    push.ends().exits_with(0);
    assert_eq!(skopeo.raw_manifest(&other.image("target:latest")).as_bytes(), image.manifest.content);
}
