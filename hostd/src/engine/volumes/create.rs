//! Making a volume: its name taken, its record written, its directory made.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::super::Engine;
use super::super::error::EngineError;
use super::file_system::FileSystem;
use super::volume::{ANONYMOUS_LABEL, Backing, Content, Volume};
use super::{ActiveVolume, CONTENT, DISK, DRIVER, VolumeName, VolumeView, Volumes, failed, options};

/// Only the daemon's user looks into them: what is in volumes is their tenants'.
const DIRECTORY_MODE: u32 = 0o711;
/// Of what containers see, until somebody says otherwise.
const CONTENT_MODE: u32 = 0o755;

/// A volume as it is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeRequest {
    /// `None`: one that nobody has.
    pub name: Option<String>,
    /// `local`, or empty for the same.
    pub driver: String,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

impl Engine {
    /// Makes a volume; one of that name that is there already is the answer, whatever else was asked for, as Docker has it.
    ///
    /// # Errors
    /// What is no name, no driver or no option of the driver's; nothing is left then.
    pub async fn create_volume(&self, request: VolumeRequest) -> Result<VolumeView, EngineError> {
        let engine = self.clone();
        // A task of its own: a client that goes away must not leave a volume half made.
        let creating = tokio::spawn(async move {
            let volumes = &engine.shared.volumes;
            let _turn = volumes.changes.lock().await;
            Ok(volumes.find_or_make(request).await?.view())
        });
        creating.await.map_err(|error| EngineError::internal("cannot create volume", &error))?
    }
}

impl Volumes {
    /// The volume of that name, made if it is not there. The caller holds `changes`.
    pub(super) async fn find_or_make(
        &self,
        request: VolumeRequest,
    ) -> Result<Arc<ActiveVolume>, EngineError> {
        let shown = request.name.clone().unwrap_or_default();
        let named = |error: EngineError| EngineError {
            message: format!("create {shown}: {}", error.message),
            ..error
        };
        let volume = describe(request).map_err(named)?;
        if let Some(found) = self.active().get(&volume.name).cloned() {
            return Ok(found);
        }
        self.make(volume).await
    }

    /// Record first, directory second: what a crash leaves is a record, and the next daemon makes its directory.
    async fn make(&self, volume: Volume) -> Result<Arc<ActiveVolume>, EngineError> {
        self.records.put(&volume).await?;
        let directory = self.directory(&volume.name);
        let backing = volume.backing.clone();
        let making = tokio::task::spawn_blocking(move || {
            make_files(&directory, &backing).inspect_err(|_failed| unmake_files(&directory))
        })
        .await;
        if let Err(error) = making.map_err(io::Error::other).flatten() {
            if let Err(error) = self.records.delete(volume.name.as_str()).await {
                tracing::warn!(volume = %volume.name, %error, "cannot forget a volume that was not made");
            }
            return Err(failed("make", &volume.name, &error));
        }
        let active = self.activate(volume);
        self.publish("create", &active.volume.name, []);
        Ok(active)
    }
}

fn describe(request: VolumeRequest) -> Result<Volume, EngineError> {
    let VolumeRequest { name, driver, options, mut labels } = request;
    if !driver.is_empty() && driver != DRIVER {
        let message = format!("error looking up volume plugin {driver}: plugin \"{driver}\" not found");
        return Err(EngineError::not_found(message));
    }
    let name = match name.filter(|name| !name.is_empty()) {
        Some(name) => VolumeName::parse(&name)?,
        None => {
            labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
            VolumeName::random()
        }
    };
    let backing = options::read(&options)?;
    Ok(Volume { name, created_at: Timestamp::now(), labels, options, backing, content: Content::Whole })
}

/// Removes what [`make_files`] may have made of a volume that is none; what is somebody's stays. Blocks.
fn unmake_files(directory: &Path) {
    let disk = directory.join(DISK);
    for file in [disk.with_extension("unfinished"), disk] {
        let _there_or_not: io::Result<()> = std::fs::remove_file(file);
    }
    for emptied in [directory.join(CONTENT), directory.to_owned()] {
        let _empty_or_not: io::Result<()> = std::fs::remove_dir(emptied);
    }
}

/// Makes what is missing of a volume's directories and its disk, durably. Blocks.
pub(super) fn make_files(directory: &Path, backing: &Backing) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)?;
    let content = directory.join(CONTENT);
    match DirBuilder::new().mode(CONTENT_MODE).create(&content) {
        // What it is to containers must not depend on the daemon's umask.
        Ok(()) => std::fs::set_permissions(&content, std::fs::Permissions::from_mode(CONTENT_MODE))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    if let Backing::Limited { size_bytes } = backing {
        FileSystem::make(&directory.join(DISK), *size_bytes)?;
    }
    let above = directory.parent().unwrap_or(directory);
    [directory, above].into_iter().try_for_each(|path| std::fs::File::open(path)?.sync_all())
}
