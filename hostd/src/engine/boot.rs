//! A container's machine, up to its agent's first word: what a run and the reading of files have in common.

use std::sync::Arc;

use berth_protocol::agent::Ready;
use berth_vmm::config::{DiskAccess, Extent, MacAddress, NetworkCardConfig};

use super::Shared;
use super::container::Container;
use super::error::EngineError;
use super::mounts::ImageParts;
use super::networks::Endpoint;
use crate::machine::{Devices, Disk, Machine, MachineError, NewShare};

/// Each costs a start some milliseconds.
const SPARE_CARDS: usize = 1;

/// The machine's disks in guest order: image, scratch. Blocks.
fn prepare_disks(shared: &Shared, container: &Container) -> Result<Vec<Disk>, EngineError> {
    let image = shared.images.disk(&container.image_id);
    let image = image.map_err(|error| EngineError::internal("cannot find its image disk", &error))?;
    let scratch = container.scratch_path();
    let failed = |error: std::io::Error| EngineError::internal("cannot make its scratch disk", &error);
    if !scratch.exists() {
        let template = shared.scratch.of(container.spec().scratch_disk_bytes)?;
        template.clone_to(&scratch).map_err(failed)?;
    }
    // As it was made: the daemon's setting may be another by now.
    let length_bytes = std::fs::metadata(&scratch).map_err(failed)?.len();
    let scratch = Extent { path: scratch, offset_bytes: 0, length_bytes };
    Ok(vec![
        Disk { access: DiskAccess::ReadOnly, extents: image.extents },
        Disk { access: DiskAccess::ReadWrite, extents: vec![scratch] },
    ])
}

/// The same, with the images that it has mounted behind its own.
pub(super) fn prepare_all_disks(
    shared: &Shared,
    container: &Container,
) -> Result<(Vec<Disk>, ImageParts), EngineError> {
    let mut disks = prepare_disks(shared, container)?;
    let images = ImageParts::append(shared, &container.mounts, &mut disks[0])?;
    Ok((disks, images))
}

/// One per endpoint, in its order.
fn cards(endpoints: &[Endpoint]) -> Vec<NetworkCardConfig> {
    let card = |endpoint: &Endpoint| NetworkCardConfig {
        mac: MacAddress(endpoint.mac),
        tap: (!endpoint.is_user_mode).then(|| endpoint.card.clone()),
        // The machine's own affair.
        gateway: None,
        rates: endpoint.rates,
        mtu: Some(endpoint.mtu_bytes),
    };
    endpoints.iter().map(card).collect()
}

/// For networks that come while it runs. Who begins without any rarely gets one.
fn spare_cards(endpoints: &[Endpoint]) -> usize {
    if endpoints.is_empty() { 0 } else { SPARE_CARDS }
}

/// Starts it and waits for its agent. What did not get there is gone again.
pub(super) async fn boot_machine(
    shared: &Arc<Shared>,
    container: &Container,
    disks: Vec<Disk>,
    endpoints: &[Endpoint],
    shares: Option<Vec<NewShare>>,
) -> Result<(Machine, Ready), MachineError> {
    let spec = container.spec();
    let size = shared.machine_size(&spec.limits);
    let share = spec.limits.host_share(spec.cgroup_parent.as_deref());
    let devices = Devices {
        disks,
        network_cards: cards(endpoints),
        spare_cards: spare_cards(endpoints),
        gateway: shared.networks.gateway(&container.id, endpoints),
        spare_disk: true,
        shares,
    };
    let starting = match shared.machines.start(container.id.machine_id(), size, &share, devices).await {
        Ok(starting) => starting,
        Err(error) => {
            shared.clear_machine(&container.id).await;
            return Err(error);
        }
    };
    match starting.ready().await {
        Ok(booted) => Ok(booted),
        Err((machine, error)) => {
            machine.end().await;
            Err(error)
        }
    }
}
