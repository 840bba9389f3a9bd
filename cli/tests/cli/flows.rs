//! The verbs as a user sees them: the real `berth`, against a fake daemon.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::support::{FakeDaemon, Said, frame};

#[test]
fn run_attaches_and_waits_before_it_starts_and_exits_with_the_containers_status() {
    let daemon = FakeDaemon::running(|mut stream| {
        stream.write_all(&[frame(1, "out\n"), frame(2, "err\n")].concat()).unwrap();
        3
    });
    let said = daemon.berth(&["run", "--rm", "--name", "web", "-e", "A=1", "busybox", "sh", "-c", "exit 3"]);
    assert_eq!((said.status, said.stdout.as_str(), said.stderr.as_str()), (Some(3), "out\n", "err\n"));
    assert_eq!(
        daemon.requests(),
        [
            "POST /containers/create?name=web",
            "POST /containers/c0ffee/attach?stream=1&stdout=1&stderr=1",
            "POST /containers/c0ffee/wait?condition=removed",
            "POST /containers/c0ffee/start",
        ]
    );
    let body = daemon.body_of("POST /containers/create");
    assert_eq!((&body["Cmd"], &body["Env"]), (&json!(["sh", "-c", "exit 3"]), &json!(["A=1"])));
}

#[test]
fn piped_input_reaches_the_container_and_its_end_too() {
    let daemon = FakeDaemon::running(|mut stream| {
        let mut input = String::new();
        stream.read_to_string(&mut input).unwrap();
        stream.write_all(&frame(1, &input.to_uppercase())).unwrap();
        0
    });
    let mut berth = daemon.command(&["run", "-i", "busybox", "cat"]);
    let mut berth =
        berth.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    berth.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    let said = Said::from(berth.wait_with_output().unwrap());
    assert_eq!((said.status, said.stdout.as_str(), said.stderr.as_str()), (Some(0), "HELLO\n", ""));
}

#[test]
fn a_large_output_arrives_whole() {
    let line = "0123456789abcdef".repeat(256);
    let daemon = FakeDaemon::running(move |mut stream| {
        for _ in 0..2000 {
            stream.write_all(&frame(1, &line)).unwrap();
        }
        0
    });
    let said = daemon.berth(&["run", "busybox"]);
    assert_eq!((said.status, said.stdout.len()), (Some(0), 2000 * 4096));
}

#[test]
fn a_background_container_prints_its_id() {
    let daemon = FakeDaemon::idle();
    let said = daemon.berth(&["run", "-d", "busybox"]);
    assert_eq!((said.status, said.stdout.as_str()), (Some(0), "c0ffee\n"));
    assert_eq!(daemon.requests(), ["POST /containers/create", "POST /containers/c0ffee/start"]);
    assert_eq!(daemon.body_of("POST /containers/create")["AttachStdout"], json!(false));
}

#[test]
fn an_unknown_image_is_pulled_and_the_daemons_refusal_ends_in_125() {
    let daemon = FakeDaemon::idle();
    daemon.answer(
        "POST /containers/create",
        404,
        &json!({"message": "No such image: nope:latest"}).to_string(),
    );
    daemon.answer("POST /images/create", 501, &json!({"message": "pulling is not there yet"}).to_string());
    let said = daemon.berth(&["run", "nope"]);
    assert_eq!((said.status, said.stdout.as_str()), (Some(125), ""));
    assert_eq!(
        said.stderr,
        "Unable to find image 'nope:latest' locally\n\
         berth: Error response from daemon: pulling is not there yet\n\n\
         Run 'berth run --help' for more information\n"
    );
    assert!(daemon.requests().contains(&"POST /images/create?fromImage=nope&tag=latest".to_owned()));
}

#[test]
fn an_image_that_is_never_to_be_pulled_is_not() {
    let daemon = FakeDaemon::idle();
    daemon.answer(
        "POST /containers/create",
        404,
        &json!({"message": "No such image: nope:latest"}).to_string(),
    );
    let said = daemon.berth(&["run", "--pull", "never", "nope"]);
    assert_eq!(said.status, Some(125));
    assert!(!daemon.requests().iter().any(|request| request.contains("images/create")));
}

#[test]
fn a_failed_start_has_dockers_exit_status_and_text() {
    for (message, status) in [
        ("exec: \"nope\": executable file not found in $PATH", 127),
        ("exec: \"/etc/passwd\": permission denied", 126),
        ("no machine could be started", 125),
    ] {
        let daemon = FakeDaemon::idle();
        daemon.answer("POST /containers/c0ffee/start", 400, &json!({"message": message}).to_string());
        let said = daemon.berth(&["run", "busybox", "nope"]);
        assert_eq!(said.status, Some(status), "{said:?}");
        assert!(
            said.stderr.starts_with(&format!("berth: Error response from daemon: {message}\n")),
            "{said:?}"
        );
    }
}

#[test]
fn a_signal_goes_to_the_container_which_then_ends() {
    let daemon = FakeDaemon::running(|mut stream| {
        stream.write_all(&frame(1, "ready\n")).unwrap();
        std::thread::sleep(Duration::from_millis(500));
        143
    });
    let mut berth = daemon.command(&["run", "busybox", "sleep", "9"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 6];
    berth.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    let pid = rustix::process::Pid::from_child(&berth);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    daemon.wait_for("POST /containers/c0ffee/kill?signal=TERM");
    assert_eq!(berth.wait().unwrap().code(), Some(143));
}

#[test]
fn timing_is_printed_after_the_output_on_standard_error() {
    let daemon = FakeDaemon::running(|mut stream| {
        stream.write_all(&frame(1, "out\n")).unwrap();
        0
    });
    let said = daemon.berth(&["run", "--timing", "busybox", "true"]);
    assert_eq!((said.status, said.stdout.as_str()), (Some(0), "out\n"));
    assert!(said.stderr.contains("image              1.5 ms\n"), "{}", said.stderr);
}

#[test]
fn the_cidfile_holds_the_id_and_is_never_overwritten() {
    let daemon = FakeDaemon::idle();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cid");
    let cidfile = path.to_str().unwrap();
    assert_eq!(daemon.berth(&["create", "--cidfile", cidfile, "busybox"]).stdout, "c0ffee\n");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "c0ffee");
    let again = daemon.berth(&["create", "--cidfile", cidfile, "busybox"]);
    assert!(again.stderr.contains("container ID file found"), "{again:?}");
    daemon.answer("POST /containers/create", 500, &json!({"message": "no"}).to_string());
    let other = directory.path().join("other");
    assert_eq!(daemon.berth(&["run", "--cidfile", other.to_str().unwrap(), "busybox"]).status, Some(125));
    assert!(!other.exists());
}

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
    let wrong = daemon.berth(&["ps", "--format", "{{range .Names}}"]);
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
fn output_that_nobody_reads_ends_quietly() {
    let daemon = FakeDaemon::running(|mut stream| {
        // Goes on until the client hangs up.
        while stream.write_all(&frame(1, &"x".repeat(4096))).is_ok() {}
        0
    });
    let mut berth = daemon.command(&["run", "busybox", "yes"]);
    let mut berth = berth.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(berth.stdout.take());
    let said = Said::from(berth.wait_with_output().unwrap());
    assert_eq!((said.status, said.stderr.as_str()), (Some(141), ""));
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
