//! What `cargo xtask bench io` moves over networks, inside containers and beside them: bytes one way, and questions with
//! their answers. It measures itself, so that how it was started is no part of the figures.
//!
//! ```text
//! traffic serve PORT               takes what the others below send; ends with its process
//! traffic send ADDRESS SECONDS     prints BYTES NANOSECONDS, until the server had the last byte
//! traffic ask ADDRESS SECONDS      prints COUNT MEDIAN P99, the latter in nanoseconds
//! ```
//!
//! A server greets first: something else may accept a connection long before anybody listens behind it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

const GREETING: u8 = b'!';
/// What a client wants of the server.
const SWALLOW: u8 = b's';
const ECHO: u8 = b'e';

const PIECE_BYTES: usize = 128 * 1024;
/// A question is as large as its answer.
const QUESTION_BYTES: usize = 64;
/// Neither the first packets' neighbours nor cold code are what is asked for.
const UNCOUNTED: usize = 20;

/// Until a server greets.
const CONNECT_DEADLINE: Duration = Duration::from_secs(60);
const CONNECT_PAUSE: Duration = Duration::from_millis(50);
/// Nobody is silent for so long.
const SILENCE_DEADLINE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["serve", port] => number(port).and_then(serve),
        ["send", address, seconds] => number(seconds).and_then(|seconds| send(address, seconds)),
        ["ask", address, seconds] => number(seconds).and_then(|seconds| ask(address, seconds)),
        _ => Err(io::Error::new(
            ErrorKind::InvalidInput,
            "serve PORT | send ADDRESS SECONDS | ask ADDRESS SECONDS",
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("traffic: {error}");
            ExitCode::FAILURE
        }
    }
}

fn number<T: std::str::FromStr>(text: &str) -> io::Result<T> {
    text.parse().map_err(|_| io::Error::new(ErrorKind::InvalidInput, format!("{text} is no number")))
}

fn serve(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    for connection in listener.incoming() {
        let connection = connection?;
        thread::spawn(move || {
            // Who hangs up has its reasons, and says so itself.
            drop(answer(connection));
        });
    }
    Ok(())
}

fn answer(mut connection: TcpStream) -> io::Result<()> {
    connection.set_nodelay(true)?;
    connection.write_all(&[GREETING])?;
    let mut wish = [0];
    connection.read_exact(&mut wish)?;
    let mut piece = vec![0; PIECE_BYTES];
    let mut total = 0_u64;
    loop {
        let count = connection.read(&mut piece)?;
        if count == 0 {
            break;
        }
        total += count as u64;
        if wish == [ECHO] {
            connection.write_all(&piece[..count])?;
        }
    }
    if wish == [SWALLOW] {
        connection.write_all(&total.to_be_bytes())?;
    }
    Ok(())
}

fn send(address: &str, seconds: u64) -> io::Result<()> {
    let mut connection = connect(address, SWALLOW)?;
    let piece = vec![0x5a; PIECE_BYTES];
    let mut sent = 0_u64;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(seconds) {
        connection.write_all(&piece)?;
        sent += PIECE_BYTES as u64;
    }
    connection.shutdown(Shutdown::Write)?;
    let mut received = [0; 8];
    connection.read_exact(&mut received)?;
    let took = begun.elapsed();
    if u64::from_be_bytes(received) != sent {
        return Err(io::Error::new(ErrorKind::InvalidData, "the server had another number of bytes"));
    }
    println!("{sent} {}", took.as_nanos());
    Ok(())
}

fn ask(address: &str, seconds: u64) -> io::Result<()> {
    let mut connection = connect(address, ECHO)?;
    let question = [0x5a; QUESTION_BYTES];
    let mut reply = [0; QUESTION_BYTES];
    let mut round_trips = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(seconds) || round_trips.len() <= UNCOUNTED {
        let asked = Instant::now();
        connection.write_all(&question)?;
        connection.read_exact(&mut reply)?;
        round_trips.push(asked.elapsed().as_nanos());
    }
    round_trips.drain(..UNCOUNTED);
    round_trips.sort_unstable();
    let percentile = |percent: usize| round_trips[(round_trips.len() * percent).div_ceil(100) - 1];
    println!("{} {} {}", round_trips.len(), percentile(50), percentile(99));
    Ok(())
}

/// A connection to a server that has greeted and knows what is wanted.
fn connect(address: &str, wish: u8) -> io::Result<TcpStream> {
    let begun = Instant::now();
    loop {
        match try_connect(address, wish) {
            Err(_nobody_yet) if begun.elapsed() < CONNECT_DEADLINE => thread::sleep(CONNECT_PAUSE),
            Err(error) => {
                return Err(io::Error::new(error.kind(), format!("{address} does not greet: {error}")));
            }
            connected => return connected,
        }
    }
}

fn try_connect(address: &str, wish: u8) -> io::Result<TcpStream> {
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(SILENCE_DEADLINE))?;
    connection.set_nodelay(true)?;
    let mut greeting = [0];
    connection.read_exact(&mut greeting)?;
    if greeting != [GREETING] {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is something else"));
    }
    connection.write_all(&[wish])?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            listener.incoming().flatten().for_each(|connection| answer(connection).unwrap());
        });
        address
    }

    #[test]
    fn what_is_sent_is_counted_by_who_has_it() {
        let mut connection = connect(&server(), SWALLOW).unwrap();
        connection.write_all(b"five!").unwrap();
        connection.shutdown(Shutdown::Write).unwrap();
        let mut count = [0; 8];
        connection.read_exact(&mut count).unwrap();
        assert_eq!(u64::from_be_bytes(count), 5);
    }

    #[test]
    fn a_question_is_answered_with_itself() {
        let mut connection = connect(&server(), ECHO).unwrap();
        for question in [*b"one", *b"two"] {
            connection.write_all(&question).unwrap();
            let mut reply = [0; 3];
            connection.read_exact(&mut reply).unwrap();
            assert_eq!(reply, question);
        }
    }
}
