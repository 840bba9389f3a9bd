//! Coming to networks and leaving them: of a container that runs at once, of any other one at its next start.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::Driver;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::names::files;
use crate::engine::networks::{ActiveNetwork, Connection, Endpoint, EndpointSpec, NetworkSpec};
use crate::engine::state::ContainerState;

/// Two small files in the guest.
const NAMES_DEADLINE: Duration = Duration::from_secs(60);

impl Driver {
    pub(super) async fn connect(&mut self, word: String, wanted: EndpointSpec) -> Result<(), EngineError> {
        self.check_is_kept()?;
        let found = self.shared.networks.connection(&self.record.spec.network, &word, &wanted);
        match found {
            Ok(Connection::New(network)) if self.active.is_some() => self.connect_run(network, wanted).await,
            Ok(Connection::Already(network)) if self.active.is_some() => Err(EngineError::new(
                ErrorKind::Forbidden,
                format!(
                    "endpoint with name {} already exists in network {}",
                    self.record.name, network.network.name
                ),
            )),
            Ok(Connection::Already(_)) => Ok(()),
            Ok(Connection::Loopback) => self.describe(|spec| spec.has_left_mode = false).await,
            Ok(Connection::New(network)) => {
                let name = network.network.name.clone();
                self.describe(|spec| drop(spec.endpoints.insert(name, wanted))).await
            }
            // As Docker: whether there is such a network is seen at the start.
            Err(error) if error.kind == ErrorKind::NotFound && self.active.is_none() => {
                self.describe(|spec| drop(spec.endpoints.insert(word, wanted))).await
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn disconnect(&mut self, word: &str, force: bool) -> Result<(), EngineError> {
        self.check_is_kept()?;
        let id = self.container.id.clone();
        let found = self.shared.networks.find(word);
        if self.active.is_some() && (found.is_ok() || !force) {
            self.shared.check_is_connected(&self.record.spec.network, word, &id)?;
        }
        let mut spec = self.record.spec.network.clone();
        self.shared.networks.take_from(&mut spec, word, &id)?;
        let is_of =
            |endpoint: &&Endpoint| found.as_ref().is_ok_and(|network| endpoint.network == network.network.id);
        let place = self.record.endpoints.iter().find(is_of).cloned();
        match place {
            Some(place) if self.active.is_some() => self.disconnect_run(&place, spec).await,
            _ => self.describe(|described| *described = spec).await?,
        }
        self.shared.publish_place("disconnect", word, &id);
        Ok(())
    }

    /// In Docker's words.
    fn check_is_kept(&self) -> Result<(), EngineError> {
        if self.record.state != ContainerState::Removing {
            return Ok(());
        }
        let id = &self.container.id;
        Err(EngineError::conflict(format!(
            "Container {id} is marked for removal and cannot be connected or disconnected to the network"
        )))
    }

    /// The record knows of a place before anything is bound to it: a daemon that dies meanwhile leaves one that the next
    /// daemon ends.
    async fn connect_run(
        &mut self,
        network: Arc<ActiveNetwork>,
        wanted: EndpointSpec,
    ) -> Result<(), EngineError> {
        let Some(mut active) = self.active.take() else { return Ok(()) };
        let connected = match active.take_place(&self.container, &network, &wanted).await {
            Ok(place) => {
                self.record.endpoints = active.endpoints().to_vec();
                self.commit(self.record.state.clone()).await;
                let plugged = active.plug_in(&self.container, &place).await;
                if plugged.is_err() {
                    active.give_back(&self.container, &place).await;
                }
                plugged
            }
            Err(error) => Err(error),
        };
        self.record.endpoints = active.endpoints().to_vec();
        self.active = Some(active);
        let name = network.network.name.clone();
        let is_connected = connected.is_ok();
        let described = self
            .describe(|spec| {
                if is_connected {
                    spec.endpoints.insert(name, wanted);
                }
            })
            .await;
        connected.and(described)?;
        self.tell_names().await;
        self.shared.publish_place("connect", network.network.id.as_str(), &self.container.id);
        Ok(())
    }

    async fn disconnect_run(&mut self, place: &Endpoint, spec: NetworkSpec) {
        let Some(mut active) = self.active.take() else { return };
        active.begin_to_leave(place);
        Arc::make_mut(&mut self.record.spec).network = spec;
        self.record.endpoints = active.endpoints().to_vec();
        self.commit(self.record.state.clone()).await;
        active.give_back(&self.container, place).await;
        self.record.endpoints = active.endpoints().to_vec();
        self.commit(self.record.state.clone()).await;
        self.active = Some(active);
        self.show_networks();
        self.tell_names().await;
    }

    /// What an earlier daemon was about to connect or disconnect when it died: nobody was told that it is connected.
    pub(super) async fn end_unfinished_places(&mut self) {
        let unfinished: Vec<_> =
            self.record.endpoints.iter().filter(|endpoint| endpoint.is_changing).cloned().collect();
        for place in unfinished {
            let spec = self.record.spec.network.clone();
            self.disconnect_run(&place, spec).await;
        }
    }

    /// Its files that tell of names follow its networks. What they miss, its name server still answers.
    async fn tell_names(&self) {
        let Some(active) = &self.active else { return };
        let (id, live) = (&self.container.id, active.live());
        let telling = files::update(&self.shared, &self.container, &live, &self.record.endpoints);
        match timeout(live.pace.deadline(NAMES_DEADLINE), telling).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(container = %id, error = error.message, "a container's files do not tell of its networks");
            }
            Err(_elapsed) => {
                let waited_s = NAMES_DEADLINE.as_secs();
                tracing::warn!(container = %id, waited_s, "waited in vain for a container's files to tell of its networks");
            }
        }
    }

    /// Changes what the container is to be on, for now and for its next start.
    async fn describe(&mut self, change: impl FnOnce(&mut NetworkSpec)) -> Result<(), EngineError> {
        change(&mut Arc::make_mut(&mut self.record.spec).network);
        self.shared.records.put(&self.record).await?;
        self.show_networks();
        Ok(())
    }

    pub(super) fn show_networks(&self) {
        self.show(|status| {
            status.spec = Arc::clone(&self.record.spec);
            status.endpoints = self.record.endpoints.clone().into();
        });
    }
}
