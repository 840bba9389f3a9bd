//! Making a container: its image found, its description completed, its place on disk and in the database taken.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::container::Container;
use super::driver::Driver;
use super::error::EngineError;
use super::identity::{ContainerId, parse_name, random_name};
use super::record::ContainerRecord;
use super::reserved_names::ReservedName;
use super::spec::ContainerSpec;
use super::state::ContainerState;
use super::user_namespace::UserNamespace;
use super::{Engine, Shared};

/// A container that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    pub id: ContainerId,
    pub warnings: Vec<String>,
}

impl Engine {
    /// Makes a container of an image that is here; a name is invented if none is given.
    ///
    /// # Errors
    /// No such image, a bad name or one that is taken, no command to run.
    pub async fn create(&self, name: Option<String>, spec: ContainerSpec) -> Result<Created, EngineError> {
        // Until the container is there to be seen, its image cannot be removed.
        let image_kept = Arc::clone(&self.shared.image_removal).read_owned().await;
        let image = self.resolve_image(&spec.image).await?;
        // After the image: a client that hears of a missing one pulls it and asks again.
        let name = name.filter(|name| !name.is_empty()).map(|name| parse_name(&name)).transpose()?;
        let mut spec = spec.with_image_defaults(&image.config);
        self.settle_company(&mut spec);
        let network_warnings = self.shared.networks.settle(&mut spec.network);
        if spec.args().is_empty() {
            return Err(EngineError::invalid("no command specified"));
        }
        let user_namespace = UserNamespace::of(self.shared.settings.user_namespace.as_ref(), &spec)?;
        if user_namespace.is_some() && spec.is_lodger() {
            return Err(EngineError::invalid(
                "containers with user namespaces of their own (--userns-remap) cannot share other namespaces: give both \
                 --userns=host",
            ));
        }
        self.prepare_scratch_template(spec.scratch_disk_bytes).await?;
        let lodger_warnings = spec.lodger_warnings();
        let has_parent = spec.cgroup_parent.is_some() && !spec.is_lodger();
        let mounts = self.plan_mounts(&spec).await?;
        let record = ContainerRecord {
            id: ContainerId::random(),
            name: String::new(),
            created_at: Timestamp::now(),
            image_id: image.id,
            spec: Arc::new(spec),
            mounts,
            state: ContainerState::Created { start_failure: None },
            restart_count: 0,
            manually_stopped: false,
            restart_unhealthy: false,
            is_paused_for_readers: false,
            health: None,
            run_log_start: 0,
            run_log_id: 0,
            timeline: None,
            endpoints: Vec::new(),
            sockets: Vec::new(),
            place: None,
        };
        // A task of its own: a client that goes away must not leave a container half made.
        let shared = Arc::clone(&self.shared);
        let creating = tokio::spawn(async move {
            let settled = settle(&shared, record, name).await;
            drop(image_kept);
            settled
        });
        let id =
            creating.await.map_err(|error| EngineError::internal("cannot create container", &error))??;
        let warnings = self.without_parent(has_parent).into_iter();
        let warnings = warnings.chain(network_warnings).chain(lodger_warnings.map(str::to_owned));
        Ok(Created { id, warnings: warnings.collect() })
    }
}

impl Engine {
    /// What is said where machines have no groups that could have a parent.
    fn without_parent(&self, has_parent: bool) -> Option<String> {
        let reason = self.shared.machines.jails().without_control_groups().filter(|_| has_parent)?;
        Some(format!(
            "HostConfig.CgroupParent has no effect: machines have no control groups of their own: {reason}"
        ))
    }

    /// So that the container's first start finds it.
    async fn prepare_scratch_template(&self, size_bytes: Option<u64>) -> Result<(), EngineError> {
        if size_bytes.is_none() {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let making = tokio::task::spawn_blocking(move || shared.scratch.of(size_bytes).map(|_made| ())).await;
        making.map_err(|error| EngineError::internal("cannot make the scratch disk's template", &error))?
    }
}

/// Gives the container its name, its directory and its record, in the order in which a crash leaves nothing that the
/// next start does not clear away; then it is there to be found.
async fn settle(
    shared: &Arc<Shared>,
    record: ContainerRecord,
    name: Option<String>,
) -> Result<ContainerId, EngineError> {
    let (record, reserved) = reserve(shared, record, name)?;
    let id = record.id.clone();
    let directory = shared.container_directory(&id);
    let made = tokio::fs::create_dir(&directory).await;
    let made = made.map_err(|error| EngineError::internal("cannot make the container's directory", &error));
    // Volumes come before the record that names them, and stay if the daemon dies in between.
    let held = match made {
        Ok(()) => shared.hold_volumes(&record).await,
        Err(error) => Err(error),
    };
    let kept = match held {
        Ok(()) => shared.records.put(&record).await,
        Err(error) => Err(error),
    };
    if let Err(error) = kept {
        shared.give_back_volumes(&id, &record.mounts);
        shared.remove_anonymous(&record.mounts).await;
        // What cannot be removed now is removed when the daemon starts again.
        let _later = tokio::fs::remove_dir_all(&directory).await;
        return Err(error);
    }
    let container = Driver::spawn(Arc::clone(shared), record, None);
    shared.containers_mut().insert(id.clone(), Arc::clone(&container));
    drop(reserved);
    container.publish("create", []);
    Ok(id)
}

/// Takes the name: from here on nobody else gets it.
fn reserve(
    shared: &Shared,
    mut record: ContainerRecord,
    name: Option<String>,
) -> Result<(ContainerRecord, ReservedName), EngineError> {
    let containers = shared.containers_mut();
    record.name = match name {
        Some(name) => {
            shared.check_name_is_free(&containers, &name)?;
            name
        }
        None => random_name(|name| shared.check_name_is_free(&containers, name).is_err()),
    };
    let reserved = shared.reserved_names.reserve(&record.name, &record.id);
    Ok((record, reserved))
}

impl Shared {
    /// # Errors
    /// Who has the name, or is about to, in Docker's words.
    pub(super) fn check_name_is_free(
        &self,
        containers: &HashMap<ContainerId, Arc<Container>>,
        name: &str,
    ) -> Result<(), EngineError> {
        let holder = containers.values().find(|container| container.holds_name(name));
        match holder.map(|container| container.id.clone()).or_else(|| self.reserved_names.holder(name)) {
            None => Ok(()),
            Some(id) => Err(EngineError::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove \
                 (or rename) that container to be able to reuse that name.",
            ))),
        }
    }
}
