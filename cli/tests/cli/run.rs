//! `run` and `create`: what is asked of the daemon in which order, what the user sees, how it exits.

use std::io::{Read, Write};
use std::process::Stdio;
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
fn the_two_streams_keep_their_order_on_one_terminal() {
    let daemon = FakeDaemon::running(|mut stream| {
        let frames = [frame(1, "a"), frame(1, "b"), frame(2, "c"), frame(1, "d"), frame(2, "e\n")];
        stream.write_all(&frames.concat()).unwrap();
        0
    });
    let both = tempfile::NamedTempFile::new().unwrap();
    let stream = || Stdio::from(std::fs::File::options().append(true).open(both.path()).unwrap());
    let status = daemon.command(&["run", "busybox"]).stdout(stream()).stderr(stream()).status().unwrap();
    assert_eq!((status.code(), std::fs::read_to_string(both.path()).unwrap().as_str()), (Some(0), "abcde\n"));
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
fn a_container_that_does_not_listen_is_left_at_the_third_signal() {
    let daemon = FakeDaemon::running(|mut stream| {
        stream.write_all(&frame(1, "ready\n")).unwrap();
        // Ends when the client hangs up.
        i64::from(stream.read(&mut [0]).is_err())
    });
    let mut berth = daemon.command(&["run", "-i", "busybox", "sleep", "9"]);
    let mut berth = berth.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // Waiting for a child closes what is left of its stdin, which is a half-close of the connection: an end of its own.
    let stdin = berth.stdin.take();
    let mut ready = [0; 6];
    berth.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    let pid = rustix::process::Pid::from_child(&berth);
    for (signal, name) in [(rustix::process::Signal::INT, "INT"), (rustix::process::Signal::TERM, "TERM")] {
        rustix::process::kill_process(pid, signal).unwrap();
        daemon.wait_for(&format!("POST /containers/c0ffee/kill?signal={name}"));
    }
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(berth.wait().unwrap().code(), Some(130));
    drop(stdin);
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
