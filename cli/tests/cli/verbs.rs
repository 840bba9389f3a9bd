//! The other verbs: their requests, their output, their exit statuses.

use std::io::Write;
use std::process::Command;

use serde_json::json;

use crate::support::{FakeDaemon, Said, frame};

#[test]
fn exec_streams_and_exits_with_the_commands_status() {
    let daemon = FakeDaemon::running(|mut stream| {
        stream.write_all(&frame(1, "inside\n")).unwrap();
        7
    });
    daemon.answer("POST /containers/web/exec", 201, &json!({"Id": "e1"}).to_string());
    daemon.answer("GET /exec/e1/json", 200, &json!({"Running": false, "ExitCode": 7}).to_string());
    let said = daemon.berth(&["exec", "-u", "nobody", "web", "ls", "-l"]);
    assert_eq!((said.status, said.stdout.as_str()), (Some(7), "inside\n"));
    let body = daemon.body_of("POST /containers/web/exec");
    assert_eq!((&body["Cmd"], &body["User"]), (&json!(["ls", "-l"]), &json!("nobody")));
}

#[test]
fn logs_are_taken_apart_and_their_query_is_complete() {
    let daemon = FakeDaemon::idle();
    let stream = [frame(1, "one\n"), frame(2, "two\n")].concat();
    daemon.answer("GET /containers/c0ffee/logs", 200, std::str::from_utf8(&stream).unwrap());
    let said = daemon.berth(&["logs", "-t", "--tail", "5", "--since", "1700000000", "web"]);
    assert_eq!((said.status, said.stdout.as_str(), said.stderr.as_str()), (Some(0), "one\n", "two\n"));
    assert_eq!(
        daemon.requests()[1],
        "GET /containers/c0ffee/logs?stdout=1&stderr=1&timestamps=1&since=1700000000&tail=5"
    );
}

#[test]
fn start_without_attaching_goes_on_after_a_failure() {
    let daemon = FakeDaemon::idle();
    let missing = json!({"message": "No such container: b"}).to_string();
    daemon.answer("POST /containers/a/start", 204, "");
    daemon.answer("POST /containers/b/start", 404, &missing);
    daemon.answer("POST /containers/c/start", 304, "");
    let said = daemon.berth(&["start", "a", "b", "c"]);
    assert_eq!((said.status, said.stdout.as_str()), (Some(1), "a\nc\n"));
    assert_eq!(
        said.stderr,
        "Error response from daemon: No such container: b\nError: failed to start containers: b\n"
    );
}

#[test]
fn start_attached_ends_with_the_containers_status() {
    let daemon = FakeDaemon::running(|mut stream| {
        stream.write_all(&frame(1, "again\n")).unwrap();
        9
    });
    let said = daemon.berth(&["start", "-a", "web"]);
    assert_eq!((said.status, said.stdout.as_str()), (Some(9), "again\n"));
}

#[test]
fn verbs_on_several_containers_report_in_order() {
    let daemon = FakeDaemon::idle();
    for name in ["a", "c"] {
        daemon.answer(&format!("POST /containers/{name}/stop"), 204, "");
        daemon.answer(&format!("DELETE /containers/{name}"), 204, "");
    }
    let missing = json!({"message": "No such container: b"}).to_string();
    daemon.answer("POST /containers/b/stop", 404, &missing);
    daemon.answer("DELETE /containers/b", 404, &missing);
    let said = daemon.berth(&["stop", "-t", "5", "-s", "INT", "a", "b", "c"]);
    assert_eq!((said.status, said.stdout.as_str()), (Some(1), "a\nc\n"));
    assert_eq!(said.stderr, "Error response from daemon: No such container: b\n");
    assert!(daemon.requests().contains(&"POST /containers/a/stop?signal=INT&t=5".to_owned()));
    assert_eq!(daemon.berth(&["rm", "b"]).status, Some(1));
    assert_eq!(daemon.berth(&["rm", "-f", "a", "b", "c"]).status, Some(0));
}

#[test]
fn ps_prints_dockers_table_ids_and_templates() {
    let daemon = FakeDaemon::idle();
    let container = json!([{
        "Id": "0123456789abcdef", "Names": ["/web"], "Image": "busybox", "Command": "sh", "Created": 1,
        "State": "exited", "Status": "Exited (0) 2 minutes ago", "Ports": [], "Labels": {"a": "b"}
    }]);
    daemon.answer("GET /containers/json", 200, &container.to_string());
    let said = daemon.berth(&["ps", "-a", "-f", "status=exited"]);
    assert!(said.stdout.starts_with("CONTAINER ID   IMAGE     COMMAND   CREATED        STATUS"), "{said:?}");
    assert!(said.stdout.contains("0123456789ab   busybox   \"sh\""), "{said:?}");
    assert_eq!(
        daemon.requests(),
        ["GET /containers/json?all=1&filters=%7B%22status%22%3A%7B%22exited%22%3Atrue%7D%7D"]
    );
    assert_eq!(daemon.berth(&["ps", "-q"]).stdout, "0123456789ab\n");
    assert_eq!(daemon.berth(&["ps", "-q", "--no-trunc"]).stdout, "0123456789abcdef\n");
    assert_eq!(daemon.berth(&["ps", "--format", "{{.Names}} {{.Labels}}"]).stdout, "web a=b\n");
    let wrong = daemon.berth(&["ps", "--format", "{{template .Names}}"]);
    assert!(wrong.status == Some(1) && wrong.stderr.contains("not supported"), "{wrong:?}");
}

