//! What a session does to the user's terminal, on a real pseudo-terminal: raw while it lasts, as before afterwards,
//! whichever way it ends.

#![expect(clippy::unwrap_used, reason = "a terminal that cannot be had fails its test")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use serde_json::json;

use crate::support::FakeDaemon;

const PATIENCE: Duration = Duration::from_secs(20);

/// A terminal with `berth` on it: `user` is the keyboard and the screen.
struct Terminal {
    user: File,
    line: OwnedFd,
}

impl Terminal {
    fn open() -> Self {
        let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&user).unwrap();
        unlockpt(&user).unwrap();
        tcsetwinsize(&user, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let path = ptsname(&user, Vec::new()).unwrap();
        let line = File::options().read(true).write(true).open(path.to_str().unwrap()).unwrap();
        Self { user: user.into(), line: line.into() }
    }

    fn start(&self, daemon: &FakeDaemon, arguments: &[&str]) -> Child {
        let line = || Stdio::from(self.line.try_clone().unwrap());
        daemon.command(arguments).stdin(line()).stdout(line()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Keys are echoed and lines edited by the terminal itself: what a shell expects to find.
    fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.line).unwrap().local_modes;
        modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
    }

    fn wait_until_raw(&self) {
        let begun = Instant::now();
        while self.is_cooked() {
            assert!(begun.elapsed() < PATIENCE, "the terminal never became raw");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn type_keys(&mut self, keys: &str) {
        self.user.write_all(keys.as_bytes()).unwrap();
    }

    /// What the screen shows up to and with `end`.
    fn read_until(&mut self, end: &str) -> String {
        let mut seen = Vec::new();
        while !seen.ends_with(end.as_bytes()) {
            let mut byte = [0];
            self.user.read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
        }
        String::from_utf8_lossy(&seen).into_owned()
    }

    fn read(&mut self, length: usize) -> String {
        let mut seen = vec![0; length];
        self.user.read_exact(&mut seen).unwrap();
        String::from_utf8(seen).unwrap()
    }
}

/// A program on a terminal: echoes what is typed, and ends with the status of the digit that is typed.
fn echo(mut stream: std::os::unix::net::UnixStream) -> i64 {
    let mut key = [0];
    while let Ok(1) = stream.read(&mut key) {
        stream.write_all(&key).unwrap();
        if let b'0'..=b'9' = key[0] {
            return i64::from(key[0] - b'0');
        }
    }
    0
}

#[test]
fn keys_go_raw_to_the_container_and_the_terminal_is_restored() {
    let daemon = FakeDaemon::running(echo);
    let mut terminal = Terminal::open();
    assert!(terminal.is_cooked());
    let mut berth = terminal.start(&daemon, &["run", "-it", "busybox", "sh"]);
    terminal.wait_until_raw();
    terminal.type_keys("a\x03\x045");
    // Neither ctrl-c nor ctrl-d is eaten, and nothing is echoed twice.
    assert_eq!(terminal.read(4), "a\x03\x045");
    assert_eq!(berth.wait().unwrap().code(), Some(5));
    assert!(terminal.is_cooked());
    let create = daemon.body_of("POST /containers/create");
    assert_eq!((&create["Tty"], &create["HostConfig"]["ConsoleSize"]), (&json!(true), &json!([24, 80])));
    daemon.wait_for("POST /containers/c0ffee/resize?h=24&w=80");
}

#[test]
fn the_detach_keys_leave_the_container_and_restore_the_terminal() {
    let daemon = FakeDaemon::running(echo);
    let mut terminal = Terminal::open();
    let mut berth = terminal.start(&daemon, &["run", "-it", "--detach-keys", "ctrl-x,q", "busybox", "sh"]);
    terminal.wait_until_raw();
    terminal.type_keys("\x18q");
    assert_eq!(berth.wait().unwrap().code(), Some(0));
    assert!(terminal.is_cooked());
}

#[test]
fn a_signal_during_exec_restores_the_terminal() {
    let daemon = FakeDaemon::running(echo);
    daemon.answer("POST /containers/web/exec", 201, &json!({"Id": "e1"}).to_string());
    let terminal = Terminal::open();
    let mut berth = terminal.start(&daemon, &["exec", "-it", "web", "sh"]);
    terminal.wait_until_raw();
    kill_process(Pid::from_child(&berth), Signal::TERM).unwrap();
    assert_eq!(berth.wait().unwrap().code(), Some(143));
    assert!(terminal.is_cooked());
}

#[test]
fn a_daemon_that_dies_restores_the_terminal() {
    let daemon = FakeDaemon::running(|mut stream| {
        let mut key = [0];
        stream.read_exact(&mut key).unwrap();
        // The connection ends as if the daemon had been killed; its answer to the wait never comes in order.
        -1
    });
    daemon.answer("POST /containers/c0ffee/wait", 200, "{");
    let mut terminal = Terminal::open();
    let mut berth = terminal.start(&daemon, &["run", "-it", "busybox", "sh"]);
    terminal.wait_until_raw();
    terminal.type_keys("x");
    assert_eq!(berth.wait().unwrap().code(), Some(125));
    assert!(terminal.is_cooked());
}

#[test]
fn a_terminal_that_is_resized_resizes_the_containers() {
    let daemon = FakeDaemon::running(echo);
    let mut terminal = Terminal::open();
    let mut berth = terminal.start(&daemon, &["run", "-it", "busybox", "sh"]);
    terminal.wait_until_raw();
    daemon.wait_for("POST /containers/c0ffee/resize?h=24&w=80");
    tcsetwinsize(&terminal.user, Winsize { ws_row: 50, ws_col: 132, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    // The kernel tells only the terminal's foreground group, which a test's child is not in.
    kill_process(Pid::from_child(&berth), Signal::WINCH).unwrap();
    daemon.wait_for("POST /containers/c0ffee/resize?h=50&w=132");
    terminal.type_keys("0");
    assert_eq!(berth.wait().unwrap().code(), Some(0));
}

#[test]
fn input_that_is_no_terminal_is_refused_for_it() {
    let daemon = FakeDaemon::running(echo);
    let said = daemon.berth(&["run", "-it", "busybox", "sh"]);
    assert!(said.stderr.contains("the input device is not a TTY"), "{said:?}");
    assert!(said.status != Some(0) && daemon.requests().is_empty(), "{said:?}");
}

#[test]
fn a_password_is_not_shown_while_it_is_typed() {
    let daemon = FakeDaemon::idle();
    daemon.answer("POST /auth", 200, &json!({"Status": "Login Succeeded"}).to_string());
    let mut terminal = Terminal::open();
    let mut berth = terminal.start(&daemon, &["login", "r:5000"]);
    assert_eq!(terminal.read_until(": "), "Username for r:5000: ");
    terminal.type_keys("me\n");
    assert_eq!(terminal.read_until("Password: "), "me\r\nPassword: ");
    terminal.type_keys("secret\n");
    assert_eq!(terminal.read_until("Succeeded\r\n"), "\r\nLogin Succeeded\r\n");
    assert_eq!(berth.wait().unwrap().code(), Some(0));
    assert!(terminal.is_cooked());
    assert_eq!(daemon.body_of("POST /auth")["password"], "secret");
}

#[test]
fn an_interrupted_password_leaves_the_terminal_as_it_was() {
    let daemon = FakeDaemon::idle();
    let mut terminal = Terminal::open();
    let mut berth = terminal.start(&daemon, &["login", "-u", "me", "r:5000"]);
    terminal.read_until("Password: ");
    assert!(!terminal.is_cooked());
    kill_process(Pid::from_child(&berth), Signal::INT).unwrap();
    assert_eq!(berth.wait().unwrap().code(), Some(130));
    assert!(terminal.is_cooked());
}

#[test]
fn a_pull_on_a_terminal_draws_each_layer_once_and_the_result_below() {
    let daemon = FakeDaemon::idle();
    let progress = concat!(
        "{\"status\":\"Pulling from library/busybox\",\"id\":\"latest\"}\r\n",
        "{\"status\":\"Downloading\",\"progressDetail\":{\"current\":1,\"total\":2},\"id\":\"aa\"}\r\n",
        "{\"status\":\"Pull complete\",\"progressDetail\":{},\"id\":\"aa\"}\r\n",
        "{\"status\":\"Digest: sha256:00\"}\r\n",
    );
    daemon.answer("POST /images/create", 200, progress);
    let mut terminal = Terminal::open();
    let line = || Stdio::from(terminal.line.try_clone().unwrap());
    let mut command = daemon.command(&["pull", "busybox"]);
    let mut berth = command.env("TERM", "xterm").stdout(line()).stderr(line()).spawn().unwrap();
    let seen = terminal.read_until("docker.io/library/busybox:latest\r\n");
    assert_eq!(berth.wait().unwrap().code(), Some(0));
    let place = |text: &str| seen.rfind(text).unwrap_or_else(|| panic!("{text} is not in {seen:?}"));
    assert!(place("latest: Pulling from") < place("aa: Pull complete"), "{seen:?}");
    assert!(place("aa: Pull complete") < place("Digest: sha256:00"), "{seen:?}");
}
