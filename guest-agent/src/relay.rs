//! Questions on their way to the host, and answers on their way back.
//!
//! The host comes and goes: a question waits for the next connection, and one that an earlier connection took away is
//! handed to the next one again. What is asked, and what an answer is, is its users' business.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

/// The questions `Q` of one container, whose answers are `A`.
pub(crate) struct Relay<Q, A> {
    bounds: Bounds,
    waiting: RefCell<BTreeMap<u64, Waiting<Q, A>>>,
    last_id: Cell<u64>,
    /// The number of the latest connection; older ones get nothing more.
    latest: Cell<u64>,
    changed: Notify,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Questions without an answer so far; more are refused.
    pub(crate) waiting: usize,
    /// Nobody waits longer for an answer.
    pub(crate) deadline: Duration,
}

struct Waiting<Q, A> {
    query: Q,
    /// The connection that took it away last.
    taken_by: u64,
    reply: oneshot::Sender<A>,
}

impl<Q: Clone, A> Relay<Q, A> {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            waiting: RefCell::default(),
            last_id: Cell::default(),
            latest: Cell::default(),
            changed: Notify::default(),
        }
    }

    /// The host's answer to the question that is made with a number of its own; nothing if the host does not give one.
    pub(crate) async fn ask(&self, query: impl FnOnce(u64) -> Q) -> Option<A> {
        if self.waiting.borrow().len() >= self.bounds.waiting {
            return None;
        }
        let id = self.last_id.get() + 1;
        self.last_id.set(id);
        let (reply, answer) = oneshot::channel();
        let query = query(id);
        self.waiting.borrow_mut().insert(id, Waiting { query, taken_by: 0, reply });
        let _forget = Forget { waiting: &self.waiting, id };
        self.changed.notify_waiters();
        timeout(self.bounds.deadline, answer).await.ok()?.ok()
    }

    /// From here on all questions are for the connection with the number that this gives.
    pub(crate) fn connect(&self) -> u64 {
        self.latest.set(self.latest.get() + 1);
        self.changed.notify_waiters();
        self.latest.get()
    }

    /// The next question for a connection; nothing once there is a later one.
    pub(crate) async fn next(&self, connection: u64) -> Option<Q> {
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

    fn take(&self, connection: u64) -> Option<Q> {
        let mut waiting = self.waiting.borrow_mut();
        let next = waiting.values_mut().find(|waiting| waiting.taken_by < connection)?;
        next.taken_by = connection;
        Some(next.query.clone())
    }

    /// Whether that question has no answer so far, and somebody waits for one.
    pub(crate) fn waits(&self, id: u64) -> bool {
        self.waiting.borrow().contains_key(&id)
    }

    /// An answer to a question; given back if nobody waits for it (any more).
    ///
    /// # Errors
    /// The answer.
    pub(crate) fn answer(&self, id: u64, answer: A) -> Result<(), A> {
        match self.waiting.borrow_mut().remove(&id) {
            Some(waiting) => waiting.reply.send(answer),
            None => Err(answer),
        }
    }
}

/// Whoever stops waiting leaves nothing behind.
struct Forget<'a, Q, A> {
    waiting: &'a RefCell<BTreeMap<u64, Waiting<Q, A>>>,
    id: u64,
}

impl<Q, A> Drop for Forget<'_, Q, A> {
    fn drop(&mut self) {
        self.waiting.borrow_mut().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    const BOUNDS: Bounds = Bounds { waiting: 3, deadline: Duration::from_secs(60) };

    type Words = Relay<(u64, &'static str), &'static str>;

    fn block_on<T>(story: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        LocalSet::new().block_on(&runtime, story)
    }

    fn asked(relay: &Rc<Words>, question: &'static str) -> tokio::task::JoinHandle<Option<&'static str>> {
        let relay = Rc::clone(relay);
        spawn_local(async move { relay.ask(|id| (id, question)).await })
    }

    #[test]
    fn answers_find_who_asked_in_any_order() {
        block_on(async {
            let relay = Rc::new(Words::new(BOUNDS));
            let (first, second) = (asked(&relay, "first"), asked(&relay, "second"));
            let connection = relay.connect();
            let (a, b) = (relay.next(connection).await.unwrap(), relay.next(connection).await.unwrap());
            assert_eq!((a.1, b.1), ("first", "second"));
            assert!(relay.waits(b.0));
            relay.answer(b.0, "2").unwrap();
            assert!(!relay.waits(b.0));
            assert_eq!(relay.answer(77, "nobody's"), Err("nobody's"));
            relay.answer(a.0, "1").unwrap();
            assert_eq!(first.await.unwrap().unwrap(), "1");
            assert_eq!(second.await.unwrap().unwrap(), "2");
            assert!(relay.waiting.borrow().is_empty());
        });
    }

    #[test]
    fn the_next_host_is_asked_what_the_last_one_did_not_answer() {
        block_on(async {
            let relay = Rc::new(Words::new(BOUNDS));
            let asked = asked(&relay, "who");
            let lost = relay.connect();
            assert!(relay.next(lost).await.is_some());
            let found = relay.connect();
            assert!(relay.next(lost).await.is_none(), "there is a later one");
            let (id, _who) = relay.next(found).await.unwrap();
            relay.answer(id, "me").unwrap();
            assert_eq!(asked.await.unwrap().unwrap(), "me");
        });
    }

    #[test]
    fn a_flood_is_refused_and_leaves_nothing() {
        block_on(async {
            let relay = Rc::new(Words::new(BOUNDS));
            let many: Vec<_> = (0..BOUNDS.waiting).map(|_| asked(&relay, "x")).collect();
            while relay.waiting.borrow().len() < BOUNDS.waiting {
                tokio::task::yield_now().await;
            }
            assert_eq!(relay.ask(|id| (id, "one more")).await, None);
            for asking in many {
                asking.abort();
                assert!(asking.await.is_err());
            }
            assert!(relay.waiting.borrow().is_empty());
        });
    }
}
