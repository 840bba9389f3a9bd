//! The name servers of containers: each answers at 127.0.0.11 in its container's network namespace, with what the host says.
//!
//! The sockets are made by the stage, which is in that namespace; the agent serves them, and hands every question to the
//! host by the container's [`NameRelay`]. Nothing of a question is understood here.

mod redirect;
mod serve;
mod sockets;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use berth_protocol::agent::NameQuery;
use tokio::task::{JoinHandle, spawn_local};

use redirect::Redirect;
use sockets::Polled;
pub(crate) use sockets::{NameSockets, bind};

use crate::container::cgroup;
use crate::relay::{Bounds, Relay};
use crate::sys;

/// The host tries several servers one after the other; who asks has mostly given up by then.
const BOUNDS: Bounds = Bounds { waiting: 256, deadline: Duration::from_secs(15) };

/// What is asked at one container's name server. An answer is a message, empty if there is to be none.
pub(crate) type NameRelay = Relay<NameQuery, Vec<u8>>;

/// All of them, by the container whose they are.
#[derive(Default)]
pub(crate) struct NameServers {
    known: RefCell<BTreeMap<String, NameServer>>,
}

/// It ends with this.
struct NameServer {
    relay: Rc<NameRelay>,
    tasks: [JoinHandle<()>; 2],
    _redirect: Redirect,
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl NameServers {
    /// # Errors
    /// If the sockets cannot be polled, or nobody can be led to them.
    pub(crate) fn start(&self, container_id: &str, sockets: NameSockets) -> std::io::Result<()> {
        let relay = Rc::new(NameRelay::new(BOUNDS));
        let Polled { datagrams, connections } = sockets.register()?;
        let cookie = sys::network_namespace_cookie(&datagrams)?;
        let cgroup = cgroup::open_containers()?;
        let redirect = redirect::lead(cgroup, cookie, datagrams.local_addr()?.port())?;
        let tasks = [
            spawn_local(serve::datagrams(Rc::clone(&relay), datagrams)),
            spawn_local(serve::connections(Rc::clone(&relay), connections)),
        ];
        let server = NameServer { relay, tasks, _redirect: redirect };
        self.known.borrow_mut().insert(container_id.to_owned(), server);
        Ok(())
    }

    pub(crate) fn stop(&self, container_id: &str) {
        self.known.borrow_mut().remove(container_id);
    }

    /// What is asked at the container's name server, if it has one.
    pub(crate) fn relay(&self, container_id: &str) -> Option<Rc<NameRelay>> {
        self.known.borrow().get(container_id).map(|server| Rc::clone(&server.relay))
    }
}
