//! Removing networks that nobody is on.

use std::collections::BTreeSet;

use super::super::Engine;
use super::super::error::EngineError;
use super::create::PREDEFINED;
use super::network::Network;
use super::{NetworkView, Networks, forbidden};

impl Engine {
    /// # Errors
    /// No such network, one that is always there, or one that containers are on.
    pub async fn remove_network(&self, word: &str) -> Result<(), EngineError> {
        let engine = self.clone();
        let word = word.to_owned();
        let removing = tokio::spawn(async move {
            engine.shared.networks.wait_for_leaving(&word).await;
            let _turn = engine.shared.networks.changes.lock().await;
            let network = engine.shared.networks.take_off(&word)?;
            engine.shared.networks.remove(&network).await?;
            engine.publish_network("destroy", &network);
            Ok(())
        });
        removing.await.map_err(|error| EngineError::internal("cannot remove network", &error))?
    }

    /// Removes all networks that nobody is on and that fit. Returns their names.
    ///
    /// # Errors
    /// One that cannot be removed.
    pub async fn prune_networks(
        &self,
        fits: impl Fn(&NetworkView) -> bool,
    ) -> Result<Vec<String>, EngineError> {
        let mut names = Vec::new();
        for view in self.networks() {
            let name = view.network.name.clone();
            if PREDEFINED.contains(&name.as_str()) || !view.stations.is_empty() || !fits(&view) {
                continue;
            }
            match self.remove_network(view.network.id.as_str()).await {
                Ok(()) => names.push(name),
                // Somebody came, or was faster.
                Err(error) if error.kind != super::super::error::ErrorKind::Internal => {}
                Err(error) => return Err(error),
            }
        }
        let actor = super::Actor { id: String::new(), attributes: [("reclaimed".into(), "0".into())].into() };
        self.events().publish(super::EventKind::Network, "prune", actor);
        Ok(names)
    }
}

impl Networks {
    /// If nobody is on it but containers that have ended, until they are off it.
    async fn wait_for_leaving(&self, word: &str) {
        // Who asks for none hears of it later.
        let Ok(found) = self.find(word) else { return };
        let stations: BTreeSet<_> = found.stations().keys().cloned().collect();
        if stations.iter().all(|container| self.leaving.has(container)) {
            self.leaving.wait(|container| stations.contains(container)).await;
        }
    }

    /// From here on nobody can join it.
    fn take_off(&self, word: &str) -> Result<Network, EngineError> {
        let found = self.find(word)?;
        let network = &found.network;
        if PREDEFINED.contains(&network.name.as_str()) {
            return Err(forbidden(format!(
                "{} is a pre-defined network and cannot be removed",
                network.name
            )));
        }
        let mut active = self.active_mut();
        let stations = found.stations();
        if !stations.is_empty() {
            let one = |(id, station): (&super::ContainerId, &super::StationView)| {
                format!("name:\"{}\" id:\"{}\"", station.container_name, id.short())
            };
            let all: Vec<_> = stations.iter().map(one).collect();
            return Err(forbidden(format!(
                "error while removing network: network {} has active endpoints ({})",
                network.name,
                all.join(", ")
            )));
        }
        active.remove(&network.id);
        Ok(network.clone())
    }

    /// Record first: what a crash leaves is a bridge, and the next daemon removes it.
    async fn remove(&self, network: &Network) -> Result<(), EngineError> {
        self.records.delete(network.id.as_str()).await?;
        let (Some(host), Some(bridge)) = (self.host.get(), network.on_host()) else { return Ok(()) };
        let removed = host.remove(&bridge).await;
        removed.map_err(|error| {
            EngineError::internal(&format!("cannot remove network {}", network.name), &error)
        })
    }
}