#[test]
fn inspect_shows_the_daemons_bytes_indented_and_names_what_is_missing() {
    let daemon = FakeDaemon::idle();
    daemon.answer("GET /containers/x/json", 200, r#"{"Z":1,"A":{"B":[]}}"#);
    let missing = json!({"message": "No such thing"}).to_string();
    daemon.answer("GET /containers/y/json", 404, &missing);
    daemon.answer("GET /images/y/json", 404, &missing);
    let said = daemon.berth(&["inspect", "x", "y"]);
    let expected =
        "[\n    {\n        \"Z\": 1,\n        \"A\": {\n            \"B\": []\n        }\n    }\n]\n";
    assert_eq!((said.status, said.stdout.as_str()), (Some(1), expected));
    assert_eq!(said.stderr, "Error: No such object: y\n");
    assert_eq!(daemon.berth(&["inspect", "-f", "{{.A.B}}/{{.Z}}", "x"]).stdout, "[]/1\n");
    let container = daemon.berth(&["inspect", "--type", "container", "y"]);
    assert_eq!(container.stderr, "Error response from daemon: No such thing\n");
}

#[test]
fn load_sends_the_archive_and_reports_errors_inside_the_stream() {
    let daemon = FakeDaemon::idle();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image.tar");
    std::fs::write(&path, "{\"not\":\"a tar\"}").unwrap();
    daemon.answer("POST /images/load", 200, "{\"stream\":\"Loaded image: busybox:latest\\n\"}\n");
    let said = daemon.berth(&["load", "-i", path.to_str().unwrap()]);
    assert_eq!((said.status, said.stdout.as_str()), (Some(0), "Loaded image: busybox:latest\n"));
    assert_eq!(daemon.body_of("POST /images/load"), json!({"not": "a tar"}));
    daemon.answer(
        "POST /images/load",
        200,
        "{\"errorDetail\":{\"message\":\"bad layer\"},\"error\":\"bad layer\"}",
    );
    let failed = daemon.berth(&["load", "-i", path.to_str().unwrap()]);
    assert_eq!((failed.status, failed.stderr.as_str()), (Some(1), "Error response from daemon: bad layer\n"));
}

#[test]
fn wait_prints_the_status() {
    let daemon = FakeDaemon::idle();
    daemon.answer("POST /containers/web/wait", 200, &json!({"StatusCode": 42}).to_string());
    let said = daemon.berth(&["wait", "web"]);
    assert_eq!((said.status, said.stdout.as_str()), (Some(0), "42\n"));
}

#[test]
fn a_daemon_that_is_not_there_is_told_with_the_fix() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
    let output = command.args(["-H", "unix:///nowhere/d.sock", "ps"]).output().unwrap();
    let said = Said::from(output);
    assert_eq!(said.status, Some(1));
    let expected = "Cannot connect to the Berth daemon at unix:///nowhere/d.sock. Is berthd running?";
    assert!(said.stderr.starts_with(expected), "{said:?}");
}

#[test]
fn an_older_daemon_is_spoken_to_in_its_version() {
    let daemon = FakeDaemon::idle();
    daemon.speaks("1.24");
    daemon.answer("GET /version", 200, &json!({"Version": "1"}).to_string());
    let said = daemon.berth(&["version", "-f", "{{.Server.Version}}"]);
    assert_eq!((said.status, said.stdout.as_str()), (Some(0), "1\n"));
    assert_eq!(daemon.requests(), ["GET /version"]);
}

#[test]
fn a_wrong_command_line_has_dockers_exit_statuses() {
    let daemon = FakeDaemon::idle();
    for (arguments, status) in [
        (&["run", "--foo", "x"][..], 125),
        (&["run"], 1),
        (&["ps", "extra"], 1),
        (&["nope"], 1),
        (&["run", "--help"], 0),
    ] {
        assert_eq!(daemon.berth(arguments).status, Some(status), "{arguments:?}");
    }
    assert!(daemon.requests().is_empty());
}

#[test]
fn a_daemon_that_refuses_an_archive_early_is_heard() {
    let daemon = FakeDaemon::idle();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("large.tar");
    // Far more than the socket holds: the daemon answers and hangs up in the middle of it.
    std::fs::File::create(&path).unwrap().set_len(64 << 20).unwrap();
    daemon.refuse_early("POST /images/load", 400, &json!({"message": "not an archive"}).to_string());
    let said = daemon.berth(&["load", "-i", path.to_str().unwrap()]);
    assert_eq!(said.stderr, "Error response from daemon: not an archive\n");
    assert_eq!(said.status, Some(1));
}

