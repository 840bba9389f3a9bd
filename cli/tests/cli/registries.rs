//! Pull, push and what goes with them: requests, logins and where they are kept, what is printed.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{FakeDaemon, Said};

/// A daemon that pulls everything in two steps.
fn pulling() -> FakeDaemon {
    let daemon = FakeDaemon::idle();
    let progress = concat!(
        "{\"status\":\"Pulling from library/busybox\",\"id\":\"latest\"}\r\n",
        "{\"status\":\"Downloading\",\"progressDetail\":{\"current\":1,\"total\":2},\"progress\":\"[=>]\",\"id\":\"aa\"}\r\n",
        "{\"status\":\"Pull complete\",\"progressDetail\":{},\"id\":\"aa\"}\r\n",
        "{\"status\":\"Digest: sha256:00\"}\r\n",
    );
    daemon.answer("POST /images/create", 200, progress);
    daemon
}

/// `berth ARGUMENTS` with something on standard input.
fn berth_with_input(daemon: &FakeDaemon, arguments: &[&str], input: &str) -> Said {
    let mut command = daemon.command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    Said::from(child.wait_with_output().unwrap())
}

fn config(daemon: &FakeDaemon) -> Value {
    serde_json::from_slice(&std::fs::read(daemon.docker_config().join("config.json")).unwrap()).unwrap()
}

fn write_config(daemon: &FakeDaemon, content: &Value) {
    std::fs::create_dir_all(daemon.docker_config()).unwrap();
    std::fs::write(daemon.docker_config().join("config.json"), content.to_string()).unwrap();
}

#[test]
fn pull_says_what_happens_and_ends_with_the_whole_name() {
    let daemon = pulling();
    let said = daemon.berth(&["pull", "busybox"]);
    assert_eq!(
        (said.status, said.stdout.as_str()),
        (
            Some(0),
            "Using default tag: latest\nlatest: Pulling from library/busybox\naa: Pull complete\n\
             Digest: sha256:00\ndocker.io/library/busybox:latest\n"
        )
    );
    let said = daemon.berth(&["pull", "-q", "--platform", "linux/arm64", "r:5000/a@sha256:11"]);
    assert_eq!(said.stdout, "r:5000/a@sha256:11\n");
    assert_eq!(daemon.berth(&["pull", "-aq", "r:5000/a"]).stdout, "r:5000/a\n");
    assert_eq!(
        daemon.requests(),
        [
            "POST /images/create?fromImage=busybox&tag=latest",
            "POST /images/create?fromImage=r%3A5000%2Fa&tag=sha256%3A11&platform=linux%2Farm64",
            "POST /images/create?fromImage=r%3A5000%2Fa",
        ]
    );
    let said = daemon.berth(&["pull", "-a", "busybox:1"]);
    assert_eq!((said.status, said.stderr.as_str()), (Some(1), "tag can't be used with --all-tags/-a\n"));
}

#[test]
fn a_pull_that_fails_in_the_middle_fails() {
    let daemon = FakeDaemon::idle();
    let stream = "{\"status\":\"Pulling fs layer\",\"id\":\"aa\"}\n\
                  {\"errorDetail\":{\"message\":\"the layer lies\"},\"error\":\"the layer lies\"}\n";
    daemon.answer("POST /images/create", 200, stream);
    let said = daemon.berth(&["pull", "busybox"]);
    assert_eq!(
        (said.status, said.stderr.as_str()),
        (Some(1), "Error response from daemon: the layer lies\n")
    );
}

#[test]
fn push_sends_one_tag_or_all_and_always_says_who_asks() {
    let daemon = FakeDaemon::idle();
    daemon.answer("POST /images/r%3A5000%2Fa/push", 200, "{\"status\":\"1: digest: sha256:00 size: 2\"}\n");
    let said = daemon.berth(&["push", "r:5000/a:1"]);
    assert_eq!((said.status, said.stdout.as_str()), (Some(0), "1: digest: sha256:00 size: 2\n"));
    assert_eq!(daemon.user_of("POST /images/r%3A5000%2Fa/push"), Some(json!({})));
    assert_eq!(daemon.berth(&["push", "-q", "r:5000/a"]).stdout, "r:5000/a:latest\n");
    daemon.berth(&["push", "-aq", "--platform=linux/amd64", "r:5000/a"]);
    assert_eq!(
        daemon.requests(),
        [
            "POST /images/r%3A5000%2Fa/push?tag=1",
            "POST /images/r%3A5000%2Fa/push?tag=latest",
            "POST /images/r%3A5000%2Fa/push?platform=%7B%22architecture%22%3A%22amd64%22%2C%22os%22%3A%22linux%22%7D",
        ]
    );
}

