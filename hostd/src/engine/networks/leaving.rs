//! Who leaves: containers that have ended, and whose machines have not yet. To clients they are gone. What they have of
//! networks is given back a moment later, and whoever wants the same meanwhile waits for that moment.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::super::identity::ContainerId;

/// A machine ends at once, but for readers of its files.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Leaving(watch::Sender<BTreeSet<ContainerId>>);

impl Leaving {
    pub(super) fn begin(&self, container: &ContainerId) {
        self.0.send_modify(|leaving| {
            leaving.insert(container.clone());
        });
    }

    pub(super) fn end(&self, container: &ContainerId) {
        self.0.send_if_modified(|leaving| leaving.remove(container));
    }

    pub(super) fn has(&self, container: &ContainerId) -> bool {
        self.0.borrow().contains(container)
    }

    /// Waits for those who leave now; who begins later is not waited for. `false` if nobody left: there was none, or it
    /// took too long.
    pub(super) async fn wait(&self, whom: impl Fn(&ContainerId) -> bool) -> bool {
        let mut changes = self.0.subscribe();
        let awaited: Vec<_> = changes.borrow_and_update().iter().filter(|id| whom(id)).cloned().collect();
        let gone = changes.wait_for(|leaving| !awaited.iter().any(|id| leaving.contains(id)));
        !awaited.is_empty() && timeout(PATIENCE, gone).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_leaves_is_waited_for_and_nobody_else() {
        let (leaving, [first, second]) = (Leaving::default(), [ContainerId::random(), ContainerId::random()]);
        assert!(!leaving.wait(|_| true).await, "nobody leaves");
        leaving.begin(&first);
        assert!(!leaving.wait(|id| *id == second).await);
        assert!(!leaving.wait(|_| true).await, "it does not take for ever");
        let wait = leaving.wait(|_| true);
        let end = async {
            leaving.begin(&second);
            leaving.end(&first);
        };
        assert!(tokio::join!(wait, end).0, "the second came later");
        assert!(leaving.has(&second) && !leaving.has(&first));
    }
}
