//! The event bus: what happened to containers and images, for whoever listens now or asks later.
//!
//! One bounded history serves everybody: a listener is a place in it. One that reads too slowly finds its place gone
//! and is told how many events it missed; nobody waits for it, and a listener that goes away leaves nothing behind.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::watch;

use super::Engine;
use super::container::Container;
use crate::image::Image;

/// Events that can be asked for later, and how far behind a listener may be.
const MAX_EVENTS: usize = 1024;
/// Of their names and values together: labels are as long as clients make them.
const MAX_HISTORY_BYTES: usize = 8 << 20;

/// What kind of thing an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Container,
    Image,
    Network,
    Volume,
    Daemon,
}

impl EventKind {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Network => "network",
            Self::Volume => "volume",
            Self::Daemon => "daemon",
        }
    }
}

/// Who it happened to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    pub id: String,
    pub attributes: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    /// Docker's word: `start`, `die`, `pull`; of an exec followed by its command, `exec_start: sh`.
    pub action: String,
    pub actor: Actor,
    /// Never before the event before it.
    pub time: Timestamp,
}

/// What a listener gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Event(Arc<Event>),
    /// So many events were forgotten before this listener came to read them.
    Missed(u64),
}

/// The bus. Clones share it.
#[derive(Clone, Debug)]
pub struct Events {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    history: Mutex<History>,
    /// How many events there have been: wakes those who listen.
    count: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct History {
    events: VecDeque<Arc<Event>>,
    /// Of all events in it.
    bytes: usize,
    /// The number of the event that comes next; the newest in the history has the one before.
    next: u64,
}

/// A listener's place in the history.
#[derive(Debug)]
pub struct Listener {
    events: Events,
    next: u64,
    count: watch::Receiver<u64>,
}

impl Default for Events {
    fn default() -> Self {
        let shared = Shared { history: Mutex::default(), count: watch::Sender::new(0) };
        Self { shared: Arc::new(shared) }
    }
}

impl Events {
    /// Tells everybody who listens. Never waits.
    pub fn publish(&self, kind: EventKind, action: impl Into<String>, actor: Actor) {
        let mut history = self.history();
        // A clock that was set back must not make events come before others.
        let earliest = history.events.back().map_or(Timestamp::MIN, |event| event.time);
        let time = Timestamp::now().max(earliest);
        history.push(Event { kind, action: action.into(), actor, time });
        let count = history.next;
        drop(history);
        // Two publishers may arrive here in another order than they got their numbers.
        self.shared.count.send_modify(|seen| *seen = count.max(*seen));
    }

    /// Listens from now on; with `since`, first to what is remembered from that time on.
    #[must_use]
    pub fn listen(&self, since: Option<Timestamp>) -> Listener {
        let count = self.shared.count.subscribe();
        let history = self.history();
        let next = since.map_or(history.next, |since| {
            let earlier = history.events.partition_point(|event| event.time < since);
            history.oldest() + earlier as u64
        });
        drop(history);
        Listener { events: self.clone(), next, count }
    }

    /// How many listen.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.shared.count.receiver_count()
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.shared.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History {
    fn push(&mut self, event: Event) {
        self.bytes += event.bytes();
        self.events.push_back(Arc::new(event));
        self.next += 1;
        while self.events.len() > MAX_EVENTS || (self.bytes > MAX_HISTORY_BYTES && self.events.len() > 1) {
            let forgotten = self.events.pop_front().expect("there is more than one");
            self.bytes -= forgotten.bytes();
        }
    }

    /// The number of the oldest event that is remembered, or of the next one.
    fn oldest(&self) -> u64 {
        self.next - self.events.len() as u64
    }

    fn heard(&self, number: u64) -> Option<(Heard, u64)> {
        let Some(place) = number.checked_sub(self.oldest()) else {
            return Some((Heard::Missed(self.oldest() - number), self.oldest()));
        };
        let event = usize::try_from(place).ok().and_then(|place| self.events.get(place))?;
        Some((Heard::Event(Arc::clone(event)), number + 1))
    }
}

impl Event {
    fn bytes(&self) -> usize {
        let attributes = self.actor.attributes.iter().map(|(name, value)| name.len() + value.len());
        size_of::<Self>() + self.action.len() + self.actor.id.len() + attributes.sum::<usize>()
    }
}

impl Listener {
    /// The next event, at once if there has been one already. Cancel-safe.
    pub async fn next(&mut self) -> Heard {
        loop {
            // Seen before looked at: what comes in between wakes us.
            self.count.borrow_and_update();
            if let Some((heard, next)) = self.events.history().heard(self.next) {
                self.next = next;
                return heard;
            }
            self.count.changed().await.expect("the sender lives in what this listener holds");
        }
    }
}

impl Engine {
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.shared.events
    }

