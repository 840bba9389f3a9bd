//! A daemon of a few lines for the CLI's tests: one container whose program is a closure, and fixed answers for
//! everything else. It speaks HTTP by hand, so that nothing the CLI uses tests itself.

#![expect(clippy::unwrap_used, reason = "a fake that cannot go on fails its test")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Nothing here takes long; a test that waits longer has found a hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// What runs in the fake container: gets the attached stream, returns the exit status.
type Program = dyn Fn(UnixStream) -> i64 + Send + Sync;

pub(crate) struct FakeDaemon {
    directory: TempDir,
    state: Arc<State>,
}

struct State {
    program: Box<Program>,
    version: Mutex<String>,
    answers: Mutex<HashMap<String, (u16, String)>>,
    /// Requests that are answered before their body is read.
    early: Mutex<Vec<String>>,
    requests: Mutex<Vec<(String, String)>>,
    /// Who asked, by request.
    users: Mutex<HashMap<String, Value>>,
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Default)]
struct Progress {
    attached: Option<UnixStream>,
    status: Option<i64>,
}

impl FakeDaemon {
    /// A daemon whose container runs `program`.
    pub(crate) fn running(program: impl Fn(UnixStream) -> i64 + Send + Sync + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("d.sock")).unwrap();
        let state = Arc::new(State {
            program: Box::new(program),
            version: Mutex::new("1.51".to_owned()),
            answers: Mutex::default(),
            early: Mutex::default(),
            requests: Mutex::default(),
            users: Mutex::default(),
            progress: Mutex::default(),
            changed: Condvar::new(),
        });
        let daemon = Self { directory, state: Arc::clone(&state) };
        daemon.answer("GET /_ping", 200, "OK");
        daemon.answer("POST /containers/create", 201, &json!({"Id": "c0ffee", "Warnings": []}).to_string());
        daemon.describe(false, false);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let state = Arc::clone(&state);
                std::thread::spawn(move || serve(&state, stream.unwrap()));
            }
        });
        daemon
    }

    /// A daemon that runs nothing.
    pub(crate) fn idle() -> Self {
        Self::running(|_| 0)
    }

    /// `GET /containers/c0ffee/json` (and by the name `web`).
    pub(crate) fn describe(&self, tty: bool, auto_remove: bool) {
        let description = json!({
            "Id": "c0ffee", "Name": "/web", "State": {"Status": "running", "Running": true},
            "Config": {"Tty": tty, "OpenStdin": true}, "HostConfig": {"AutoRemove": auto_remove}
        });
        for name in ["c0ffee", "web"] {
            self.answer(&format!("GET /containers/{name}/json"), 200, &description.to_string());
        }
    }

    /// What `METHOD /path` (without version and query) is answered from now on.
    pub(crate) fn answer(&self, request: &str, status: u16, body: &str) {
        self.state.answers.lock().unwrap().insert(request.to_owned(), (status, body.to_owned()));
    }

    /// The same, without reading the request's body.
    pub(crate) fn refuse_early(&self, request: &str, status: u16, body: &str) {
        self.answer(request, status, body);
        self.state.early.lock().unwrap().push(request.to_owned());
    }

    /// `berth ARGUMENTS` against this daemon, not started yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
        command.arg("-H").arg(format!("unix://{}/d.sock", self.directory.path().display()));
        command.args(arguments).env_remove("DOCKER_DEFAULT_PLATFORM");
        command.env("DOCKER_CONFIG", self.docker_config()).stdin(Stdio::null());
        command
    }

    /// The newest API version that the daemon speaks, 1.51 unless told otherwise.
    pub(crate) fn speaks(&self, version: &str) {
        *self.state.version.lock().unwrap() = version.to_owned();
    }

    pub(crate) fn berth(&self, arguments: &[&str]) -> Said {
        Said::from(self.command(arguments).output().unwrap())
    }

    /// Every request but the version's, as `METHOD /path?query`, in order.
    pub(crate) fn requests(&self) -> Vec<String> {
        let requests = self.state.requests.lock().unwrap();
        requests.iter().map(|(request, _)| request.clone()).filter(|r| r != "GET /_ping").collect()
    }

    /// The body of the first request that begins so.
    pub(crate) fn body_of(&self, request: &str) -> Value {
        let requests = self.state.requests.lock().unwrap();
        let (_, body) = requests.iter().find(|(name, _)| name.starts_with(request)).unwrap();
        serde_json::from_str(body).unwrap()
    }

    /// What the last `METHOD /path` said in `X-Registry-Auth`.
    pub(crate) fn user_of(&self, request: &str) -> Option<Value> {
        self.state.users.lock().unwrap().get(request).cloned()
    }

    /// The directory that the CLI keeps logins in.
    pub(crate) fn docker_config(&self) -> PathBuf {
        self.directory.path().join("docker")
    }

    /// Blocks until a request that begins so has come.
    pub(crate) fn wait_for(&self, request: &str) {
        let requests = self.state.requests.lock().unwrap();
        let missing = |requests: &mut Vec<(String, String)>| {
            !requests.iter().any(|(name, _)| name.starts_with(request))
        };
        let (_guard, result) = self.state.changed.wait_timeout_while(requests, PATIENCE, missing).unwrap();
        assert!(!result.timed_out(), "no {request} came");
    }
}

