//! Questions on their way to the host, and answers on their way back.
//!
//! The host comes and goes: a question waits for the next connection, and one that an earlier connection took away is
//! handed to the next one again.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use berth_protocol::agent::{NameAnswer, NameQuery};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

/// Questions of one container without an answer so far; more are refused.
const MAX_WAITING: usize = 256;
/// The host tries several servers one after the other; who asks has mostly given up by then.
const DEADLINE: Duration = Duration::from_secs(15);

/// Of one container.
#[derive(Default)]
pub(crate) struct Relay {
    waiting: RefCell<BTreeMap<u64, Waiting>>,
    last_id: Cell<u64>,
    /// The number of the latest connection; older ones get nothing more.
    latest: Cell<u64>,
    changed: Notify,
}

struct Waiting {
    query: NameQuery,
    /// The connection that took it away last.
    taken_by: u64,
    reply: oneshot::Sender<Vec<u8>>,
}

impl Relay {
    /// The host's answer, empty if there is to be none; nothing if the host does not give one.
    pub(super) async fn ask(&self, message: Vec<u8>, by_tcp: bool) -> Option<Vec<u8>> {
        if self.waiting.borrow().len() >= MAX_WAITING {
            return None;
        }
        let id = self.last_id.get() + 1;
        self.last_id.set(id);
        let (reply, answer) = oneshot::channel();
        let query = NameQuery { id, message, by_tcp };
        self.waiting.borrow_mut().insert(id, Waiting { query, taken_by: 0, reply });
        let _forget = Forget { relay: self, id };
        self.changed.notify_waiters();
        timeout(DEADLINE, answer).await.ok()?.ok()
    }

    /// From here on all questions are for the connection with the number that this gives.
    pub(crate) fn connect(&self) -> u64 {
        self.latest.set(self.latest.get() + 1);
        self.changed.notify_waiters();
        self.latest.get()
    }

    /// The next question for a connection; nothing once there is a later one.
    pub(crate) async fn next(&self, connection: u64) -> Option<NameQuery> {
        loop {
            let changed = self.changed.notified();
            if self.latest.get() != connection {
                return None;
            }
            if let Some(query) = self.take(connection) {
                return Some(query);
            }
            changed.await;
        }
    }

    fn take(&self, connection: u64) -> Option<NameQuery> {
        let mut waiting = self.waiting.borrow_mut();
        let next = waiting.values_mut().find(|waiting| waiting.taken_by < connection)?;
        next.taken_by = connection;
        Some(next.query.clone())
    }

    /// An answer to a question; to one that nobody waits for any more, it is nothing.
    pub(crate) fn answer(&self, answer: NameAnswer) {
        if let Some(waiting) = self.waiting.borrow_mut().remove(&answer.id) {
            // Whoever asked may have gone in this moment.
            let _gone = waiting.reply.send(answer.message);
        }
    }
}

/// Whoever stops waiting leaves nothing behind.
struct Forget<'a> {
    relay: &'a Relay,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.relay.waiting.borrow_mut().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    fn block_on<T>(story: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        LocalSet::new().block_on(&runtime, story)
    }

    fn asked(relay: &Rc<Relay>, message: &[u8]) -> tokio::task::JoinHandle<Option<Vec<u8>>> {
        let (relay, message) = (Rc::clone(relay), message.to_vec());
        spawn_local(async move { relay.ask(message, false).await })
    }

    #[test]
    fn answers_find_who_asked_in_any_order() {
        block_on(async {
            let relay = Rc::<Relay>::default();
            let (first, second) = (asked(&relay, b"first"), asked(&relay, b"second"));
            let connection = relay.connect();
            let a = relay.next(connection).await.unwrap();
            let b = relay.next(connection).await.unwrap();
            assert_eq!((a.message.as_slice(), b.message.as_slice()), (&b"first"[..], &b"second"[..]));
            relay.answer(NameAnswer { id: b.id, message: b"2".into() });
            relay.answer(NameAnswer { id: 77, message: b"nobody's".into() });
            relay.answer(NameAnswer { id: a.id, message: b"1".into() });
            assert_eq!(first.await.unwrap().unwrap(), b"1");
            assert_eq!(second.await.unwrap().unwrap(), b"2");
            assert!(relay.waiting.borrow().is_empty());
        });
    }

    #[test]
    fn the_next_host_is_asked_what_the_last_one_did_not_answer() {
        block_on(async {
            let relay = Rc::<Relay>::default();
            let asked = asked(&relay, b"who");
            let lost = relay.connect();
            assert!(relay.next(lost).await.is_some());
            let found = relay.connect();
            assert!(relay.next(lost).await.is_none(), "there is a later one");
            let query = relay.next(found).await.unwrap();
            relay.answer(NameAnswer { id: query.id, message: b"me".into() });
            assert_eq!(asked.await.unwrap().unwrap(), b"me");
        });
    }

    #[test]
    fn a_flood_is_refused_and_leaves_nothing() {
        block_on(async {
            let relay = Rc::<Relay>::default();
            let many: Vec<_> = (0..MAX_WAITING).map(|_| asked(&relay, b"x")).collect();
            while relay.waiting.borrow().len() < MAX_WAITING {
                tokio::task::yield_now().await;
            }
            assert_eq!(relay.ask(b"one more".into(), false).await, None);
            for asking in many {
                asking.abort();
                assert!(asking.await.is_err());
            }
            assert!(relay.waiting.borrow().is_empty());
        });
    }
}