    /// An event of an image. `id` and `name` are what Docker says of it: the image's id for both, but for a tag its
    /// name, and for pull and push the reference and the repository.
    pub fn publish_image(&self, action: &str, id: String, name: String, image: Option<&Image>) {
        let mut attributes = image.map(|image| image.config.labels.clone()).unwrap_or_default();
        attributes.insert("name".to_owned(), name);
        self.events().publish(EventKind::Image, action, Actor { id, attributes });
    }
}

impl Container {
    /// An event of this container, with what there is to say beside its image, name and labels.
    pub(super) fn publish(
        &self,
        action: impl Into<String>,
        more: impl IntoIterator<Item = (&'static str, String)>,
    ) {
        self.events.publish(EventKind::Container, action, self.actor(more));
    }

    /// Whom an event of this container is about.
    pub(super) fn actor(&self, more: impl IntoIterator<Item = (&'static str, String)>) -> Actor {
        let spec = self.spec();
        let mut attributes = spec.labels.clone();
        attributes.insert("image".to_owned(), spec.image.clone());
        attributes.insert("name".to_owned(), self.name().to_string());
        attributes.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
        Actor { id: self.id.to_string(), attributes }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    fn publish(events: &Events, action: &str) {
        events.publish(EventKind::Image, action, Actor::default());
    }

    /// What is there without waiting.
    fn heard(listener: &mut Listener) -> Vec<Heard> {
        let mut all = Vec::new();
        loop {
            let next = std::pin::pin!(listener.next());
            match next.poll(&mut Context::from_waker(Waker::noop())) {
                std::task::Poll::Ready(heard) => all.push(heard),
                std::task::Poll::Pending => return all,
            }
        }
    }

    fn actions(heard: &[Heard]) -> Vec<String> {
        let action = |heard: &Heard| match heard {
            Heard::Event(event) => event.action.clone(),
            Heard::Missed(count) => format!("missed {count}"),
        };
        heard.iter().map(action).collect()
    }

    #[test]
    fn a_listener_hears_what_happens_after_it_came() {
        let events = Events::default();
        publish(&events, "before");
        let mut listener = events.listen(None);
        assert_eq!(heard(&mut listener), []);
        publish(&events, "a");
        publish(&events, "b");
        assert_eq!(actions(&heard(&mut listener)), ["a", "b"]);
        assert_eq!(events.listeners(), 1);
        drop(listener);
        assert_eq!(events.listeners(), 0);
    }

    #[test]
    fn what_was_is_replayed_from_a_time_on() {
        let events = Events::default();
        publish(&events, "a");
        let since = Timestamp::now();
        publish(&events, "b");
        let mut late = events.listen(Some(since));
        let mut all = events.listen(Some(Timestamp::UNIX_EPOCH));
        publish(&events, "c");
        assert_eq!(actions(&heard(&mut late)), ["b", "c"]);
        assert_eq!(actions(&heard(&mut all)), ["a", "b", "c"]);
    }

    #[test]
    fn a_slow_listener_is_told_what_it_missed_and_goes_on() {
        let events = Events::default();
        let mut listener = events.listen(None);
        for _ in 0..MAX_EVENTS + 3 {
            publish(&events, "x");
        }
        let heard = heard(&mut listener);
        assert_eq!(heard[0], Heard::Missed(3));
        assert_eq!(heard.len(), 1 + MAX_EVENTS);
    }

    #[test]
    fn long_labels_do_not_make_the_history_long() {
        let events = Events::default();
        let mut listener = events.listen(None);
        for _ in 0..10 {
            let attributes = BTreeMap::from([("label".to_owned(), "x".repeat(MAX_HISTORY_BYTES / 4))]);
            events.publish(EventKind::Container, "start", Actor { id: String::new(), attributes });
        }
        let remembered = events.history().events.len();
        assert!((1..=4).contains(&remembered), "{remembered}");
        assert_eq!(heard(&mut listener)[0], Heard::Missed(10 - remembered as u64));
    }

    #[tokio::test]
    async fn a_listener_that_waits_is_woken() {
        let events = Events::default();
        let mut listener = events.listen(None);
        let waiting = tokio::spawn(async move { listener.next().await });
        tokio::task::yield_now().await;
        publish(&events, "a");
        assert_eq!(actions(&[waiting.await.unwrap()]), ["a"]);
    }
}
