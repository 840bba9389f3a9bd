//! What processes watch of the machine's shares, and what the host says has happened to it.
//!
//! The kernel keeps both lists and raises the events ([`device`]); here is who tells the host, and which share a file
//! system is. Mounts of the host's below a share are file systems of their own, and nobody hears of those.

mod device;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Write};
use std::rc::Rc;

use berth_protocol::agent::{ShareChange, ShareWatch};
use tokio::sync::mpsc;
use tokio::task::spawn_local;

use crate::agent::Agent;
use device::{Device, Told};

/// The host watches no more for a machine than about this.
const MAX_WATCHES: usize = 16_384;
/// What the host has not read yet; one that reads too slowly is told everything anew.
const UNTOLD: usize = 1024;
/// Changes that wait for the kernel, which asks the host about some.
const UNRAISED: usize = 256;
/// IN_Q_OVERFLOW of inotify(7).
const OVERFLOW: u32 = 0x4000;

/// Major and minor number of a file system's device.
pub(crate) type DeviceNumber = (u32, u32);

#[derive(Default)]
pub(crate) struct Watches {
    is_begun: Cell<bool>,
    known: RefCell<BTreeMap<u64, ShareWatch>>,
    shares: RefCell<HashMap<DeviceNumber, FileSystem>>,
    listener: RefCell<Option<mpsc::Sender<ShareWatch>>>,
    changes: RefCell<Option<mpsc::Sender<ShareChange>>>,
}

/// What of the shares a file system is.
pub(crate) enum FileSystem {
    /// Of files that are shared, each under the share's name.
    Files,
    /// A directory that is shared.
    Share(String),
}

/// Begins to listen to the kernel, once. An older kernel has nothing to say.
pub(crate) fn begin(agent: &Rc<Agent>) {
    if agent.watches.is_begun.replace(true) {
        return;
    }
    match device::open() {
        Ok((reader, writer)) => {
            let (changes, queue) = mpsc::channel(UNRAISED);
            agent.watches.changes.replace(Some(changes));
            spawn_local(follow(Rc::clone(agent), reader));
            let spawned = std::thread::Builder::new().name("changes".into()).spawn(|| raise(writer, queue));
            if let Err(error) = spawned {
                eprintln!("berth-agent: changes of shares are not heard of: {error}");
            }
        }
        Err(error) => eprintln!("berth-agent: changes of shares are not heard of: {error}"),
    }
}

async fn follow(agent: Rc<Agent>, mut device: Device) {
    loop {
        match device.next().await {
            Ok(told) => agent.watches.take(&told),
            Err(error) => return eprintln!("berth-agent: what is watched is not known any more: {error}"),
        }
    }
}

/// A thread of its own: the kernel looks up what has changed, and answers when the host has.
fn raise(mut device: File, mut queue: mpsc::Receiver<ShareChange>) {
    while let Some(change) = queue.blocking_recv() {
        // It may be watched no longer, or be gone again.
        let _nobody: io::Result<usize> = device.write(&device::encode(&change));
    }
}

impl Watches {
    /// What has that device is a part of the shares.
    pub(crate) fn learn(&self, device: DeviceNumber, file_system: FileSystem) {
        self.shares.borrow_mut().insert(device, file_system);
    }

    /// Of those shares there is nothing any more.
    pub(crate) fn forget(&self, names: &[String]) {
        let is_gone = |system: &FileSystem| matches!(system, FileSystem::Share(name) if names.contains(name));
        self.shares.borrow_mut().retain(|_, system| !is_gone(system));
    }

    fn take(&self, told: &Told) {
        let id = told.id;
        let mut known = self.known.borrow_mut();
        let watch = if told.begun {
            let Some(watch) = self.watch(told) else { return };
            if known.len() >= MAX_WATCHES {
                return;
            }
            known.insert(id, watch.clone());
            watch
        } else {
            if known.remove(&id).is_none() {
                return;
            }
            ShareWatch { id, ..ShareWatch::default() }
        };
        let mut listener = self.listener.borrow_mut();
        if listener.as_ref().is_some_and(|listener| listener.try_send(watch).is_err()) {
            // Its connection ends, and the next one begins with all.
            listener.take();
        }
    }

