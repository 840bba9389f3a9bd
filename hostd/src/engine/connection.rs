//! A run's networks while it runs: a card of its machine's bound to a place on a network, its interface set up in the
//! container, and the way back.

use std::sync::Arc;
use std::time::Duration;

use berth_protocol::agent;

use super::container::Container;
use super::error::{EngineError, ErrorKind};
use super::launch::interface;
use super::networks::{ActiveNetwork, Endpoint, EndpointSpec, Joined, default_routes};
use super::run::{ActiveRun, Dwelling};
use crate::agent_client::within;
use crate::machine::Machine;

/// A few requests to the guest's kernel.
const CONNECT_DEADLINE: Duration = Duration::from_secs(60);

impl ActiveRun {
    fn machine(&self) -> Result<&Machine, EngineError> {
        match &self.dwelling {
            Dwelling::Own(machine) => Ok(machine),
            Dwelling::Lodging(_) => Err(EngineError::conflict(
                "a container in another container's machine has no network cards of its own",
            )),
        }
    }

    fn joined(&mut self) -> Result<&mut Joined, EngineError> {
        let nothing = "a run that has never joined networks cannot be connected";
        self.joined.as_mut().ok_or_else(|| EngineError::new(ErrorKind::Internal, nothing))
    }

    /// Takes a place on a network and a card of the machine's for it. The container does not have it yet.
    ///
    /// # Errors
    /// The machine has no card left, or what keeps it from the network. Nothing is held then.
    pub(super) async fn take_place(
        &mut self,
        container: &Container,
        network: &Arc<ActiveNetwork>,
        wanted: &EndpointSpec,
    ) -> Result<Endpoint, EngineError> {
        let name = &network.network.name;
        let failed = |error| {
            EngineError::internal(
                &format!("cannot connect container {} to network {name}", container.id),
                &error,
            )
        };
        let cards = self.machine()?.card_count().await.map_err(failed)?;
        let joined = self.joined()?;
        let is_free = |card: &usize| joined.endpoints().iter().all(|endpoint| endpoint.machine_card != *card);
        let card = (0..cards).find(is_free).ok_or_else(|| {
            EngineError::conflict(format!(
                "cannot connect container {} to network {name} while it runs: its machine was started with {cards} network \
                 cards, and all are in use; stop it, connect it, and start it again",
                container.id
            ))
        })?;
        joined.add(container, network, wanted, card).await
    }

    /// Gives the container the place that was taken.
    ///
    /// # Errors
    /// What machine or guest answered, or a port that somebody has: the place is to be [given back](Self::give_back).
    pub(super) async fn plug_in(
        &mut self,
        container: &Container,
        place: &Endpoint,
    ) -> Result<(), EngineError> {
        let what = || format!("cannot connect container {} to network {}", container.id, place.network_name);
        let bound = self.machine()?.bind_card(place.machine_card, &place.card, place.rates).await;
        bound.map_err(|error| EngineError::internal(&what(), &error))?;
        let joined = self.joined()?;
        let number =
            joined.endpoints().iter().position(|endpoint| endpoint.id == place.id).unwrap_or_default();
        let request = agent::ConnectInterface {
            container_id: container.id.to_string(),
            interface: Some(interface(joined.endpoints(), number)),
        };
        let deadline = self.live.pace.deadline(CONNECT_DEADLINE);
        let connecting = self.live.agent.connect_interface(request);
        let connected = within(deadline, "its network interface to be set up", connecting).await;
        connected.map_err(|error| EngineError::internal(&what(), &error))?;
        let joined = self.joined()?;
        joined.lead_ports(container, Vec::new()).await?;
        joined.settle();
        Ok(())
    }

    /// Takes a place from the container. Whatever machine and guest say, the container is not on the network afterwards.
    pub(super) async fn give_back(&mut self, container: &Container, place: &Endpoint) {
        let id = &container.id;
        let rest: Vec<Endpoint> =
            self.endpoints().iter().filter(|endpoint| endpoint.id != place.id).cloned().collect();
        let route = |(number, gateway): (usize, std::net::IpAddr)| agent::DefaultRoute {
            interface: rest[number].interface.clone(),
            gateway: gateway.to_string(),
        };
        let request = agent::DisconnectInterface {
            container_id: id.to_string(),
            card: super::launch::card_name(place),
            name: place.interface.clone(),
            default_routes: default_routes(&rest).into_iter().map(route).collect(),
        };
        let deadline = self.live.pace.deadline(CONNECT_DEADLINE);
        let disconnecting = self.live.agent.disconnect_interface(request);
        if let Err(error) = within(deadline, "its network interface", disconnecting).await {
            tracing::warn!(container = %id, %error, "a container keeps an interface that leads nowhere");
        }
        if let Ok(machine) = self.machine()
            && let Err(error) = machine.unbind_card(place.machine_card, &place.card).await
        {
            tracing::warn!(container = %id, %error, "a network card loses its interface while it is bound");
        }
        let Some(joined) = &mut self.joined else { return };
        let homeless = joined.remove(&place.id).await;
        if let Err(error) = joined.lead_ports(container, homeless).await {
            tracing::warn!(container = %id, error = error.message, "ports are not published any more");
        }
    }

    /// From here on a daemon that finds the place ends it.
    pub(super) fn begin_to_leave(&mut self, place: &Endpoint) {
        if let Some(joined) = &mut self.joined {
            joined.begin_change(&place.id);
        }
    }
}
