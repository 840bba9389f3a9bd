//! What a daemon does first: takes over the containers that run, tells the truth about those that do not any more, and
//! clears away what no record knows.

use std::collections::HashSet;
use std::sync::Arc;

use super::container::Container;
use super::driver::{Driver, EndEvents};
use super::error::EngineError;
use super::lodging::{self, Lodging};
use super::log::{attributes, log_files};
use super::record::ContainerRecord;
use super::run::{ActiveRun, RunLog, exit_of_dead_machine};
use super::state::{ContainerState, Run, Step};
use super::{Engine, Shared};
use crate::machine::Machine;

impl Engine {
    /// Brings every container of the database to life again.
    pub(super) async fn recover(&self) -> Result<(), EngineError> {
        let shared = &self.shared;
        let task_shared = Arc::clone(shared);
        let reading = tokio::task::spawn_blocking(move || {
            let volumes = task_shared.volumes.records()?;
            Ok::<_, EngineError>((task_shared.networks.records()?, volumes, task_shared.records.all()?))
        });
        let unreadable = |error| EngineError::internal("cannot read the database", &error);
        let (networks, volumes, records) = reading.await.map_err(unreadable)??;
        shared.networks.recover(networks).await?;
        shared.volumes.recover(volumes).await?;
        records.iter().for_each(|record| shared.hold_volumes_again(record));
        clear_unknown(shared, &records).await?;
        for record in records.iter().filter(|record| record.state.is_up()) {
            shared.networks.keep(&record.id, &record.name, &record.endpoints);
        }
        let sizes = records.iter().filter_map(|record| record.spec.scratch_disk_bytes);
        if let Err(error) = shared.scratch.keep_only(sizes) {
            tracing::warn!(%error, "cannot remove templates of scratch disks that nobody needs");
        }
        // Who was in another's machine, and then who is, come after those whose machines these are.
        let (lodgers, owners): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| record.place.is_some());
        recover_all(shared, owners).await?;
        let (lodging, gone): (Vec<_>, Vec<_>) =
            lodgers.into_iter().partition(|record| record.state.is_running());
        recover_all(shared, lodging).await?;
        let left: Vec<_> =
            gone.iter().filter_map(|record| Some((record.id.clone(), record.place.clone()?))).collect();
        lodging::sweep(shared, &left).await;
        recover_all(shared, gone).await?;
        shared.networks.sweep().await;
        Ok(())
    }
}

/// All at once.
async fn recover_all(shared: &Arc<Shared>, records: Vec<ContainerRecord>) -> Result<(), EngineError> {
    let recovering: Vec<_> = records
        .into_iter()
        .map(|record| {
            let shared = Arc::clone(shared);
            tokio::spawn(async move { recover_container(&shared, record).await })
        })
        .collect();
    for recovered in recovering {
        recovered.await.map_err(|error| EngineError::internal("cannot take over a container", &error))??;
    }
    Ok(())
}

async fn recover_container(shared: &Arc<Shared>, mut record: ContainerRecord) -> Result<(), EngineError> {
    match record.state.clone() {
        ContainerState::Running(run) | ContainerState::Paused(run) => {
            recover_running(shared, record, run).await
        }
        ContainerState::Removing => {
            shared.delete_remains(&record.id).await?;
            shared.records.delete(record.id.as_str()).await?;
            shared.give_back_volumes(&record.id, &record.mounts);
            Ok(())
        }
        ContainerState::Created { .. }
        | ContainerState::Exited(_)
        | ContainerState::Restarting(_)
        | ContainerState::Starting { .. } => {
            // A machine of a container that does not run was starting or ending when the daemon died.
            match record.state {
                ContainerState::Starting { .. } => shared.clear_machine(&record.id).await,
                _ => shared.end_left_over(&record.id).await,
            }
            if record.spec.restart.follows_daemon_start(&record.state, record.manually_stopped) {
                record.await_restart();
            }
            revive(shared, record, None);
            Ok(())
        }
    }
}