/// How a `berth` ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A frame of the multiplexed stream.
pub(crate) fn frame(kind: u8, payload: &str) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 0, 0];
    bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(payload.as_bytes());
    bytes
}

fn serve(state: &Arc<State>, stream: UnixStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let Some(head) = read_head(&mut reader) else { return };
    let version = state.version.lock().unwrap().clone();
    let target = head.target.strip_prefix(&format!("/v{version}")).unwrap_or(&head.target).to_owned();
    let path = target.split('?').next().unwrap();
    let request = format!("{} {path}", head.method);
    let early = state.early.lock().unwrap().contains(&request);
    let Some(body) = (if early { Some(String::new()) } else { read_body(&mut reader, &head) }) else {
        return;
    };
    if let Some(auth) = head.auth {
        let json = URL_SAFE.decode(auth).unwrap();
        state.users.lock().unwrap().insert(request.clone(), serde_json::from_slice(&json).unwrap());
    }
    state.requests.lock().unwrap().push((format!("{} {target}", head.method), body));
    state.changed.notify_all();
    let fixed = state.answers.lock().unwrap().get(&request).cloned();
    let answered = match (fixed, path.rsplit('/').next().unwrap()) {
        (Some((status, body)), _) => reply(&stream, &version, status, &body),
        (None, "attach") => attach(state, stream),
        (None, "wait") => wait(state, &stream),
        (None, "start") if path.starts_with("/exec/") => exec(state, stream),
        (None, "start") => start(state, &stream, &version),
        (None, "kill" | "resize") => reply(&stream, &version, 204, ""),
        (None, _) => {
            reply(&stream, &version, 404, &json!({"message": format!("no answer for {request}")}).to_string())
        }
    };
    // Errors while answering are the client's hanging up, which some tests make it do.
    drop(answered);
}

struct Head {
    method: String,
    target: String,
    length: usize,
    chunked: bool,
    /// `X-Registry-Auth`, as it came.
    auth: Option<String>,
}

fn read_head(reader: &mut BufReader<UnixStream>) -> Option<Head> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let mut head = Head { method, target, length: 0, chunked: false, auth: None };
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let original = header.trim();
        let header = original.to_ascii_lowercase();
        if header.is_empty() {
            return Some(head);
        }
        if header.starts_with("x-registry-auth: ") {
            head.auth = original.split(' ').nth(1).map(str::to_owned);
        }
        if let Some(value) = header.strip_prefix("content-length: ") {
            head.length = value.parse().ok()?;
        }
        head.chunked |= header == "transfer-encoding: chunked";
    }
}

fn read_body(reader: &mut BufReader<UnixStream>, head: &Head) -> Option<String> {
    let mut body = vec![0; head.length];
    reader.read_exact(&mut body).ok()?;
    let mut more = head.chunked;
    while more {
        let mut size = String::new();
        reader.read_line(&mut size).ok()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).ok()?;
        body.extend_from_slice(&chunk[..size]);
        more = size > 0;
    }
    Some(String::from_utf8_lossy(&body).into_owned())
}

fn reply(mut stream: &UnixStream, version: &str, status: u16, body: &str) -> std::io::Result<()> {
    let length = if status == 204 { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    write!(stream, "HTTP/1.1 {status} X\r\nApi-Version: {version}\r\n{length}\r\n{body}")
}

const TIMELINE: &str = r#"[{"Phase":"image","Milliseconds":1.5},{"Phase":"machine","Milliseconds":2.0}]"#;

const UPGRADED: &[u8] =
    b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";

/// Keeps the stream before it says so: the client's start may come at once.
fn attach(state: &State, mut stream: UnixStream) -> std::io::Result<()> {
    let mut progress = state.progress.lock().unwrap();
    stream.write_all(UPGRADED)?;
    progress.attached = Some(stream);
    Ok(())
}

/// Says at once that the wait is registered, and later how it ended.
fn wait(state: &State, mut stream: &UnixStream) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    let progress = state.progress.lock().unwrap();
    let (progress, _) =
        state.changed.wait_timeout_while(progress, PATIENCE, |progress| progress.status.is_none()).unwrap();
    let body = json!({"StatusCode": progress.status.expect("the program ended in time")}).to_string();
    write!(stream, "{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

fn start(state: &Arc<State>, stream: &UnixStream, version: &str) -> std::io::Result<()> {
    let attached = state.progress.lock().unwrap().attached.take();
    write!(
        &mut &*stream,
        "HTTP/1.1 204 X\r\nApi-Version: {version}\r\nBerth-Start-Timeline: {TIMELINE}\r\n\r\n"
    )?;
    if let Some(attached) = attached {
        run(state, &attached);
    }
    Ok(())
}

fn exec(state: &Arc<State>, mut stream: UnixStream) -> std::io::Result<()> {
    stream.write_all(UPGRADED)?;
    run(state, &stream);
    Ok(())
}

fn run(state: &Arc<State>, attached: &UnixStream) {
    let status = (state.program)(attached.try_clone().unwrap());
    state.progress.lock().unwrap().status = Some(status);
    state.changed.notify_all();
    drop(attached.shutdown(Shutdown::Both));
}
