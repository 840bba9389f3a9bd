//! What the engine shows of itself: containers and totals.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use berth_vmm::config::Accelerator;
use jiff::Timestamp;

use super::Engine;
use super::container::{Container, Status};
use super::error::EngineError;
use super::exec::ExecState;
use super::health::Health;
use super::identity::ContainerId;
use super::mounts::MountPoint;
use super::networks::{Endpoint, NetworkBackend};
use super::spec::ContainerSpec;
use super::state::ContainerState;
use super::timeline::Timeline;
use crate::image::ImageId;
use crate::machine::Profile;

/// A container at one moment.
#[derive(Clone, Debug)]
pub struct ContainerView {
    pub id: ContainerId,
    pub name: String,
    pub created_at: Timestamp,
    pub image_id: ImageId,
    /// Complete with what its image says.
    pub spec: Arc<ContainerSpec>,
    /// What it has mounted beside file systems in memory.
    pub mounts: Arc<[MountPoint]>,
    /// Where the volumes among them are on the host.
    pub volume_roots: BTreeMap<String, PathBuf>,
    pub hostname: String,
    pub state: ContainerState,
    /// How often its restart policy has started it since somebody did.
    pub restart_count: u32,
    /// Nothing without a health check, and before the first start.
    pub health: Option<Health>,
    /// Nothing if its output is not kept.
    pub log_path: Option<PathBuf>,
    /// Of the execs that run.
    pub exec_ids: Vec<String>,
    /// Of the last start.
    pub timeline: Option<Timeline>,
    /// What it has of networks while it runs.
    pub endpoints: Arc<[Endpoint]>,
}

/// What this engine is and how much it holds.
#[derive(Clone, Debug)]
pub struct EngineInfo {
    pub accelerator: Accelerator,
    pub machine_memory_mib: u32,
    pub machine_vcpus: u8,
    pub scratch_disk_bytes: u64,
    pub kernel: PathBuf,
    pub jail: Profile,
    /// What is missing of a whole jail, a sentence each.
    pub jail_warnings: Vec<String>,
    pub user_namespace: bool,
    pub network_backend: NetworkBackend,
    /// What is to be known of networks, if they are not whole.
    pub network_warning: Option<String>,
    /// Containers, each counted once.
    pub running: usize,
    pub paused: usize,
    pub stopped: usize,
}

impl Engine {
    /// All containers, newest first.
    #[must_use]
    pub fn containers(&self) -> Vec<ContainerView> {
        let containers: Vec<Arc<Container>> = self.shared.containers().values().cloned().collect();
        let mut views: Vec<ContainerView> = containers.iter().map(|container| self.view(container)).collect();
        views.sort_by_key(|view| std::cmp::Reverse(view.created_at));
        views
    }

    /// # Errors
    /// No such container.
    pub fn container(&self, name: &str) -> Result<ContainerView, EngineError> {
        Ok(self.view(&*self.find(name)?))
    }

    fn volume_roots(&self, mounts: &[MountPoint]) -> BTreeMap<String, PathBuf> {
        let names = mounts.iter().filter_map(MountPoint::volume).map(|volume| &volume.name);
        names.filter_map(|name| Some((name.clone(), self.shared.volumes.mountpoint(name).ok()?))).collect()
    }

    fn view(&self, container: &Container) -> ContainerView {
        let Status { state, restart_count, health, timeline, endpoints, .. } = container.current();
        let execs = self.shared.execs();
        let its_own = execs.values().filter(|exec| exec.container.id == container.id);
        let running = its_own.filter(|exec| matches!(exec.state(), ExecState::Running { .. }));
        ContainerView {
            id: container.id.clone(),
            name: container.name().to_string(),
            created_at: container.created_at,
            image_id: container.image_id,
            spec: container.spec(),
            volume_roots: self.volume_roots(&container.mounts),
            mounts: Arc::clone(&container.mounts),
            hostname: super::launch::hostname(container),
            state,
            restart_count,
            health,
            log_path: container.log.as_ref().map(|log| log.path().to_owned()),
            exec_ids: running.map(|exec| exec.id.clone()).collect(),
            timeline,
            endpoints,
        }
    }

    #[must_use]
    pub fn info(&self) -> EngineInfo {
        let settings = &self.shared.settings;
        let containers = self.shared.containers();
        let count = |is: fn(&ContainerState) -> bool| {
            containers.values().filter(|container| is(&container.status.borrow().state)).count()
        };
        let paused = count(ContainerState::is_paused);
        let running = count(ContainerState::is_up) - paused;
        EngineInfo {
            accelerator: settings.machine.accelerator,
            machine_memory_mib: settings.machine_memory_mib,
            machine_vcpus: settings.machine_vcpus,
            scratch_disk_bytes: settings.scratch_disk_bytes,
            kernel: settings.machine.kernel.clone(),
            jail: self.shared.machines.jails().profile(),
            jail_warnings: self.shared.machines.jails().warnings(),
            user_namespace: settings.user_namespace.is_some(),
            network_backend: self.shared.networks.backend(),
            network_warning: self.shared.networks.warning(),
            running,
            paused,
            stopped: containers.len() - running - paused,
        }
    }
}

impl ContainerView {
    /// Of the container, as "80/tcp".
    pub fn published_ports(&self) -> impl Iterator<Item = String> {
        let published = self.endpoints.iter().flat_map(|endpoint| &endpoint.published);
        published.map(|port| format!("{}/{}", port.port, port.protocol))
    }

    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state.is_running()
    }
}
