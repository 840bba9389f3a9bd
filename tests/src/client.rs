//! Somebody who types commands: the `docker` CLI or ours, pointed at a test's host.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::outcome::Outcome;
use crate::patience::DEADLINE;

/// A command line client.
#[derive(Clone, Debug)]
pub struct Client {
    pub name: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) host: String,
    /// The client's home: no configuration of whoever runs the tests.
    pub(crate) home: PathBuf,
}

impl Client {
    fn command<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        self.point_at_host(&mut command);
        command
    }

    pub(crate) fn point_at_host(&self, command: &mut Command) {
        command
            .env("DOCKER_HOST", &self.host)
            .env("HOME", &self.home)
            .env("DOCKER_CONFIG", self.home.join(".docker"));
        command.env_remove("BERTH_HOST").env_remove("DOCKER_CONTEXT");
    }

    /// The same client at another daemon's.
    #[must_use]
    pub fn of(&self, address: &str) -> Self {
        Self { host: address.to_owned(), ..self.clone() }
    }

    /// Types a command and waits for its end.
    ///
    /// # Panics
    /// If it cannot be run, or takes for ever.
    #[track_caller]
    pub fn run<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> Outcome {
        self.spawn(arguments).ends()
    }

    /// Types a command whose stdin is `input`, and then its end.
    ///
    /// # Panics
    /// As [`Client::run`].
    #[track_caller]
    pub fn run_with_input<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I, input: &[u8]) -> Outcome {
        let mut running = self.spawn(arguments);
        let mut stdin = running.stdin.take().expect("a running command has its stdin");
        let input = input.to_vec();
        let writer = std::thread::spawn(move || {
            // The program may end without reading everything.
            let _closed = stdin.write_all(&input);
        });
        let outcome = running.ends();
        writer.join().expect("writing does not panic");
        outcome
    }

    /// Types a line into a shell in whose PATH this client comes first, in the client's home.
    ///
    /// # Panics
    /// As [`Client::run`].
    #[track_caller]
    pub fn run_in_shell(&self, line: &str) -> Outcome {
        let ours = self.program.parent().map(Path::to_path_buf);
        let others = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(ours.into_iter().chain(std::env::split_paths(&others)));
        let mut command = Command::new("sh");
        command
            .args(["-c", line])
            .current_dir(&self.home)
            .env("PATH", path.expect("no colon in a directory"));
        self.point_at_host(&mut command);
        Running::start(line.to_owned(), command).ends()
    }

    /// Types a command on a terminal, which `script` provides.
    ///
    /// # Panics
    /// As [`Client::run`].
    #[track_caller]
    pub fn run_on_terminal(&self, arguments: &[&str], typed: &str) -> Outcome {
        let quoted = arguments.iter().map(|argument| format!("'{}'", argument.replace('\'', r"'\''")));
        let line = format!("{} {}", self.program.display(), quoted.collect::<Vec<_>>().join(" "));
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--echo", "never", "--command", &line, "/dev/null"]);
        self.point_at_host(&mut command);
        let mut running = Running::start(format!("{} on a terminal: {line}", self.name), command);
        let stdin = running.stdin.as_mut().expect("a running command has its stdin");
        stdin.write_all(typed.as_bytes()).expect("script reads what is typed");
        running.ends()
    }

    /// Starts a command and does not wait.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn spawn<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> Running {
        let command = self.command(arguments);
        let words =
            command.get_args().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
        Running::start(format!("{} {words}", self.name), command)
    }
}

/// A command that runs. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    pub stdin: Option<ChildStdin>,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Running {
    pub(crate) fn start(name: String, mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().map(BufReader::new);
        Self { name, child, stdin, stdout }
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of its stdout.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        let stdout = self.stdout.as_mut().expect("a running command has its stdout");
        stdout.read_line(&mut line).expect("stdout is text");
        assert!(line.ends_with('\n'), "{} ended after {line:?}", self.name);
        line.trim_end().to_owned()
    }

    /// The next line of its stdout, without its end; `None` at the end of all.
    ///
    /// # Panics
    /// If it prints what is no text.
    pub fn next_line(&mut self) -> Option<String> {
        let mut line = String::new();
        let stdout = self.stdout.as_mut().expect("a running command has its stdout");
        stdout.read_line(&mut line).expect("stdout is text");
        line.ends_with('\n').then(|| line.trim_end().to_owned())
    }

    /// Types a line.
    ///
    /// # Panics
    /// If it no longer reads.
    #[track_caller]
    pub fn types(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("a running command has its stdin");
        writeln!(stdin, "{line}").unwrap_or_else(|error| panic!("{} does not read: {error}", self.name));
    }

    /// Closes its stdin and waits for its end.
    ///
    /// # Panics
    /// If it takes for ever.
    #[track_caller]
    pub fn ends(mut self) -> Outcome {
        drop(self.stdin.take());
        let stdout = self.stdout.take().expect("a running command has its stdout");
        let stderr = self.child.stderr.take().expect("a running command has its stderr");
        let (stdout, stderr) = (collect(stdout), collect(stderr));
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                break status;
            }
            assert!(start.elapsed() < DEADLINE, "{} does not end", self.name);
            std::thread::sleep(Duration::from_millis(5));
        };
        let read = |reader: std::thread::JoinHandle<Vec<u8>>| reader.join().expect("reading does not panic");
        let output = std::process::Output { status, stdout: read(stdout), stderr: read(stderr) };
        Outcome::new(self.name.clone(), &output)
    }
}

fn collect(mut reader: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).expect("a pipe can be read");
        bytes
    })
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended, and then there is nothing to kill.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
