//! Volumes: files that outlive containers, and who has them.
//!
//! ```text
//! <data root>/volumes/NAME/_data        its files, under the name by which Docker's users look for them
//! <data root>/volumes/NAME/disk.ext4    instead, if it has a size: what is mounted in the place of its files
//! <data root>/volumes/.removed-*        what is being deleted
//! ```
//!
//! A volume is a record first and a directory second: a daemon that starts makes the directories that its records name.
//! Who has a volume is not kept here: the containers' records say it, and the engine repeats it at its start.

mod copy;
mod file_system;
mod name;
mod options;
mod tree;
mod volume;
// What can be asked for.
mod create;
mod fill;
mod holders;
mod mount;
mod prune;
mod recover;
mod remove;
mod usage;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

pub use self::create::VolumeRequest;
pub(super) use self::mount::{AdoptedVolume, MountedVolume};
pub use self::name::VolumeName;
pub use self::prune::PrunedVolumes;
pub use self::view::{VolumeUsage, VolumeView};
pub(super) use self::volume::ANONYMOUS_LABEL;
pub use self::volume::{Backing, Volume};

use self::file_system::FileSystem;
use self::volume::Content;
use super::error::EngineError;
use super::events::{Actor, EventKind, Events};
use super::identity::ContainerId;
use super::records::{Record, Records};
use crate::database::Database;

/// The one driver there is.
const DRIVER: &str = "local";
/// Below a volume's directory: what containers see.
const CONTENT: &str = "_data";
/// Beside it: the file system of a volume that has a size.
const DISK: &str = "disk.ext4";

/// All volumes of a daemon's.
#[derive(Debug)]
pub(super) struct Volumes {
    root: PathBuf,
    records: Records<Volume>,
    events: Events,
    active: RwLock<BTreeMap<VolumeName, Arc<ActiveVolume>>>,
    /// Held while volumes are made or removed.
    changes: tokio::sync::Mutex<()>,
}

/// A volume that is there.
#[derive(Debug)]
pub(super) struct ActiveVolume {
    pub(super) volume: Volume,
    /// What containers see of it, and where Docker's users look for it.
    pub(super) mountpoint: PathBuf,
    /// Containers that name it, whether they run or not.
    holders: Mutex<BTreeSet<ContainerId>>,
    /// Held while it is filled or mounted.
    content: tokio::sync::Mutex<Content>,
    /// The one that is mounted, if it has one of its own.
    file_system: Mutex<Weak<FileSystem>>,
}

impl Record for Volume {
    const TABLE: &'static str = "volumes";
    const NOUN: &'static str = "volume";

    fn id(&self) -> &str {
        self.name.as_str()
    }

    fn name(&self) -> &str {
        self.name.as_str()
    }
}

impl Volumes {
    pub(super) fn new(data_root: &Path, events: Events, database: Database) -> Self {
        Self {
            root: data_root.join("volumes"),
            records: Records::new(database),
            events,
            active: RwLock::default(),
            changes: tokio::sync::Mutex::default(),
        }
    }

    /// All that the database has. Blocks.
    pub(super) fn records(&self) -> Result<Vec<Volume>, EngineError> {
        self.records.all()
    }

    /// # Errors
    /// No such volume.
    pub(super) fn find(&self, name: &str) -> Result<Arc<ActiveVolume>, EngineError> {
        let found = VolumeName::parse(name).ok().and_then(|name| self.active().get(&name).cloned());
        found.ok_or_else(|| EngineError::not_found(format!("get {name}: no such volume")))
    }

    fn active(&self) -> RwLockReadGuard<'_, BTreeMap<VolumeName, Arc<ActiveVolume>>> {
        self.active.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn active_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<VolumeName, Arc<ActiveVolume>>> {
        self.active.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn activate(&self, volume: Volume) -> Arc<ActiveVolume> {
        let mountpoint = self.directory(&volume.name).join(CONTENT);
        let active = Arc::new(ActiveVolume {
            mountpoint,
            holders: Mutex::default(),
            content: tokio::sync::Mutex::new(volume.content),
            file_system: Mutex::default(),
            volume,
        });
        self.active_mut().insert(active.volume.name.clone(), Arc::clone(&active));
        active
    }

    fn directory(&self, name: &VolumeName) -> PathBuf {
        self.root.join(name.as_str())
    }

    fn publish(
        &self,
        action: &'static str,
        name: &VolumeName,
        more: impl IntoIterator<Item = (&'static str, String)>,
    ) {
        let mut attributes = BTreeMap::from([("driver".to_owned(), DRIVER.to_owned())]);
        attributes.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
        self.events.publish(EventKind::Volume, action, Actor { id: name.to_string(), attributes });
    }
}

impl ActiveVolume {
    fn holders(&self) -> MutexGuard<'_, BTreeSet<ContainerId>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What failed at a volume, with its name.
fn failed(step: &str, name: &VolumeName, cause: &dyn std::error::Error) -> EngineError {
    EngineError::internal(&format!("cannot {step} volume {name}"), cause)
}

#[cfg(test)]
mod tests;