    /// Nothing if it is none of a share's.
    fn watch(&self, told: &Told) -> Option<ShareWatch> {
        let path = told.path.strip_prefix(b"/")?;
        let shares = self.shares.borrow();
        let (share, path) = match shares.get(&told.device)? {
            FileSystem::Share(name) => (name.clone(), path.to_vec()),
            FileSystem::Files => (String::from_utf8(path.to_vec()).ok()?, vec![]),
        };
        let is_share = berth_protocol::shares::is_name(&share);
        is_share.then_some(ShareWatch { id: told.id, begun: true, share, path, inode: told.inode })
    }

    /// All that there are, and those that begin or end from now on.
    pub(crate) fn subscribe(&self) -> (Vec<ShareWatch>, mpsc::Receiver<ShareWatch>) {
        let (listener, later) = mpsc::channel(UNTOLD);
        self.listener.replace(Some(listener));
        (self.known.borrow().values().cloned().collect(), later)
    }

    /// Has the kernel tell those who watch.
    pub(crate) async fn changed(&self, change: ShareChange) {
        let Some(changes) = self.changes.borrow().clone() else { return };
        let of = match (change.watch_id, change.events) {
            (0, OVERFLOW) => self.known.borrow().keys().copied().collect(),
            (id, _) => vec![id],
        };
        for watch_id in of {
            // The thread ends with the agent.
            let _ended: Result<(), _> = changes.send(ShareChange { watch_id, ..change.clone() }).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(id: u64, device: u32, path: &str) -> Told {
        Told { id, inode: 7, device: (0, device), begun: true, path: path.into() }
    }

    fn watches() -> Watches {
        let watches = Watches::default();
        watches.learn((0, 1), FileSystem::Files);
        watches.learn((0, 2), FileSystem::Share("code".into()));
        watches
    }

    fn known(watches: &Watches) -> Vec<(u64, String, Vec<u8>)> {
        watches.subscribe().0.into_iter().map(|it| (it.id, it.share, it.path)).collect()
    }

    #[test]
    fn a_watch_is_of_a_share_and_a_path_in_it() {
        let watches = watches();
        watches.take(&told(1, 1, "/settings"));
        watches.take(&told(2, 2, "/"));
        watches.take(&told(3, 2, "/src/a b"));
        let expected = [(1, "settings", ""), (2, "code", ""), (3, "code", "src/a b")];
        assert_eq!(known(&watches), expected.map(|(id, share, path)| (id, share.into(), path.into())));
    }

    #[test]
    fn what_is_no_share_is_not_told_of() {
        let watches = watches();
        for nothing in [told(1, 3, "/a"), told(2, 1, "/"), told(3, 1, "/a/b"), told(4, 2, "")] {
            watches.take(&nothing);
        }
        assert_eq!(known(&watches), []);
    }

    #[test]
    fn who_listens_hears_of_what_begins_and_ends() {
        let watches = watches();
        let (first, mut later) = watches.subscribe();
        assert!(first.is_empty());
        watches.take(&told(1, 2, "/a"));
        watches.take(&Told { begun: false, ..told(1, 0, "") });
        watches.take(&Told { begun: false, ..told(9, 0, "") });
        assert!(later.try_recv().unwrap().begun);
        assert_eq!(later.try_recv().unwrap(), ShareWatch { id: 1, ..ShareWatch::default() });
        assert!(later.try_recv().is_err(), "of what was never told, no end is");
    }

    #[test]
    fn a_listener_that_does_not_read_is_let_go_and_begins_anew_with_all() {
        let watches = watches();
        let (_none, mut later) = watches.subscribe();
        for id in 0..=UNTOLD as u64 {
            watches.take(&told(id, 2, "/a"));
        }
        let heard = std::iter::from_fn(|| later.try_recv().ok()).count();
        assert_eq!(heard, UNTOLD);
        assert_eq!(later.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
        assert_eq!(watches.subscribe().0.len(), UNTOLD + 1);
    }
}
