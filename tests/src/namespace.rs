//! A network of a test's own, with one address that is not loopback's: some rules are about just that.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::environment::{program, skip};
use crate::outcome::Outcome;

/// In the block that RFC 5737 keeps for documents: nobody is there.
const ADDRESS: [u8; 4] = [192, 0, 2, 1];

/// A network namespace; removed with the test.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// `None`, said aloud, where one cannot be made.
    #[must_use]
    pub fn new() -> Option<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        if program("ip").is_none() || program("nsenter").is_none() {
            skip("a network namespace needs `ip` and `nsenter`");
            return None;
        }
        let name = format!("berth-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        if let Err(reason) = ip(&["netns", "add", &name]) {
            skip(&format!("no network namespace can be made: {reason}"));
            return None;
        }
        let namespace = Self { name };
        let address = format!("{}/32", namespace.ip());
        for words in [&["address", "add", &address, "dev", "lo"][..], &["link", "set", "lo", "up"]] {
            ip(&[&["-n", &namespace.name], words].concat()).expect("a namespace of our own can be set up");
        }
        Some(namespace)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The address there that is not loopback's.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        ADDRESS.into()
    }

    /// Runs a command in it.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn run(&self, words: &[&str]) -> Outcome {
        let [program, arguments @ ..] = words else { panic!("no command") };
        let output = Self::enter(&self.name, Path::new(program)).args(arguments).output();
        Outcome::new(words.join(" "), &output.expect("a command can be started"))
    }

    /// A command in it, to be started.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        Self::enter(&self.name, Path::new(program))
    }

    /// What a server there answers to a request for its first page, as a client in the namespace sees it.
    #[must_use]
    pub fn get(&self, address: &str, port: u16) -> Outcome {
        let script =
            format!("exec 3<>/dev/tcp/{address}/{port} && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && cat <&3");
        self.run(&["timeout", "20", "bash", "-c", &script])
    }

    /// Does something in it, on a thread that goes there. What it opens is of the namespace.
    ///
    /// # Panics
    /// As what is done does, or if nobody may go there.
    pub fn visit<T: Send>(&self, story: impl FnOnce() -> T + Send) -> T {
        use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
        let namespace = std::fs::File::open(format!("/run/netns/{}", self.name)).expect("it is there");
        thread::scope(|scope| {
            let visit = scope.spawn(|| {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("who made it may go there");
                story()
            });
            visit.join().expect("the visit is part of the test")
        })
    }

    /// A command in the namespace of that name, which sees everything else as we do.
    pub(crate) fn enter(name: &str, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{name}")).arg(program);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(reason) = ip(&["netns", "delete", &self.name]) {
            eprintln!("the namespace {} stays: {reason}", self.name);
        }
    }
}

fn ip(words: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(words).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
