//! What the engine shows of itself: containers, execs, totals.

use std::path::PathBuf;
use std::sync::Arc;

use berth_vmm::config::Accelerator;
use jiff::Timestamp;

use super::Engine;
use super::container::{Container, Status};
use super::error::EngineError;
use super::exec::{Exec, ExecSpec, ExecStart, ExecState};
use super::hub::Attachment;
use super::identity::ContainerId;
use super::spec::{ContainerSpec, TerminalSize};
use super::state::ContainerState;
use super::timeline::Timeline;
use crate::image::ImageId;

/// A container at one moment.
#[derive(Clone, Debug)]
pub struct ContainerView {
    pub id: ContainerId,
    pub name: String,
    pub created_at: Timestamp,
    pub image_id: ImageId,
    /// Complete with what its image says.
    pub spec: Arc<ContainerSpec>,
    pub hostname: String,
    pub state: ContainerState,
    pub log_path: PathBuf,
    /// Of the execs that run.
    pub exec_ids: Vec<String>,
    /// Of the last start.
    pub timeline: Option<Timeline>,
}

/// An exec at one moment.
#[derive(Clone, Debug)]
pub struct ExecView {
    pub id: String,
    pub container_id: ContainerId,
    pub spec: ExecSpec,
    pub pid: Option<u32>,
    pub running: bool,
    pub exit_code: Option<i64>,
}

/// What this engine is and how much it holds.
#[derive(Clone, Debug)]
pub struct EngineInfo {
    pub accelerator: Accelerator,
    pub machine_memory_mib: u32,
    pub machine_vcpus: u8,
    pub scratch_disk_bytes: u64,
    pub kernel: PathBuf,
    pub running: usize,
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

    fn view(&self, container: &Container) -> ContainerView {
        let Status { state, timeline, .. } = container.current();
        let execs = self.shared.execs();
        let its_own = execs.values().filter(|exec| exec.container.id == container.id);
        let running = its_own.filter(|exec| matches!(exec.state(), ExecState::Running { .. }));
        ContainerView {
            id: container.id.clone(),
            name: container.name.clone(),
            created_at: container.created_at,
            image_id: container.image_id,
            spec: Arc::clone(&container.spec),
            hostname: super::launch::hostname(container),
            state,
            log_path: container.log_path(),
            exec_ids: running.map(|exec| exec.id.clone()).collect(),
            timeline,
        }
    }

    #[must_use]
    pub fn info(&self) -> EngineInfo {
        let settings = &self.shared.settings;
        let containers = self.shared.containers();
        let running =
            containers.values().filter(|container| container.status.borrow().state.is_running()).count();
        EngineInfo {
            accelerator: settings.machine.accelerator,
            machine_memory_mib: settings.machine_memory_mib,
            machine_vcpus: settings.machine_vcpus,
            scratch_disk_bytes: settings.scratch_disk_bytes,
            kernel: settings.machine.kernel.clone(),
            running,
            stopped: containers.len() - running,
        }
    }

    /// Describes a further process for a container that runs; [`Engine::exec_start`] starts it.
    ///
    /// # Errors
    /// No such container, one that does not run, or nothing to run.
    pub async fn exec_create(&self, name: &str, spec: ExecSpec) -> Result<String, EngineError> {
        let container = self.find(name)?;
        container.live().await?;
        if spec.args.is_empty() {
            return Err(EngineError::invalid("No exec command specified"));
        }
        let exec = Arc::new(Exec::new(container, spec));
        let id = exec.id.clone();
        let mut execs = self.shared.execs();
        execs.retain(|_id, exec| !exec.is_forgotten());
        execs.insert(id.clone(), exec);
        Ok(id)
    }

    /// Starts it, and connects to it unless detached.
    ///
    /// # Errors
    /// No such exec, one that was started before, a container that does not run, a program that cannot be executed.
    pub async fn exec_start(&self, exec_id: &str, how: ExecStart) -> Result<Option<Attachment>, EngineError> {
        self.find_exec(exec_id)?.start(how).await
    }

    /// # Errors
    /// No such exec.
    pub fn exec(&self, exec_id: &str) -> Result<ExecView, EngineError> {
        let exec = self.find_exec(exec_id)?;
        let (pid, running, exit_code) = match exec.state() {
            ExecState::Created | ExecState::Starting => (None, false, None),
            ExecState::Running { pid } => (Some(pid), true, None),
            ExecState::Ended { code, .. } => (None, false, Some(code)),
        };
        let container_id = exec.container.id.clone();
        Ok(ExecView { id: exec.id.clone(), container_id, spec: exec.spec.clone(), pid, running, exit_code })
    }

    /// Tells the exec's terminal how large its window is.
    ///
    /// # Errors
    /// No such exec, or one that is not started.
    pub async fn exec_resize(&self, exec_id: &str, size: TerminalSize) -> Result<(), EngineError> {
        self.find_exec(exec_id)?.resize(size).await
    }
}

impl ContainerView {
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.state, ContainerState::Running(_))
    }
}
