//! `berth update`: other limits, or another restart policy, for containers that exist.

use clap::Args;

use super::each::{Missing, for_each};
use crate::client::{Client, UpdateRequest};
use crate::options::{OptionError, optional, optional_bytes, parse_restart};
use crate::outcome::Outcome;
use crate::output::note;
use crate::quantity;

/// Update configuration of one or more containers
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth update --memory 1g --cpus 2 web
  berth update --restart unless-stopped web db")]
pub(crate) struct Arguments {
    /// Memory limit
    #[arg(short, long, value_name = "BYTES")]
    memory: Option<String>,
    /// Memory soft limit
    #[arg(long, value_name = "BYTES")]
    memory_reservation: Option<String>,
    /// Swap limit equal to memory plus swap: -1 to enable unlimited swap
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    memory_swap: Option<String>,
    /// Number of CPUs
    #[arg(long, value_name = "DECIMAL")]
    cpus: Option<String>,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "INT")]
    cpu_shares: Option<i64>,
    /// Limit CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<i64>,
    /// Limit CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "INT", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// Block IO (relative weight), between 10 and 1000, or 0 to disable
    #[arg(long, value_name = "INT")]
    blkio_weight: Option<u16>,
    /// Restart policy to apply when a container exits
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Arguments {
    fn request(&self) -> Result<UpdateRequest, OptionError> {
        Ok(UpdateRequest {
            memory: optional_bytes("memory", self.memory.as_deref())?,
            memory_reservation: optional_bytes("memory-reservation", self.memory_reservation.as_deref())?,
            memory_swap: optional("memory-swap", self.memory_swap.as_deref(), quantity::parse_swap)?,
            nano_cpus: optional("cpus", self.cpus.as_deref(), quantity::parse_nano_cpus)?,
            cpu_shares: self.cpu_shares,
            cpu_period: self.cpu_period,
            cpu_quota: self.cpu_quota,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            pids_limit: self.pids_limit,
            blkio_weight: self.blkio_weight,
            restart_policy: optional("restart", self.restart.as_deref(), parse_restart)?,
        })
    }
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let request = arguments.request()?;
    for_each(&arguments.containers, Missing::Fails, |container| {
        let update = client.update(container, &request);
        async move {
            let updated = update.await?;
            updated.warnings.iter().flatten().for_each(|warning| note(&format!("WARNING: {warning}")));
            Ok(())
        }
    })
    .await
}
