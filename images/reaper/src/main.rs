//! The program of the `reaper` image, for tests: it does what testcontainers' Ryuk does, as far as its clients see it.
//!
//! A client connects to port 8080 and says lines as "label=NAME=VALUE", each of which is acknowledged. When the last client has gone
//! and none has come back in time, all containers, networks and volumes that any line fits are removed, by the engine's
//! socket in the container. It trusts its clients and the engine.
//!
//! As `reaper connect SOCKET` it passes its stdin to a unix socket, and what that answers to its stdout; as `reaper ask SOCKET PATH`
//! it prints what an engine there has at a path.

mod engine;

use std::collections::BTreeSet;
use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

const ADDRESS: &str = "0.0.0.0:8080";
/// Ryuk's variable, and what it is without: how long a client may be away.
const TIMEOUT_VARIABLE: &str = "RYUK_RECONNECTION_TIMEOUT";
const DEFAULT_TIMEOUT_S: u64 = 10;

/// What becomes known of clients.
enum Heard {
    Came,
    Said(String),
    Went,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => reap(),
        ["connect", socket] => connect(socket),
        ["ask", socket, path] => engine::ask(socket, "GET", path).map(|answer| println!("{answer}")),
        _ => Err(io::Error::other("usage: reaper [connect SOCKET | ask SOCKET PATH]")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reaper: {error}");
            ExitCode::FAILURE
        }
    }
}

fn connect(path: &str) -> io::Result<()> {
    let socket = UnixStream::connect(path)?;
    let mut writer = socket.try_clone()?;
    let writing = thread::spawn(move || {
        // Who answers and hangs up need not have heard everything.
        let _unheard = io::copy(&mut io::stdin(), &mut writer);
        let _gone = writer.shutdown(Shutdown::Write);
    });
    io::copy(&mut &socket, &mut io::stdout())?;
    io::stdout().flush()?;
    // It may wait for a stdin that nobody closes.
    drop(writing);
    Ok(())
}

fn reap() -> io::Result<()> {
    let listener = TcpListener::bind(ADDRESS)?;
    let timeout = timeout(env::var(TIMEOUT_VARIABLE).ok().as_deref());
    let (sender, heard) = mpsc::channel();
    thread::spawn(move || accept(&listener, &sender));
    println!("reaper Started!");
    let (mut clients, mut filters) = (0_usize, BTreeSet::new());
    loop {
        let waiting = if clients == 0 && !filters.is_empty() { timeout } else { Duration::MAX };
        match heard.recv_timeout(waiting) {
            Ok(Heard::Came) => clients += 1,
            Ok(Heard::Said(filter)) => drop(filters.insert(filter)),
            Ok(Heard::Went) => clients -= 1,
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("nobody can connect")),
        }
    }
    filters.iter().try_for_each(|filter| engine::remove_all(filter))
}

fn accept(listener: &TcpListener, sender: &Sender<Heard>) {
    for client in listener.incoming().flatten() {
        let sender = sender.clone();
        thread::spawn(move || {
            // The end of the program is the end of all who are listened to.
            let _over = sender.send(Heard::Came);
            let _broken = listen(&client, &sender);
            let _over = sender.send(Heard::Went);
        });
    }
}

fn listen(client: &TcpStream, sender: &Sender<Heard>) -> io::Result<()> {
    for line in BufReader::new(client.try_clone()?.take(1 << 20)).lines() {
        if let Some(label) = line?.trim().strip_prefix("label=") {
            sender.send(Heard::Said(label.to_owned())).map_err(io::Error::other)?;
            (&mut &*client).write_all(b"ACK\n")?;
        }
    }
    Ok(())
}

/// "10s", or a number of seconds.
fn timeout(text: Option<&str>) -> Duration {
    let seconds = text.map(|text| text.trim_end_matches('s').parse());
    Duration::from_secs(seconds.and_then(Result::ok).unwrap_or(DEFAULT_TIMEOUT_S))
}
