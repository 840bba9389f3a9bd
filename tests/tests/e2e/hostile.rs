//! A registry that lies gets nothing into the store: each lie is refused by name, and leaves everything as it was.

use berth_tests::Host;
use berth_tests::hostile_registry::{HostileRegistry, Lie};

/// Five attempts at each of a manifest, a config and a layer, each with a challenge and some redirects.
const MOST_REQUESTS: usize = 60;

/// What lies below the daemon's data that images could have put there, with sizes; the database's own files change with
/// every look at it.
fn stored(host: &Host) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let mut left = vec![host.path("data")];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory can be listed").flatten() {
            let (path, metadata) = (entry.path(), entry.metadata().expect("nothing else changes it"));
            if metadata.is_dir() {
                left.push(path);
            } else if !path.to_string_lossy().contains(".db") {
                found.push((path.display().to_string(), metadata.len()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn every_lie_is_refused_and_leaves_nothing() {
    let Some(host) = Host::empty() else { return };
    let registry = HostileRegistry::start();
    let client = host.berth();
    let before = stored(&host);
    let mut faults = Vec::new();
    for lie in Lie::ALL {
        let requests = registry.requests();
        let outcome = client.run(["pull", &registry.image(lie)]);
        let asked = registry.requests() - requests;
        let said = outcome.stderr.trim();
        eprintln!("{lie:?}, asked {asked} times: {said}");
        if outcome.code != 1 || said.is_empty() {
            faults.push(format!("{lie:?} was believed: {outcome:?}"));
        }
        // Which image it was, and which layer; the words are for unit tests.
        if !said.contains("some/liar") {
            faults.push(format!("{lie:?}: the image is not named: {said}"));
        }
        if lie.is_about_a_layer() && !said.contains("sha256:") {
            faults.push(format!("{lie:?}: the layer is not named: {said}"));
        }
        if asked > MOST_REQUESTS {
            faults.push(format!("{lie:?}: asked {asked} times"));
        }
        let listed = client.run(["images", "--all", "--quiet"]).text();
        if !listed.is_empty() {
            faults.push(format!("{lie:?}: there is an image {listed}"));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    client.run(["image", "prune", "--all", "--force"]).exits_with(0);
    host.has_a_sound_store();
    assert_eq!(stored(&host), before);
    client.run(["pull", &registry.image(Lie::Nothing)]).exits_with(0);
    host.has_a_sound_store();
}

#[test]
fn the_docker_cli_hears_why() {
    let Some(host) = Host::empty() else { return };
    let Some(docker) = host.docker() else { return };
    let registry = HostileRegistry::start();
    for lie in [Lie::LayerDigest, Lie::ManifestHtml, Lie::TarDotDot] {
        let outcome = docker.run(["pull", &registry.image(lie)]).exits_with(1);
        assert!(!outcome.stderr.trim().is_empty(), "{lie:?}");
        docker.run(["images", "--all", "--quiet"]).prints_exactly("");
    }
}
