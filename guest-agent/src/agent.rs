//! The agent's state: one value that every task of the one thread shares.

use std::cell::{Cell, RefCell};

use berth_protocol::PROTOCOL_VERSION;
use berth_protocol::agent::Ready;

use crate::clock;
use crate::container::Containers;
use crate::names::NameServers;
use crate::processes::Processes;
use crate::reaper::Reaper;
use crate::sockets::Sockets;
use crate::watches::Watches;

/// Everything the agent knows.
pub(crate) struct Agent {
    pub(crate) containers: Containers,
    pub(crate) name_servers: NameServers,
    pub(crate) processes: Processes,
    pub(crate) reaper: Reaper,
    pub(crate) sockets: Sockets,
    pub(crate) watches: Watches,
    /// Given to containers that start, where a snapshot's machine has been told its own.
    pub(crate) machine_id: RefCell<Option<String>>,
    started_us: u64,
    ready_us: Cell<u64>,
}

impl Agent {
    /// `started_us` is when this program began, since the kernel's entry.
    pub(crate) fn new(started_us: u64) -> Self {
        Self {
            containers: Containers::default(),
            name_servers: NameServers::default(),
            processes: Processes::default(),
            reaper: Reaper::default(),
            sockets: Sockets::default(),
            watches: Watches::default(),
            machine_id: RefCell::default(),
            started_us,
            ready_us: Cell::new(0),
        }
    }

    /// From now on requests are answered.
    pub(crate) fn now_ready(&self) {
        self.ready_us.set(clock::since_boot_us());
    }

    /// Who is here, for the first greeting and for every daemon that comes later.
    pub(crate) fn introduction(&self) -> Ready {
        Ready {
            protocol_version: PROTOCOL_VERSION,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            agent_started_us: self.started_us,
            agent_ready_us: self.ready_us.get(),
            kernel_release: rustix::system::uname().release().to_string_lossy().into_owned(),
        }
    }
}
