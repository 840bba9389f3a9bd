//! Containers as the agent sees them: what each verb of the host does, and what it takes from the machine.
//!
//! The agent's side only. What happens inside a container's new process is [`crate::stage`].

pub(crate) mod start;

pub(crate) mod exec;

pub(crate) mod mount;

pub(crate) mod read_archive;

pub(crate) mod read_changes;

pub(crate) mod stat_path;

pub(crate) mod write_files;

pub(crate) mod update_names;

pub(crate) mod remove;

pub(crate) mod connection;

pub(crate) mod control;

pub(crate) mod process_table;

pub(crate) mod shutdown;

pub(crate) mod cgroup;

pub(crate) mod identity_files;

mod devices;
mod disks;
pub(crate) mod ids;
mod joined;
mod launch;
mod parts;
pub(crate) mod request;
pub(crate) mod shares;
pub(crate) mod shm;
mod view;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use berth_protocol::agent::ErrorCode;
use tokio::sync::RwLock;

use crate::agent::Agent;
use crate::failure::Failure;
use crate::processes::Process;
use cgroup::Cgroup;
use disks::Disks;
pub(crate) use disks::further_disk;
use identity_files::Names;

/// Containers of one machine, starting ones included; each needs disks, of which a machine has a few.
const MAX_CONTAINERS: usize = 256;

/// What a container holds. Everything here can be released whether it was taken or not.
pub(crate) struct Container {
    pub(crate) id: String,
    /// The id of its first process; nothing if none can run in it.
    first_process: Option<String>,
    cgroup: Cgroup,
    disks: Disks,
    /// The names of the shares that it mounts.
    shares: Vec<String>,
    /// Where its /dev/shm is, if others can have it.
    shm: Option<PathBuf>,
    /// Written by what starts and removes it, read by what joins it: neither finds it half-made or half-gone.
    lifecycle: Arc<RwLock<()>>,
    /// As its files in /etc have them from us.
    names: RefCell<Names>,
}

impl Container {
    /// Its first process, if it runs.
    fn running(&self, agent: &Agent) -> Option<Rc<Process>> {
        let first = agent.processes.get(self.first_process.as_ref()?).ok()?;
        (!first.has_ended()).then_some(first)
    }
}

/// All of them, by id.
#[derive(Default)]
pub(crate) struct Containers {
    known: RefCell<BTreeMap<String, Rc<Container>>>,
}

impl Containers {
    fn get(&self, id: &str) -> Option<Rc<Container>> {
        self.known.borrow().get(id).cloned()
    }

    fn add(&self, container: Rc<Container>) -> Result<(), Failure> {
        let mut known = self.known.borrow_mut();
        if known.contains_key(&container.id) {
            let message = format!("container {} exists already", container.id);
            return Err(Failure::new(ErrorCode::AlreadyExists, message));
        }
        if known.len() >= MAX_CONTAINERS {
            let message = format!("more than {MAX_CONTAINERS} containers in one machine");
            return Err(Failure::new(ErrorCode::ResourceLimit, message));
        }
        known.insert(container.id.clone(), container);
        Ok(())
    }

    fn remove(&self, id: &str) {
        self.known.borrow_mut().remove(id);
    }

    /// Whether another than that one mounts this share.
    fn have_share(&self, name: &String, but: &str) -> bool {
        self.known.borrow().values().any(|container| container.id != but && container.shares.contains(name))
    }

    fn ids(&self) -> Vec<String> {
        self.known.borrow().keys().cloned().collect()
    }
}

fn no_such_container(id: &str) -> Failure {
    Failure::new(ErrorCode::NoSuchContainer, format!("no container {id} in this machine"))
}
