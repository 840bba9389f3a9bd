//! A small client of QEMU's monitor protocol: one JSON object a line, replies in order, events in between.
//!
//! Speaks only what a machine needs: stop, continue, and why QEMU went down.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

/// QEMU's lines are short; a longer one is not QEMU's.
const MAX_LINE_BYTES: u64 = 1 << 20;
/// A QEMU that does not answer for so long is stuck.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a command of the monitor failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QmpError {
    #[error("QEMU's monitor")]
    Broken(#[from] io::Error),
    #[error("QEMU's monitor did not answer {0:?}")]
    Silent(&'static str),
    #[error("QEMU refused {command:?}: {reason}")]
    Refused { command: &'static str, reason: String },
}

/// The connection. Commands of several threads go one after the other.
#[derive(Debug)]
pub(crate) struct Qmp {
    conversation: Mutex<Conversation>,
}

#[derive(Debug)]
struct Conversation {
    stream: UnixStream,
    answers: Receiver<Value>,
}

/// Reads the monitor's lines until QEMU closes it; gives the reason of its SHUTDOWN event, if it sent one.
pub(crate) type Listener = JoinHandle<Option<String>>;

impl Qmp {
    /// Begins the conversation; QEMU need not be running yet.
    ///
    /// # Errors
    /// The host is out of descriptors or threads.
    pub(crate) fn begin(stream: UnixStream) -> io::Result<(Self, Listener)> {
        let (sender, answers) = channel();
        let reader = stream.try_clone()?;
        let mut conversation = Conversation { stream, answers };
        conversation.send("qmp_capabilities")?;
        let listener =
            std::thread::Builder::new().name("qmp".into()).spawn(move || listen(reader, &sender))?;
        Ok((Self { conversation: Mutex::new(conversation) }, listener))
    }

    /// Runs a command that takes no arguments and returns nothing.
    ///
    /// # Errors
    /// QEMU is gone, silent, or refuses.
    pub(crate) fn execute(&self, command: &'static str) -> Result<(), QmpError> {
        let mut conversation = self.conversation.lock().unwrap_or_else(PoisonError::into_inner);
        conversation.send(command)?;
        loop {
            let answer =
                conversation.answers.recv_timeout(ANSWER_TIMEOUT).map_err(|_| QmpError::Silent(command))?;
            if answer["id"] != command {
                continue;
            }
            return match answer.get("error") {
                None => Ok(()),
                Some(error) => Err(QmpError::Refused { command, reason: error["desc"].to_string() }),
            };
        }
    }
}

impl Conversation {
    fn send(&mut self, command: &'static str) -> io::Result<()> {
        let line = json!({ "execute": command, "id": command });
        self.stream.write_all(format!("{line}\n").as_bytes())
    }
}

/// Sorts what QEMU says: answers go to whoever waits, the SHUTDOWN event's reason is kept.
fn listen(stream: impl Read, answers: &Sender<Value>) -> Option<String> {
    let mut reason = None;
    let mut lines = BufReader::new(stream);
    let mut line = Vec::new();
    while lines.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        let Ok(message) = serde_json::from_slice::<Value>(&line) else { break };
        if message["event"] == "SHUTDOWN" {
            reason = message["data"]["reason"].as_str().map(str::to_owned);
        } else if message.get("return").or(message.get("error")).is_some() {
            // Nobody waits any more when the machine is going down.
            answers.send(message).ok();
        }
        line.clear();
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_find_their_commands_between_events() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (qmp, listener) = Qmp::begin(ours).unwrap();
        let qemu = std::thread::spawn(move || {
            let mut lines = BufReader::new(theirs.try_clone().unwrap()).lines();
            let say = |line: &str| (&theirs).write_all(format!("{line}\n").as_bytes()).unwrap();
            say(r#"{"QMP": {}}"#);
            assert!(lines.next().unwrap().unwrap().contains("qmp_capabilities"));
            say(r#"{"return": {}, "id": "qmp_capabilities"}"#);
            assert!(lines.next().unwrap().unwrap().contains("stop"));
            say(r#"{"event": "STOP"}"#);
            say(r#"{"return": {}, "id": "stop"}"#);
            assert!(lines.next().unwrap().unwrap().contains("cont"));
            say(r#"{"error": {"desc": "no"}, "id": "cont"}"#);
            say(r#"{"event": "SHUTDOWN", "data": {"reason": "guest-reset"}}"#);
        });
        qmp.execute("stop").unwrap();
        let refusal = qmp.execute("cont").unwrap_err();
        assert_eq!(refusal.to_string(), r#"QEMU refused "cont": "no""#);
        qemu.join().unwrap();
        assert_eq!(listener.join().unwrap().as_deref(), Some("guest-reset"));
        assert!(qmp.execute("stop").is_err());
    }

    #[test]
    fn nonsense_ends_the_conversation() {
        let (sender, _answers) = channel();
        assert_eq!(listen(&b"not json\n{\"event\": \"SHUTDOWN\"}\n"[..], &sender), None);
    }
}
