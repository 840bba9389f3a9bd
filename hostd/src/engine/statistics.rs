//! How a container does: its counters and its processes, as its machine's kernel has them.

use std::time::Duration;

use super::Engine;
use super::error::{EngineError, ErrorKind};
use crate::agent_client::within;
use berth_protocol::agent;

pub use agent::{DiskStatistics, InterfaceStatistics, ProcessRow, ProcessTable, Statistics};

/// Reading a few files, on a host that many others load.
const READ_DEADLINE: Duration = Duration::from_secs(20);

impl Engine {
    /// The counters of a container; `None` while it does not run.
    ///
    /// # Errors
    /// No such container, or a machine that does not answer.
    pub async fn statistics(&self, name: &str) -> Result<Option<Statistics>, EngineError> {
        let container = self.find(name)?;
        let Some(live) = container.current().live else { return Ok(None) };
        let id = container.id.as_str();
        let reading = live.agent.statistics(id);
        match within(live.pace.deadline(READ_DEADLINE), "its statistics", reading).await {
            Ok(statistics) => Ok(Some(statistics)),
            // It ended while it was asked.
            Err(_) if container.current().live.is_none() => Ok(None),
            Err(error) => Err(EngineError::internal("cannot read a container's statistics", &error)),
        }
    }

    /// Every process of a container that runs, in the order of their pids.
    ///
    /// # Errors
    /// No such container, one that does not run, or a machine that does not answer.
    pub async fn processes(&self, name: &str) -> Result<ProcessTable, EngineError> {
        let container = self.find(name)?;
        if container.current().state.is_restarting() {
            let message =
                format!("Container {} is restarting, wait until the container is running", container.id);
            return Err(EngineError::new(ErrorKind::Conflict, message));
        }
        let live = container.live().await?;
        let id = container.id.as_str();
        let reading = live.agent.process_table(id);
        let table = within(live.pace.deadline(READ_DEADLINE), "its list of processes", reading).await;
        table.map_err(|error| EngineError::internal("cannot list a container's processes", &error))
    }
}
