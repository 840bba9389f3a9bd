//! Where networks are in user mode: the end of the process that carries a container's network, while the container runs.
//! The container goes on without, and says so until it is started again.

use std::time::Duration;

use tokio::time::sleep;

use super::Driver;
use crate::machine::GatewayWatch;

const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Driver {
    /// Begins to look after that process, if the run has one.
    pub(super) fn watch_gateway(&mut self) {
        let is_there =
            self.record.endpoints.iter().any(|endpoint| endpoint.is_user_mode && !endpoint.is_lost);
        self.gateway = is_there.then(|| self.shared.machines.gateway_watch(self.container.id.machine_id()));
    }

    pub(super) async fn network_lost(&mut self) {
        self.gateway = None;
        tracing::warn!(
            container = %self.container.id,
            "passt, which is its machine's network, has ended; it has none until it is started again"
        );
        for endpoint in &mut self.record.endpoints {
            endpoint.is_lost = true;
        }
        self.commit(self.record.state.clone()).await;
        self.show_networks();
    }
}

/// Completes when it has ended and its machine has not; never without one.
pub(super) async fn lost(gateway: &Option<GatewayWatch>) {
    let Some(gateway) = gateway else { return std::future::pending().await };
    loop {
        sleep(LOOK_EVERY).await;
        if gateway.has_ended() {
            // A machine that ends takes it along, a moment before or after: of that others tell.
            sleep(LOOK_EVERY).await;
            return;
        }
    }
}
