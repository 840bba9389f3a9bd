//! The verb StartContainer: take what the container needs, then start its first process; on failure give it all back.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use berth_protocol::agent::{
    ErrorCode, Namespace, Process as ProcessRequest, ProcessStarted, StartContainer,
};
use tokio::sync::RwLock;

use super::cgroup::Cgroup;
use super::disks::{CONTAINERS, Disks};
use super::identity_files::Names;
use super::ids::IdMaps;
use super::launch::{Launch, Place, launch};
use super::{Container, devices, identity_files, joined, remove, request, shares, shm};
use crate::agent::Agent;
use crate::failure::{During, Failure};
use crate::processes::Process;
use crate::stage::spec::StageSpec;
use crate::stage::{INIT_NAME, STAGE_NAME};

/// Answers when the program has been executed.
///
/// # Errors
/// With the code of the step that failed; the container is gone again then.
pub(crate) async fn start(agent: &Rc<Agent>, request: StartContainer) -> Result<ProcessStarted, Failure> {
    let (request, process) = request::check_start(request)?;
    let ids = IdMaps::of(&request)?;
    let container = Rc::new(Container {
        id: request.container_id.clone(),
        first_process: Some(process.process_id.clone()),
        cgroup: Cgroup::of(&request.container_id),
        disks: Disks::new(&request.container_id, &request.image_disk, &request.scratch_disk)
            .in_parts(&request)
            .owned_as(ids),
        shares: shares::names(&request.mounts),
        shm: shm::place(agent, &request),
        lifecycle: Arc::new(RwLock::new(())),
        names: RefCell::new(Names::of(&request)),
    });
    let held = container.lifecycle.try_write().expect("nobody else knows this container yet");
    agent.containers.add(Rc::clone(&container))?;
    let started = bring_up(agent, &container, request, &process).await;
    match started {
        Ok(process) => Ok(ProcessStarted { pid: process.pid }),
        Err(failure) => {
            if let Err(left) = remove::release(agent, &container).await {
                eprintln!("berth-agent: after a failed start of {}: {left}", container.id);
            }
            drop(held);
            Err(failure)
        }
    }
}

async fn bring_up(
    agent: &Rc<Agent>,
    container: &Container,
    mut request: StartContainer,
    process: &ProcessRequest,
) -> Result<Rc<Process>, Failure> {
    let joined = joined::find(agent, &request).await?;
    let disks = container.disks.clone();
    let mounted = tokio::task::spawn_blocking(move || disks.mount()).await;
    mounted.during(ErrorCode::Internal, || "mount the disks")??;
    shares::mount_for(agent, &request.mounts).await?;
    let machine_id = agent.machine_id.borrow().clone();
    identity_files::write(
        container.disks.directory(),
        &request,
        machine_id.as_deref(),
        container.disks.ids(),
    )
    .during(ErrorCode::Internal, || "write the files of its identity")?;
    if let Some(joined) = joined.iter().find(|joined| joined.namespace == Namespace::NetworkNamespace) {
        let theirs = Path::new(CONTAINERS).join(&joined.first.container_id);
        identity_files::take_over(container.disks.directory(), &theirs)
            .during(ErrorCode::Internal, || "share the files of the network's identity")?;
    }
    shm::mount_for(&request, container.shm.as_deref())?;
    agent
        .sockets
        .start(&container.id, container.disks.directory(), &request.mounts)
        .during(ErrorCode::MountFailed, || "listen in the place of sockets of the host's")?;
    let devices = devices::find(&request)?;
    container.cgroup.create(&request.resources.take().unwrap_or_default(), devices.rules)?;
    let stage = Launch {
        container_id: &container.id,
        cgroup: &container.cgroup,
        ids: container.disks.ids(),
        place: Place::NewContainer { outer: request.outer_namespaces().collect(), joined },
        stage_name: if request.init { INIT_NAME } else { STAGE_NAME },
        spec: StageSpec {
            directory: container.disks.directory().display().to_string(),
            container: Some(request),
            exec: None,
            joins_user_namespace: false,
            devices: devices.nodes,
            shm: container.shm.iter().map(|place| place.display().to_string()).collect(),
        },
        process,
    };
    launch(agent, stage).await
}
