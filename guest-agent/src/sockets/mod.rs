//! Unix sockets of the host's in containers: the agent listens in the host's place, and asks the host to take up whoever
//! connects. Nothing of what is said is understood here.
//!
//! Each socket is a file in its container's directory of state, which nobody but the agent sees; the stage binds it to its
//! place among the container's own mounts. So no other container of the machine can connect to it.

mod carry;
mod listen;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use berth_protocol::agent::{Mount, SocketConnection};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, spawn_local};
use tokio_vsock::VsockStream;

pub(crate) use listen::file;

use crate::relay::{Bounds, Relay};

/// Connections of one container, those that wait included; one more waits in the kernel's queue until another ends. A
/// machine has eight containers and 1024 connections to its host, which carry everything else as well.
const MAX_CONNECTIONS: usize = 96;
/// Longer than a daemon takes to come back.
const BOUNDS: Bounds = Bounds { waiting: MAX_CONNECTIONS, deadline: Duration::from_secs(60) };

/// Who has connected to one container's sockets. An answer is the stream that carries the connection, or nothing if there
/// is to be none.
pub(crate) type SocketRelay = Relay<SocketConnection, Option<VsockStream>>;

/// Those of all containers, by the container whose they are.
#[derive(Default)]
pub(crate) struct Sockets {
    known: RefCell<BTreeMap<String, Served>>,
}

/// All of one container. Its connections end with this.
struct Served {
    relay: Rc<SocketRelay>,
    listeners: Vec<JoinHandle<()>>,
    _until: watch::Sender<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.listeners.iter().for_each(JoinHandle::abort);
    }
}

impl Sockets {
    /// Listens at all sockets among the mounts, in the container's directory of state.
    ///
    /// # Errors
    /// If a socket cannot be made.
    pub(crate) fn start(&self, container_id: &str, directory: &Path, mounts: &[Mount]) -> io::Result<()> {
        let sockets: Vec<_> = mounts.iter().filter_map(|mount| mount.socket).collect();
        if sockets.is_empty() {
            return Ok(());
        }
        let relay = Rc::new(SocketRelay::new(BOUNDS));
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let (until, over) = watch::channel(());
        let mut listeners = Vec::new();
        for socket in sockets {
            let listener = listen::listen(directory, &socket)?;
            let serving =
                carry::serve(socket.number, listener, Rc::clone(&relay), Arc::clone(&places), over.clone());
            listeners.push(spawn_local(serving));
        }
        let served = Served { relay, listeners, _until: until };
        self.known.borrow_mut().insert(container_id.to_owned(), served);
        Ok(())
    }

    pub(crate) fn stop(&self, container_id: &str) {
        self.known.borrow_mut().remove(container_id);
    }

    /// Who has connected to the container's sockets, if it has any.
    pub(crate) fn relay(&self, container_id: &str) -> Option<Rc<SocketRelay>> {
        self.known.borrow().get(container_id).map(|served| Rc::clone(&served.relay))
    }
}
