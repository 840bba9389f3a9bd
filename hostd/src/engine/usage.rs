//! What images and containers take, as the host sees it.

use std::sync::Arc;

use super::Engine;
use super::container::Container;
use super::error::EngineError;
use super::identity::ContainerId;
use super::view::ContainerView;
use crate::image::{Image, StoreUsage};

/// What is there and what it takes.
#[derive(Clone, Debug)]
pub struct Usage {
    /// Newest first.
    pub images: Vec<Image>,
    pub store: StoreUsage,
    pub containers: Vec<ContainerUsage>,
}

#[derive(Clone, Debug)]
pub struct ContainerUsage {
    pub view: ContainerView,
    /// Of the host's disk: what the container wrote to its own.
    pub written_bytes: u64,
}

impl Engine {
    /// Looks at every file of the image store and at every container's disk.
    ///
    /// # Errors
    /// The image store cannot be read.
    pub async fn usage(&self) -> Result<Usage, EngineError> {
        let engine = self.clone();
        self.with_images(move |images| {
            let containers = engine.containers().into_iter().map(|view| {
                let written_bytes = engine.written_bytes(&view.id);
                ContainerUsage { view, written_bytes }
            });
            Ok(Usage { images: images.list()?, store: images.usage()?, containers: containers.collect() })
        })
        .await
    }

    /// What a container wrote to its own disk, as the host has it. Blocks for as long as one stat(2).
    #[must_use]
    pub fn written_bytes(&self, id: &ContainerId) -> u64 {
        let container = self.shared.containers().get(id).cloned();
        let written_bytes = |container: Arc<Container>| {
            let template = self.shared.scratch.of(container.spec().scratch_disk_bytes).ok()?;
            Some(template.written_bytes(&container.scratch_path()))
        };
        container.and_then(written_bytes).unwrap_or(0)
    }
}
