//! docker-py and testcontainers: the stories of `tests/python/`, each at a host of its own.

use berth_tests::registry::Registry;
use berth_tests::{Host, Namespace, Python};

fn tells(story: &str, variables: &[(&str, &str)]) {
    let Some(python) = Python::find() else { return };
    let Some(host) = Host::start() else { return };
    python.tells(story, &host, variables);
}

#[test]
fn docker_py_takes_containers_from_creation_to_removal() {
    tells("docker_py_containers", &[]);
}

#[test]
fn docker_py_reads_and_writes_the_streams_of_a_container() {
    tells("docker_py_streams", &[]);
}

#[test]
fn docker_py_moves_files_in_and_out_and_makes_an_image_of_them() {
    tells("docker_py_files", &[]);
}

#[test]
fn docker_py_moves_images_by_file_and_by_registry() {
    let Some(registry) = Registry::plain() else { return };
    let images = std::env::var("BERTH_TEST_IMAGES").unwrap_or_default();
    tells(
        "docker_py_images",
        &[("BERTH_TEST_IMAGES", &images), ("BERTH_TEST_REGISTRY", &registry.address())],
    );
}

#[test]
fn testcontainers_starts_waits_looks_and_cleans_up() {
    tells("testcontainers_py", &[("TESTCONTAINERS_RYUK_DISABLED", "true")]);
}

#[test]
fn testcontainers_is_cleaned_up_after_by_its_reaper() {
    let Some(python) = Python::find() else { return };
    let Some(namespace) = Namespace::new() else { return };
    let Some(host) = Host::with_networks(&namespace) else { return };
    host.berth().run(["load", "--quiet", "--input", &host.image_archive("reaper")]).exits_with(0);
    let settings = [
        ("RYUK_CONTAINER_IMAGE", "reaper"),
        ("RYUK_RECONNECTION_TIMEOUT", "1s"),
        // Wherever the tests run themselves.
        ("TESTCONTAINERS_HOST_OVERRIDE", "localhost"),
        ("TESTCONTAINERS_CONNECTION_MODE", "docker_host"),
    ];
    python.tells_inside(&namespace, "testcontainers_reaped", &host, &settings);
}

#[test]
fn no_story_is_forgotten() {
    let told = include_str!("python.rs");
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/python")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let story = name.strip_suffix(".py").filter(|story| *story != "engine");
        assert!(story.is_none_or(|story| told.contains(&format!("\"{story}\""))), "nobody tells {name}");
    }
}
