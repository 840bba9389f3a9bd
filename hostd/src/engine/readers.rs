//! Who is busy with a container's files in a machine. The machine ends when nobody is any more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// Those of one machine.
#[derive(Debug)]
pub(super) struct Readers {
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    count: usize,
    /// Somebody waits for the machine's end.
    is_awaited: bool,
    /// The machine ends: nobody can begin any more.
    is_closed: bool,
}

/// One of them, until it goes.
#[derive(Debug)]
pub(super) struct Reading {
    readers: Arc<Readers>,
}

impl Readers {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { state: watch::Sender::new(State::default()) })
    }

    /// Keeps the machine; nothing if it is too late for that.
    pub(super) fn begin(self: &Arc<Self>) -> Option<Reading> {
        let begun = self.state.send_if_modified(|state| {
            if !state.is_closed {
                state.count += 1;
            }
            !state.is_closed
        });
        begun.then(|| Reading { readers: Arc::clone(self) })
    }

    /// Waits until nobody is busy, nor anybody else begins within `linger`, and closes. Nobody who waits for the end
    /// waits for the lingering.
    pub(super) async fn close(&self, linger: Duration) {
        let mut seen = self.state.subscribe();
        loop {
            // The sender is ours, so it is there. What is waited for is locked until it is dropped.
            drop(seen.wait_for(|state| state.count == 0).await);
            let disturbed = seen.wait_for(|state| state.count > 0 || state.is_awaited);
            drop(timeout(linger, disturbed).await);
            let closed = self.state.send_if_modified(|state| {
                state.is_closed = state.count == 0;
                state.is_closed
            });
            if closed {
                return;
            }
        }
    }

    /// Somebody waits for the end.
    pub(super) fn hurry(&self) {
        self.state.send_modify(|state| state.is_awaited = true);
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.readers.state.send_modify(|state| state.count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(1000);

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_all_and_comes_to_those_who_are_late() {
        let readers = Readers::new();
        let (first, second) = (readers.begin().unwrap(), readers.begin().unwrap());
        let closing = tokio::spawn({
            let readers = Arc::clone(&readers);
            async move { readers.close(LONG).await }
        });
        drop(first);
        tokio::time::sleep(2 * LONG).await;
        assert!(!closing.is_finished(), "one is busy");
        drop(second);
        tokio::time::sleep(LONG / 2).await;
        let late = readers.begin().expect("it lingers");
        drop(late);
        tokio::time::sleep(LONG / 2).await;
        assert!(!closing.is_finished(), "it lingers anew");
        tokio::time::sleep(LONG).await;
        closing.await.unwrap();
        assert!(readers.begin().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_the_end_waits_for_readers_alone() {
        let readers = Readers::new();
        let reading = readers.begin().unwrap();
        let closing = tokio::spawn({
            let readers = Arc::clone(&readers);
            async move { readers.close(LONG).await }
        });
        readers.hurry();
        tokio::time::sleep(LONG / 4).await;
        assert!(!closing.is_finished());
        drop(reading);
        let before = tokio::time::Instant::now();
        closing.await.unwrap();
        assert_eq!(before.elapsed(), Duration::ZERO);
    }
}
