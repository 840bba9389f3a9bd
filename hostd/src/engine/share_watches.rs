//! For as long as a machine with shares runs: what its processes watch of them is watched on the host too, and they hear of
//! what others do there.
//!
//! Nothing of it is kept: the next daemon begins with what the machine watches then.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::agent_client::{AgentClient, CallError, ShareChangeWriter, ShareWatchReader};
use crate::machine::{Machine, ShareWatcher};

/// What the machine says is taken together that comes together.
const BATCH: usize = 1024;
/// Before a connection that has ended is made again.
const PAUSE: Duration = Duration::from_secs(1);

/// Until it is dropped; `None` for a machine without shares.
pub(super) fn begin(machine: &Machine, agent: &Arc<AgentClient>) -> Option<AbortOnDropHandle<()>> {
    let watcher = machine.shares()?.watcher();
    let agent = Arc::clone(agent);
    let follow = async move {
        match watcher {
            Ok(watcher) => follow(&agent, watcher).await,
            Err(error) => tracing::warn!(%error, "cannot look at what a machine has of shares"),
        }
    };
    Some(AbortOnDropHandle::new(tokio::spawn(follow)))
}

async fn follow(agent: &AgentClient, mut watcher: ShareWatcher) {
    loop {
        match agent.watch_shares().await {
            Ok((reader, writer)) => {
                if let Err(error) = relay(&mut watcher, reader, writer).await {
                    tracing::warn!(%error, "a machine does not hear of changes to its shares any more");
                    return;
                }
            }
            // It does not know what that is.
            Err(CallError::Agent { .. }) => return,
            Err(_out_of_reach) => {}
        }
        watcher.forget();
        tokio::time::sleep(PAUSE).await;
    }
}

/// Until the connection ends.
///
/// # Errors
/// Nothing can be watched.
async fn relay(
    watcher: &mut ShareWatcher,
    mut reader: ShareWatchReader,
    mut writer: ShareChangeWriter,
) -> std::io::Result<()> {
    let (sender, mut said) = mpsc::channel(BATCH);
    let read = async move {
        while let Ok(watch) = reader.next().await {
            if sender.send(watch).await.is_err() {
                return;
            }
        }
    };
    let _reading = AbortOnDropHandle::new(tokio::spawn(read));
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            count = said.recv_many(&mut batch, BATCH) => {
                if count == 0 {
                    return Ok(());
                }
                watcher.apply(mem::take(&mut batch)).await?;
            }
            changes = watcher.changes() => {
                for change in changes? {
                    if writer.send(&change).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }
}
