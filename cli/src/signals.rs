//! Signals to this process, as things to wait for.
//!
//! Whoever catches them decides: forward to the container ([`forward_to`]), or end in good order.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::client::Client;

/// Signals that come faster than they are handled wait here; more are dropped, as the kernel does itself.
const QUEUE_LENGTH: usize = 16;
/// As many as Docker's client takes.
const SIGNALS_TO_GIVE_UP: u32 = 3;
/// A daemon that takes longer to forward a signal must not hold up the next.
const FORWARD_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signal {
    /// Without the `SIG`.
    pub(crate) name: &'static str,
    pub(crate) number: u8,
}

/// A stream of caught signals. While it lives their default effect is off; a signal once caught stays caught for the
/// rest of the process.
pub(crate) struct Signals {
    queue: mpsc::Receiver<Signal>,
}

impl Signals {
    /// Catches everything that a user may send a container through us.
    pub(crate) fn for_the_container() -> Self {
        Self::catch(platform::FORWARDED)
    }

    /// Catches only what would end this process, so that it can restore the terminal first.
    pub(crate) fn that_end_us() -> Self {
        Self::catch(platform::ENDING)
    }

    fn catch(signals: &'static [Signal]) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE_LENGTH);
        for signal in signals {
            platform::listen(*signal, sender.clone());
        }
        Self { queue }
    }

    /// The next signal; waits for ever if none comes.
    pub(crate) async fn next(&mut self) -> Signal {
        match self.queue.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }
}

/// Sends every signal on to the container for as long as it is polled. Returns the signal at which the user's patience
/// ended: the third that asks to end, for a daemon or a container that does not listen.
pub(crate) async fn forward_to(client: &Client, container: &str, mut signals: Signals) -> Signal {
    let mut asked_to_end = 0;
    loop {
        let signal = signals.next().await;
        asked_to_end += u32::from(matches!(signal.name, "INT" | "TERM"));
        if asked_to_end == SIGNALS_TO_GIVE_UP {
            return signal;
        }
        // A container that is not there yet, or not any more, has no use for it.
        drop(timeout(FORWARD_PATIENCE, client.kill(container, Some(signal.name))).await);
    }
}

/// Waits for the next change of the terminal's size.
pub(crate) struct Resizes {
    changes: platform::Resizes,
}

impl Resizes {
    pub(crate) fn watch() -> Self {
        Self { changes: platform::watch_resizes() }
    }

    pub(crate) async fn next(&mut self) {
        platform::next_resize(&mut self.changes).await;
    }
}

#[cfg(unix)]
mod platform {
    use tokio::signal::unix::{SignalKind, signal};
    use tokio::sync::mpsc;

    use super::Signal;

    const HUP: Signal = Signal { name: "HUP", number: 1 };
    const INT: Signal = Signal { name: "INT", number: 2 };
    const QUIT: Signal = Signal { name: "QUIT", number: 3 };
    const TERM: Signal = Signal { name: "TERM", number: 15 };

    #[cfg(target_os = "linux")]
    const USER: [Signal; 2] = [Signal { name: "USR1", number: 10 }, Signal { name: "USR2", number: 12 }];
    #[cfg(not(target_os = "linux"))]
    const USER: [Signal; 2] = [Signal { name: "USR1", number: 30 }, Signal { name: "USR2", number: 31 }];

    pub(super) const FORWARDED: &[Signal] = &[HUP, INT, QUIT, TERM, USER[0], USER[1]];
    pub(super) const ENDING: &[Signal] = &[HUP, INT, QUIT, TERM];

    pub(super) type Resizes = Option<tokio::signal::unix::Signal>;

    pub(super) fn listen(kind: Signal, sender: mpsc::Sender<Signal>) {
        let Ok(mut caught) = signal(SignalKind::from_raw(i32::from(kind.number))) else {
            // It keeps its default effect, which is what a system that cannot deliver it would give as well.
            return;
        };
        drop(tokio::spawn(async move {
            while caught.recv().await.is_some() {
                let _ = sender.try_send(kind);
            }
        }));
    }

    pub(super) fn watch_resizes() -> Resizes {
        signal(SignalKind::window_change()).ok()
    }

    pub(super) async fn next_resize(changes: &mut Resizes) {
        let changed = match changes {
            Some(changes) => changes.recv().await,
            None => None,
        };
        if changed.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(not(unix))]
mod platform {
    use tokio::sync::mpsc;

    use super::Signal;

    const INT: Signal = Signal { name: "INT", number: 2 };
    pub(super) const FORWARDED: &[Signal] = &[INT];
    pub(super) const ENDING: &[Signal] = &[INT];

    pub(super) struct Resizes;

    pub(super) fn listen(kind: Signal, sender: mpsc::Sender<Signal>) {
        drop(tokio::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                let _ = sender.try_send(kind);
            }
        }));
    }

    pub(super) fn watch_resizes() -> Resizes {
        Resizes
    }

    pub(super) async fn next_resize(_changes: &mut Resizes) {
        std::future::pending().await
    }
}