#[test]
fn a_login_is_checked_kept_for_pulls_and_forgotten() {
    let daemon = pulling();
    let granted = json!({"Status": "Login Succeeded", "IdentityToken": ""});
    daemon.answer("POST /auth", 200, &granted.to_string());
    write_config(&daemon, &json!({"detachKeys": "ctrl-e"}));
    let said = berth_with_input(&daemon, &["login", "-u", "me", "--password-stdin", "r:5000"], "secret\r\n");
    assert_eq!((said.status, said.stdout.as_str()), (Some(0), "Login Succeeded\n"), "{said:?}");
    assert!(said.stderr.contains("unencrypted") && !said.stderr.contains("secret"), "{said:?}");
    let login = json!({"username": "me", "password": "secret", "serveraddress": "r:5000"});
    assert_eq!(daemon.body_of("POST /auth"), login);
    let kept = json!({"detachKeys": "ctrl-e", "auths": {"r:5000": {"auth": "bWU6c2VjcmV0"}}});
    assert_eq!(config(&daemon), kept);
    let mode = std::fs::metadata(daemon.docker_config().join("config.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    daemon.berth(&["pull", "r:5000/a"]);
    assert_eq!(daemon.user_of("POST /images/create"), Some(login));
    assert_eq!(daemon.berth(&["logout", "r:5000"]).stdout, "Removing login credentials for r:5000\n");
    assert_eq!(config(&daemon)["auths"], json!({}));
    assert_eq!(daemon.berth(&["logout", "r:5000"]).stdout, "Not logged in to r:5000\n");
}

#[test]
fn a_refused_login_is_not_kept() {
    let daemon = FakeDaemon::idle();
    daemon.answer("POST /auth", 401, &json!({"message": "unauthorized: no"}).to_string());
    let said = daemon.berth(&["login", "-u", "me", "-p", "secret", "r:5000"]);
    assert_eq!(said.status, Some(1));
    assert!(said.stderr.starts_with("WARNING! Using --password"), "{said:?}");
    assert!(said.stderr.ends_with("Error response from daemon: unauthorized: no\n"), "{said:?}");
    assert!(!daemon.docker_config().join("config.json").exists());
    let said = daemon.berth(&["login", "r:5000"]);
    assert!(said.status == Some(1) && said.stderr.contains("--password-stdin"), "{said:?}");
    let said = daemon.berth(&["login", "--password-stdin", "r:5000"]);
    assert_eq!(said.stderr, "Must provide --username with --password-stdin\n");
}

#[test]
fn an_identity_token_takes_the_passwords_place_and_serves_the_next_login() {
    let daemon = FakeDaemon::idle();
    let granted = json!({"Status": "Login Succeeded", "IdentityToken": "t0ken"});
    daemon.answer("POST /auth", 200, &granted.to_string());
    daemon.berth(&["login", "-u", "me", "-p", "secret"]);
    let auths = json!({"https://index.docker.io/v1/": {"auth": "bWU6", "identitytoken": "t0ken"}});
    assert_eq!(config(&daemon)["auths"], auths);
    let said = daemon.berth(&["login"]);
    assert_eq!((said.status, said.stdout.as_str()), (Some(0), "Login Succeeded\n"));
    assert!(
        said.stderr.starts_with("Authenticating with existing credentials... [Username: me]"),
        "{said:?}"
    );
}

#[test]
fn a_credential_helper_keeps_what_the_file_does_not() {
    let daemon = pulling();
    let bin = tempfile::tempdir().unwrap();
    let helper = bin.path().join("docker-credential-box");
    let script = "#!/bin/sh\ncd \"$(dirname \"$0\")\"\ncase $1 in\n\
        store) cat > kept ;;\n\
        get) test -f kept && cat kept || { echo 'credentials not found in native keychain'; exit 1; } ;;\n\
        list) test -f kept && echo '{\"r:5000\":\"me\"}' || echo '{}' ;;\n\
        erase) rm -f kept ;;\nesac\n";
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o700)).unwrap();
    write_config(&daemon, &json!({"credHelpers": {"r:5000": "box"}}));
    daemon.answer("POST /auth", 200, &json!({"Status": "Login Succeeded"}).to_string());
    let path = format!("{}:{}", bin.path().display(), std::env::var("PATH").unwrap());
    let berth =
        |arguments: &[&str]| Said::from(daemon.command(arguments).env("PATH", &path).output().unwrap());

    let said = berth(&["login", "-u", "me", "-p", "secret", "r:5000"]);
    assert!(said.status == Some(0) && !said.stderr.contains("unencrypted"), "{said:?}");
    assert_eq!(config(&daemon)["auths"], json!({"r:5000": {}}));
    berth(&["pull", "r:5000/a"]);
    assert_eq!(daemon.user_of("POST /images/create").unwrap()["password"], "secret");
    assert_eq!(berth(&["logout", "r:5000"]).stdout, "Removing login credentials for r:5000\n");
    let said = berth(&["pull", "-q", "r:5000/a"]);
    assert_eq!(said.status, Some(0), "nobody in particular may pull: {said:?}");
}

