//! Places on networks that come and go while a run lasts.

use std::net::SocketAddr;
use std::sync::Arc;

use super::super::container::Container;
use super::super::error::EngineError;
use super::ActiveNetwork;
use super::endpoint::{Endpoint, EndpointSpec, PublishedPort, bindings, port_carrier};
use super::join::{Joined, publications};

impl Joined {
    /// One place more, on this card of the machine's. It is [changing](Endpoint::is_changing) until somebody says that it
    /// is [settled](Self::settle).
    ///
    /// # Errors
    /// An address that somebody has, or what the host answered; nothing is held then.
    pub(in crate::engine) async fn add(
        &mut self,
        container: &Container,
        network: &Arc<ActiveNetwork>,
        wanted: &EndpointSpec,
        machine_card: usize,
    ) -> Result<Endpoint, EngineError> {
        let prefix = &network.network.bridge.container_interface_prefix;
        let is_free = |number: &usize| {
            let name = format!("{prefix}{number}");
            self.endpoints.iter().all(|endpoint| endpoint.interface != name)
        };
        let number = (0..).find(is_free).expect("there are more numbers than interfaces");
        let joined = self.networks.join_one(network, container, wanted, number).await?;
        let endpoint = Endpoint { machine_card, is_changing: true, ..joined };
        self.endpoints.push(endpoint.clone());
        Ok(endpoint)
    }

    pub(in crate::engine) fn settle(&mut self) {
        for endpoint in &mut self.endpoints {
            endpoint.is_changing = false;
        }
    }

    pub(in crate::engine) fn begin_change(&mut self, endpoint_id: &str) {
        for endpoint in self.endpoints.iter_mut().filter(|endpoint| endpoint.id == endpoint_id) {
            endpoint.is_changing = true;
        }
    }

    /// Gives one place back, when nothing uses its card any more. Ports that led there are to be [led](Self::lead_ports) to
    /// another.
    pub(in crate::engine) async fn remove(&mut self, endpoint_id: &str) -> Vec<PublishedPort> {
        let Some(index) = self.endpoints.iter().position(|endpoint| endpoint.id == endpoint_id) else {
            return Vec::new();
        };
        let endpoint = self.endpoints.remove(index);
        self.networks.leave(&self.container, std::slice::from_ref(&endpoint)).await;
        endpoint.published
    }

    /// Lets published ports lead to the place that has the default route by now. `homeless` are those of one that is gone.
    /// Without any way out there are none.
    ///
    /// # Errors
    /// A port that somebody has meanwhile, or what the host answered.
    pub(in crate::engine) async fn lead_ports(
        &mut self,
        container: &Container,
        mut homeless: Vec<PublishedPort>,
    ) -> Result<(), EngineError> {
        let carrier = port_carrier(&self.endpoints);
        let holder = self.endpoints.iter().position(|endpoint| !endpoint.published.is_empty());
        if holder.is_some() && holder == carrier {
            return Ok(());
        }
        if let Some(holder) = holder {
            self.unpublish(holder).await?;
            homeless = std::mem::take(&mut self.endpoints[holder].published);
        }
        match carrier {
            None => {
                self.ports.clear();
                Ok(())
            }
            Some(_) if homeless.is_empty() => {
                let networks = Arc::clone(&self.networks);
                networks.publish(self, container, &bindings(&container.spec())).await
            }
            Some(carrier) => self.lead(carrier, homeless).await,
        }
    }

    async fn unpublish(&self, holder: usize) -> Result<(), EngineError> {
        let withdrawn = self.networks.host().await?.unpublish(publications(&self.endpoints[holder])).await;
        withdrawn.map_err(|error| self.failed("withdraw", &error))
    }

    async fn lead(&mut self, carrier: usize, ports: Vec<PublishedPort>) -> Result<(), EngineError> {
        let endpoint = &mut self.endpoints[carrier];
        let to = endpoint.ipv4().or(endpoint.ipv6());
        for published in &ports {
            let is_its = |port: &&mut _| is_of(port, published);
            if let (Some(port), Some(net)) = (self.ports.iter_mut().find(is_its), to) {
                port.serve(SocketAddr::new(net.addr(), published.port));
            }
        }
        endpoint.published = ports;
        let publications = publications(endpoint);
        let led = self.networks.host().await?.publish(publications).await;
        led.map_err(|error| self.failed("publish", &error))
    }

    fn failed(&self, step: &str, error: &dyn std::error::Error) -> EngineError {
        EngineError::internal(&format!("cannot {step} ports of container {}", self.container), error)
    }
}

fn is_of(port: &crate::network::ports::ReservedPort, published: &PublishedPort) -> bool {
    (port.protocol(), port.address()) == (published.protocol, published.host)
}
