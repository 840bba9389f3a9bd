//! Registries that ask who one is: by password and by token, and what is kept of it.

use berth_tests::registry::{Access, PASSWORD, Registry, Settings, TokenServer, USER};
use berth_tests::{Client, Host, Skopeo};

/// A daemon with a small image, and a registry with that access.
fn host_and_registry(access: Access<'_>) -> Option<(Host, Registry)> {
    let host = Host::empty()?;
    let registry = Registry::with(&Settings { access, ..Settings::PLAIN })?;
    host.berth().run(["load", "--quiet", "--input", &host.image_archive("hello-world")]).exits_with(0);
    Some((host, registry))
}

/// From strangers to friends and back.
fn logs_in_and_out(host: &Host, registry: &Registry, client: &Client) {
    let name = registry.image(&format!("private/{}:latest", client.name));
    client.run(["tag", "hello-world", &name]).exits_with(0);
    refused(client, &["push", &name]);

    let login = ["login", "--username", USER, "--password-stdin", &registry.address()];
    refused_with_input(client, &login, "wrong");
    client.run_with_input(login, PASSWORD.as_bytes()).exits_with(0).prints("Login Succeeded");
    client.run(["push", &name]).exits_with(0);
    client.run(["rmi", &name]).exits_with(0);
    client.run(["pull", &name]).exits_with(0);

    client.run(["logout", &registry.address()]).exits_with(0);
    refused(client, &["push", &name]);
    assert!(!host.daemon_log().contains(PASSWORD), "the daemon's log has a password");
}

#[track_caller]
fn refused(client: &Client, words: &[&str]) {
    let outcome = client.run(words).exits_with(1);
    let said = outcome.stderr.to_lowercase();
    assert!(
        ["unauthorized", "denied", "no basic auth credentials"].iter().any(|word| said.contains(word)),
        "{outcome:?}"
    );
}

#[track_caller]
fn refused_with_input(client: &Client, words: &[&str], input: &str) {
    let outcome = client.run_with_input(words, input.as_bytes()).exits_with(1);
    let said = outcome.stderr.to_lowercase();
    assert!(said.contains("unauthorized") || said.contains("incorrect username or password"), "{outcome:?}");
}

#[test]
fn with_a_password() {
    let Some((host, registry)) = host_and_registry(Access::Password) else { return };
    for client in host.clients() {
        logs_in_and_out(&host, &registry, &client);
        let name = registry.image(&format!("private/{}:latest", client.name));
        refused(&client, &["pull", &name]);
    }
}

#[test]
fn with_a_token() {
    let tokens = TokenServer::start();
    let Some((host, registry)) = host_and_registry(Access::Token(&tokens)) else { return };
    for client in host.clients() {
        logs_in_and_out(&host, &registry, &client);
        // Everybody may pull there, with a token for nobody.
        let name = registry.image(&format!("private/{}:latest", client.name));
        client.run(["rmi", &name]).exits_with(0);
        let before = tokens.issued();
        client.run(["pull", &name]).exits_with(0);
        assert!(tokens.issued() > before);
    }
}

#[test]
fn a_token_server_gives_an_identity_that_is_kept_instead_of_the_password() {
    let tokens = TokenServer::start();
    let Some((host, registry)) = host_and_registry(Access::Token(&tokens)) else { return };
    for client in host.clients() {
        let login = ["login", "--username", USER, "--password-stdin", &registry.address()];
        client.run_with_input(login, PASSWORD.as_bytes()).exits_with(0);
        let kept = std::fs::read_to_string(host.path("home/.docker/config.json")).unwrap();
        let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
        let entry = &kept["auths"][registry.address()];
        assert_eq!(entry["identitytoken"], "it-was-alice", "{kept}");
        let name = registry.image(&format!("known/{}:latest", client.name));
        client.run(["tag", "hello-world", &name]).exits_with(0);
        client.run(["push", &name]).exits_with(0);
        client.run(["logout", &registry.address()]).exits_with(0);
    }
}

#[test]
fn a_run_pulls_what_is_missing_with_what_was_logged_in() {
    let Some((host, registry)) = host_and_registry(Access::Password) else { return };
    let Some(skopeo) = Skopeo::find() else { return };
    let name = registry.image("private/busybox:latest");
    let from = format!("oci-archive:{}", host.image_archive("busybox"));
    let to = format!("docker://{name}");
    let credentials = format!("--dest-creds={USER}:{PASSWORD}");
    skopeo.run(["copy", "--quiet", "--dest-tls-verify=false", &credentials, &from, &to]).exits_with(0);
    for client in host.clients() {
        let run = ["run", "--rm", &name, "echo", "pulled"];
        client.run(run).exits_with(125);
        let login = ["login", "--username", USER, "--password-stdin", &registry.address()];
        client.run_with_input(login, PASSWORD.as_bytes()).exits_with(0);
        let ran = client.run(run).exits_with(0).prints_exactly("pulled");
        ran.complains(&format!("Unable to find image '{name}' locally"));
        client.run(["rmi", &name]).exits_with(0);
        client.run(["logout", &registry.address()]).exits_with(0);
    }
}