#[test]
fn attach_wants_a_container_that_runs() {
    let daemon = FakeDaemon::idle();
    let said = daemon.berth(&["attach", "--no-stdin", "stopped"]);
    assert_eq!(
        (said.status, said.stderr.as_str()),
        (Some(1), "Error response from daemon: no answer for GET /containers/stopped/json\n")
    );
    daemon.answer(
        "GET /containers/stopped/json",
        200,
        &json!({"Id": "s", "State": {"Running": false}}).to_string(),
    );
    let said = daemon.berth(&["attach", "stopped"]);
    assert_eq!(said.stderr, "You cannot attach to a stopped container, start it first\n");
}

#[test]
fn images_has_a_line_for_each_name_and_rmi_says_what_it_did() {
    let daemon = FakeDaemon::idle();
    let image = json!([{"Id": "sha256:0123456789abcdef", "RepoTags": ["a:1", "b:2"], "Created": 1, "Size": 4_269_678}]);
    daemon.answer("GET /images/json", 200, &image.to_string());
    let said = daemon.berth(&["images", "a"]);
    assert!(said.stdout.starts_with("REPOSITORY   TAG       IMAGE ID       CREATED"), "{said:?}");
    assert!(said.stdout.contains("\nb            2         0123456789ab"), "{said:?}");
    assert!(said.stdout.contains("4.27MB"), "{said:?}");
    assert_eq!(daemon.requests(), ["GET /images/json?filters=%7B%22reference%22%3A%7B%22a%22%3Atrue%7D%7D"]);
    daemon.answer("DELETE /images/a", 200, r#"[{"Untagged":"a:1"},{"Deleted":"sha256:00"}]"#);
    let said = daemon.berth(&["rmi", "a"]);
    assert_eq!((said.status, said.stdout.as_str()), (Some(0), "Untagged: a:1\nDeleted: sha256:00\n"));
}

#[test]
fn info_and_events_show_what_the_daemon_says() {
    let daemon = FakeDaemon::idle();
    daemon.answer("GET /info", 200, &json!({"Containers": 2, "NCPU": 4, "MemTotal": 1 << 30}).to_string());
    let said = daemon.berth(&["info"]);
    assert!(said.stdout.contains("\n Containers: 2\n CPUs: 4\n Total Memory: 1GiB\n"), "{said:?}");
    assert_eq!(daemon.berth(&["info", "-f", "{{.NCPU}}"]).stdout, "4\n");
    let events =
        "{\"Action\":\"start\",\"Actor\":{\"ID\":\"x\"}}\n{\"Action\":\"die\",\"Actor\":{\"ID\":\"x\"}}\n";
    daemon.answer("GET /events", 200, events);
    assert_eq!(daemon.berth(&["events", "--format", "{{.Action}} {{.Actor.ID}}"]).stdout, "start x\ndie x\n");
}

#[cfg(target_os = "linux")]
#[test]
fn the_doctor_names_a_fix_and_needs_no_daemon() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
    command.args([
        "-H",
        "unix:///nowhere/d.sock",
        "doctor",
        "--format",
        "json",
        "--kernel",
        "/nowhere/vmlinux",
    ]);
    let said = Said::from(command.output().unwrap());
    let report: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    let of =
        |name: &str| report["Checks"].as_array().unwrap().iter().find(|check| check["Name"] == name).cloned();
    let kernel = of("kernel").unwrap();
    assert_eq!((said.status, &kernel["Verdict"]), (Some(1), &json!("missing")));
    assert!(kernel["Fix"].as_str().unwrap().contains("--kernel"), "{kernel}");
    assert_eq!(of("daemon").unwrap()["Verdict"], json!("warning"));
}

#[test]
fn completions_know_the_verbs() {
    for shell in ["bash", "zsh", "fish"] {
        let said = FakeDaemon::idle().berth(&["completions", shell]);
        assert!(said.status == Some(0) && said.stdout.contains("sig-proxy"), "{shell}");
    }
}

#[test]
fn rename_and_the_verbs_under_container_ask_for_the_same() {
    let daemon = FakeDaemon::idle();
    daemon.answer("POST /containers/web/rename", 204, "");
    for arguments in [&["rename", "web", "old"][..], &["container", "rename", "web", "old"]] {
        let said = daemon.berth(arguments);
        assert_eq!((said.status, said.stdout.as_str()), (Some(0), ""), "{}", said.stderr);
    }
    let renames = daemon.requests();
    assert!(renames.iter().all(|request| request == "POST /containers/web/rename?name=old"), "{renames:?}");
    assert_eq!(renames.len(), 2);
}

#[test]
fn container_prune_asks_first_and_tells_what_went() {
    let daemon = FakeDaemon::idle();
    let answer = json!({"ContainersDeleted": ["c0ffee"], "SpaceReclaimed": 2_000_000}).to_string();
    daemon.answer("POST /containers/prune", 200, &answer);
    assert_eq!(daemon.berth(&["container", "prune"]).status, Some(1));
    assert!(daemon.requests().is_empty());
    let said = daemon.berth(&["container", "prune", "--force", "--filter", "until=24h"]);
    assert_eq!(said.stdout, "Deleted Containers:\nc0ffee\n\nTotal reclaimed space: 2MB\n");
}
