//! The docker CLI's verbs against sessions that say what each prints: stdout, stderr and exit code, word for word.
//!
//! What is expected was observed at a dockerd, with the wording of Docker 28 where that one was older, and is ours where
//! Berth differs by design: images keep the digests of their manifests.
//! `BERTH_TEST_PEER=unix:///… cargo test -p berth-tests --test e2e docker_cli -- --ignored` shows where another engine
//! prints something else.

use berth_tests::{Host, Namespace, Session};

/// Every session of this directory, and what it is about.
const SESSIONS: [(&str, &str); 10] = [
    ("commit", include_str!("commit.session")),
    ("cp", include_str!("cp.session")),
    ("images", include_str!("images.session")),
    ("lifecycle", include_str!("lifecycle.session")),
    ("networks", include_str!("networks.session")),
    ("ps", include_str!("ps.session")),
    ("run", include_str!("run.session")),
    ("running", include_str!("running.session")),
    ("system", include_str!("system.session")),
    ("volumes", include_str!("volumes.session")),
];

fn holds(name: &str) {
    let Some(host) = Host::start() else { return };
    holds_at(&host, name);
}

fn holds_at(host: &Host, name: &str) {
    let Some(docker) = host.docker() else { return };
    let (_, text) = SESSIONS.iter().find(|(known, _)| *known == name).expect("a session of that name");
    Session::parse(text).holds(&docker);
}

#[test]
fn containers_are_created_started_stopped_and_removed() {
    holds("lifecycle");
}

#[test]
fn run_prints_what_the_program_prints_and_says_what_it_cannot_do() {
    holds("run");
}

#[test]
fn a_container_that_runs_is_looked_into() {
    holds("running");
}

#[test]
fn containers_are_listed_and_filtered() {
    holds("ps");
}

#[test]
fn images_are_listed_named_saved_and_removed() {
    holds("images");
}

#[test]
fn the_daemon_tells_about_itself_and_what_happened() {
    holds("system");
}

#[test]
fn volumes_are_made_listed_pruned_and_removed() {
    holds("volumes");
}

#[test]
fn networks_are_made_listed_joined_pruned_and_removed() {
    let Some(namespace) = Namespace::new() else { return };
    let Some(host) = Host::with_networks(&namespace) else { return };
    holds_at(&host, "networks");
}

#[test]
fn changes_are_listed_and_become_an_image() {
    holds("commit");
}

#[test]
fn files_are_copied_in_and_out() {
    holds("cp");
}

#[test]
fn no_session_is_forgotten() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/docker_cli");
    let mut files: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .filter_map(|entry| {
            entry.unwrap().file_name().into_string().unwrap().strip_suffix(".session").map(str::to_owned)
        })
        .collect();
    files.sort();
    assert_eq!(files, SESSIONS.map(|(name, _)| name));
}

#[test]
#[ignore = "for whoever changes a session: needs a dockerd, named by BERTH_TEST_PEER"]
fn a_peer_prints_the_same() {
    let Some(host) = Host::start() else { return };
    let peer = std::env::var("BERTH_TEST_PEER").expect("BERTH_TEST_PEER is the address of a dockerd");
    let docker = host.docker().expect("the docker CLI is installed").of(&peer);
    let differences: Vec<String> =
        SESSIONS.iter().flat_map(|(_, text)| Session::parse(text).differences(&docker)).collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
