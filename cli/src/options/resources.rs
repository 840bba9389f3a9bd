//! How much of the host a container may use.

use clap::Args;

use super::{OptionError, optional, optional_bytes};
use crate::client::{CreateRequest, Ulimit};
use crate::quantity;

#[derive(Args, Debug)]
#[command(next_help_heading = "Resources")]
pub(crate) struct ResourceOptions {
    /// Memory limit
    #[arg(short, long, value_name = "BYTES")]
    memory: Option<String>,
    /// Memory soft limit
    #[arg(long, value_name = "BYTES")]
    memory_reservation: Option<String>,
    /// Swap limit equal to memory plus swap: '-1' to enable unlimited swap
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    memory_swap: Option<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<String>,
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
    /// Tune host's OOM preferences (-1000 to 1000)
    #[arg(long, value_name = "INT", allow_negative_numbers = true)]
    oom_score_adj: Option<i64>,
    /// Disable OOM Killer
    #[arg(long)]
    oom_kill_disable: bool,
    /// Ulimit options
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
}

impl ResourceOptions {
    pub(super) fn apply(&self, request: &mut CreateRequest) -> Result<(), OptionError> {
        let host = &mut request.host_config;
        host.memory = optional_bytes("memory", self.memory.as_deref())?;
        host.memory_reservation = optional_bytes("memory-reservation", self.memory_reservation.as_deref())?;
        host.memory_swap = optional("memory-swap", self.memory_swap.as_deref(), quantity::parse_swap)?;
        host.shm_size = optional_bytes("shm-size", self.shm_size.as_deref())?;
        host.nano_cpus = optional("cpus", self.cpus.as_deref(), quantity::parse_nano_cpus)?;
        host.cpu_shares = self.cpu_shares;
        host.cpu_period = self.cpu_period;
        host.cpu_quota = self.cpu_quota;
        host.cpuset_cpus = self.cpuset_cpus.clone().unwrap_or_default();
        host.cpuset_mems = self.cpuset_mems.clone().unwrap_or_default();
        host.pids_limit = self.pids_limit;
        host.oom_score_adj = self.oom_score_adj;
        host.oom_kill_disable = self.oom_kill_disable;
        for ulimit in &self.ulimit {
            let parsed = parse_ulimit(ulimit);
            host.ulimits.push(parsed.map_err(|reason| OptionError::invalid("ulimit", ulimit, reason))?);
        }
        Ok(())
    }
}

/// `NAME=SOFT[:HARD]`; -1 is unlimited.
pub(super) fn parse_ulimit(text: &str) -> Result<Ulimit, String> {
    let wrong = || "expected NAME=SOFT[:HARD]".to_owned();
    let (name, limits) = text.split_once('=').ok_or_else(wrong)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| text.parse::<i64>().map_err(|_| wrong());
    let (soft, hard) = (number(soft)?, number(hard)?);
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}