async fn recover_running(
    shared: &Arc<Shared>,
    mut record: ContainerRecord,
    run: Run,
) -> Result<(), EngineError> {
    let lost = match shared.machines.find(record.id.machine_id()).await {
        _ if record.place.is_some() => match adopt_lodger(shared, &record, run.clone()).await {
            Ok(active) => {
                let volumes = shared.adopt_volumes(&record.mounts);
                let active = active.with_volumes(volumes).with_sockets(record.sockets.clone());
                revive(shared, record, Some(active));
                return Ok(());
            }
            Err(reason) => reason,
        },
        Some(machine) => match adopt(shared, &record, run.clone(), machine).await {
            Ok(active) => {
                let joined = shared.networks.rejoin(&record.id, record.endpoints.clone()).await;
                let volumes = shared.adopt_volumes(&record.mounts);
                let sockets = record.sockets.clone();
                let active = active.rejoined(joined).with_volumes(volumes).with_sockets(sockets);
                revive(shared, record, Some(active));
                return Ok(());
            }
            Err(reason) => reason,
        },
        None => shared.machines.post_mortem(record.id.machine_id()),
    };
    tracing::warn!(container = %record.id, reason = lost, "a container's machine is gone");
    shared.clear_machine(&record.id).await;
    let endpoints = std::mem::take(&mut record.endpoints);
    record.sockets.clear();
    shared.networks.leave(&record.id, &endpoints).await;
    let exit = exit_of_dead_machine(format!("the container's machine ended: {lost}"), run.started_at);
    if let Ok(exited) = record.state.after(Step::Exited(exit.clone())) {
        record.state = exited;
        let follows = record.spec.restart.follows_exit(&exit, record.restart_count);
        if !record.manually_stopped && (follows || record.restart_unhealthy) {
            record.restart_unhealthy = false;
            record.restart_count += 1;
            record.await_restart();
        }
    }
    shared.records.put(&record).await?;
    let container = revive(shared, record, None);
    EndEvents::new(&container, &exit).publish(&container);
    shared.publish_places("disconnect", &container, &endpoints);
    Ok(())
}

async fn adopt(
    shared: &Shared,
    record: &ContainerRecord,
    run: Run,
    machine: Machine,
) -> Result<ActiveRun, String> {
    let log = match reopen_log(shared, record).await {
        Ok(log) => log,
        Err(reason) => {
            machine.end().await;
            return Err(reason);
        }
    };
    match ActiveRun::adopt(machine, &record.id, run, log).await {
        Ok(active) => Ok(active),
        Err((machine, error)) => {
            machine.end().await;
            Err(format!("its agent does not answer: {error}"))
        }
    }
}

/// The same of one in another's machine.
async fn adopt_lodger(shared: &Shared, record: &ContainerRecord, run: Run) -> Result<ActiveRun, String> {
    let lodging = record.place.as_ref().and_then(|place| Lodging::take_again(shared, place));
    let lodging = lodging.ok_or("the container whose machine it shared has ended")?;
    let log = match reopen_log(shared, record).await {
        Ok(log) => log,
        Err(reason) => {
            lodging.leave(&record.id).await;
            return Err(reason);
        }
    };
    match ActiveRun::adopt_in(lodging, &record.id, run, log).await {
        Ok(active) => Ok(active),
        Err((lodging, error)) => {
            lodging.leave(&record.id).await;
            Err(format!("its agent does not answer: {error}"))
        }
    }
}

async fn reopen_log(shared: &Shared, record: &ContainerRecord) -> Result<RunLog, String> {
    let files = log_files(&record.id, &record.spec, &shared.container_directory(&record.id));
    let attributes = attributes(&record.id, &record.name, record.image_id, &record.spec);
    let run_in_log = Some(record.run_in_log());
    let opening = tokio::task::spawn_blocking(move || RunLog::open(files, run_in_log, attributes)).await;
    let opened = opening.map_err(std::io::Error::other).flatten();
    opened.map_err(|error| format!("its log cannot be opened: {error}"))
}

fn revive(shared: &Arc<Shared>, record: ContainerRecord, active: Option<ActiveRun>) -> Arc<Container> {
    let id = record.id.clone();
    let container = Driver::spawn(Arc::clone(shared), record, active);
    shared.containers_mut().insert(id, Arc::clone(&container));
    container
}

/// Removes machines and containers' directories that no record knows: a creation that did not get to its record, or a
/// removal that got past it.
async fn clear_unknown(shared: &Arc<Shared>, records: &[ContainerRecord]) -> Result<(), EngineError> {
    let unreadable =
        |error: &dyn std::error::Error| EngineError::internal("cannot look for what a crash left", error);
    let machines: HashSet<&str> = records.iter().map(|record| record.id.machine_id()).collect();
    for machine_id in shared.machines.ids().map_err(|error| unreadable(&error))? {
        if !machines.contains(machine_id.as_str()) {
            shared.clear_machine_of_id(machine_id).await;
        }
    }
    let known: HashSet<&str> = records.iter().map(|record| record.id.as_str()).collect();
    let directory = shared.settings.data_root.join("containers");
    for entry in std::fs::read_dir(&directory).map_err(|error| unreadable(&error))?.flatten() {
        let orphan = entry.file_name().to_str().is_none_or(|name| !known.contains(name));
        if orphan && let Err(error) = tokio::fs::remove_dir_all(entry.path()).await {
            tracing::warn!(path = %entry.path().display(), %error, "cannot remove a container's remains");
        }
    }
    Ok(())
}