#[test]
fn run_pulls_a_missing_image_as_the_user() {
    let daemon = pulling();
    write_config(&daemon, &json!({"auths": {"r:5000": {"auth": "bWU6c2VjcmV0"}}}));
    let missing = json!({"message": "No such image: r:5000/a:latest"}).to_string();
    daemon.answer("POST /containers/create", 404, &missing);
    let said = daemon.berth(&["create", "r:5000/a"]);
    assert!(said.stderr.contains("Unable to find image 'r:5000/a:latest' locally"), "{said:?}");
    assert_eq!(daemon.user_of("POST /images/create").unwrap()["username"], "me");
}

#[test]
fn search_prints_dockers_table() {
    let daemon = FakeDaemon::idle();
    let found = json!([
        {"name": "busybox", "description": "Small.\nVery small.", "star_count": 3, "is_official": true},
        {"name": "me/box", "description": "x".repeat(60), "star_count": 0, "is_official": false},
    ]);
    daemon.answer("GET /images/search", 200, &found.to_string());
    let said = daemon.berth(&["search", "--limit", "2", "-f", "stars=1", "busybox"]);
    let lines: Vec<_> = said.stdout.lines().collect();
    assert!(
        lines[0].starts_with("NAME      DESCRIPTION") && lines[0].ends_with("STARS     OFFICIAL"),
        "{said:?}"
    );
    assert!(
        lines[1].starts_with("busybox   Small. Very small.") && lines[1].ends_with("3         [OK]"),
        "{said:?}"
    );
    assert!(lines[2].contains(&format!("{}…", "x".repeat(44))), "{said:?}");
    let request = "GET /images/search?term=busybox&limit=2&filters=%7B%22stars%22%3A%7B%221%22%3Atrue%7D%7D";
    assert_eq!(daemon.requests(), [request]);
    let said = daemon.berth(&["search", "--format", "{{.Name}} {{.StarCount}}", "busybox"]);
    assert_eq!(said.stdout, "busybox 3\nme/box 0\n");
}

#[test]
fn a_manifest_is_shown_as_its_registry_has_it() {
    let daemon = FakeDaemon::idle();
    daemon.answer("GET /distribution/r%3A5000%2Fa%3A1/manifest", 200, r#"{"schemaVersion":2,"b":1,"a":[]}"#);
    let said = daemon.berth(&["manifest", "inspect", "r:5000/a:1"]);
    let expected = "{\n    \"schemaVersion\": 2,\n    \"b\": 1,\n    \"a\": []\n}\n";
    assert_eq!((said.status, said.stdout.as_str()), (Some(0), expected));
    let said = daemon.berth(&["manifest", "inspect", "-v", "r:5000/a:1"]);
    let shown: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((&shown["Ref"], &shown["Descriptor"]["size"]), (&json!("r:5000/a:1"), &json!(32)));
}
