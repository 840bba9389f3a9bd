//! What a container is called and how the daemon keeps it: name, labels, restart, health, logs, isolation.

use std::path::PathBuf;

use clap::Args;

use super::{OptionError, duration_or_default, optional};
use crate::client::{CreateRequest, Healthcheck, RestartPolicy};
use crate::environment;

#[derive(Args, Debug)]
#[command(next_help_heading = "Container")]
pub(crate) struct MetadataOptions {
    /// Assign a name to the container
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Automatically remove the container and its anonymous volumes when it exits
    #[arg(long)]
    pub(crate) rm: bool,
    /// Write the container ID to the file
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,
    /// Set platform if server is multi-platform capable
    #[arg(long, env = "DOCKER_DEFAULT_PLATFORM", value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    /// Set meta data on a container
    #[arg(short, long = "label", value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Read in a line delimited file of labels
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// Add an annotation to the container
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    /// Restart policy to apply when a container exits: no, always, unless-stopped, on-failure[:COUNT]
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
    /// Which containers share a machine: machine (its own, the default), shared, group:NAME
    #[arg(long)]
    isolation: Option<String>,
    /// Runtime to use for this container
    #[arg(long)]
    runtime: Option<String>,
    /// Logging driver for the container
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,
    /// Log driver options
    #[arg(long, value_name = "KEY=VALUE")]
    log_opt: Vec<String>,
    /// Command to run to check health
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Time between running the check (ms|s|m|h)
    #[arg(long, value_name = "DURATION")]
    health_interval: Option<String>,
    /// Maximum time to allow one check to run (ms|s|m|h)
    #[arg(long, value_name = "DURATION")]
    health_timeout: Option<String>,
    /// Start period for the container to initialize before failures count (ms|s|m|h)
    #[arg(long, value_name = "DURATION")]
    health_start_period: Option<String>,
    /// Time between running the check during the start period (ms|s|m|h)
    #[arg(long, value_name = "DURATION")]
    health_start_interval: Option<String>,
    /// Consecutive failures needed to report unhealthy
    #[arg(long, value_name = "COUNT")]
    health_retries: Option<i64>,
    /// Disable any container-specified HEALTHCHECK
    #[arg(long)]
    no_healthcheck: bool,
}

impl MetadataOptions {
    pub(super) fn apply(&self, request: &mut CreateRequest) -> Result<(), OptionError> {
        request.labels = environment::labels(&self.label_file, &self.label)?;
        request.healthcheck = self.healthcheck()?;
        let host = &mut request.host_config;
        host.auto_remove = self.rm;
        host.annotations = environment::pairs(&self.annotation);
        host.restart_policy = optional("restart", self.restart.as_deref(), parse_restart)?;
        if self.rm && host.restart_policy.as_ref().is_some_and(|policy| policy.name != "no") {
            return Err(OptionError::Conflict("cannot specify both --restart and --rm".to_owned()));
        }
        host.isolation = self.isolation.clone().unwrap_or_default();
        host.runtime = self.runtime.clone().unwrap_or_default();
        if self.log_driver.is_some() || !self.log_opt.is_empty() {
            let log_config = host.log_config.get_or_insert_default();
            log_config.driver = self.log_driver.clone().unwrap_or_default();
            log_config.config = environment::pairs(&self.log_opt);
        }
        Ok(())
    }

    fn healthcheck(&self) -> Result<Option<Healthcheck>, OptionError> {
        let durations = [
            &self.health_interval,
            &self.health_timeout,
            &self.health_start_period,
            &self.health_start_interval,
        ];
        let asked = self.health_cmd.is_some()
            || self.health_retries.is_some()
            || durations.iter().any(|duration| duration.is_some());
        if self.no_healthcheck {
            let reason = "--no-healthcheck conflicts with --health-* options".to_owned();
            let none = Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() };
            return if asked { Err(OptionError::Conflict(reason)) } else { Ok(Some(none)) };
        }
        if !asked {
            return Ok(None);
        }
        let test = self.health_cmd.iter().flat_map(|command| ["CMD-SHELL".to_owned(), command.clone()]);
        Ok(Some(Healthcheck {
            test: test.collect(),
            interval: duration_or_default("health-interval", self.health_interval.as_deref())?,
            timeout: duration_or_default("health-timeout", self.health_timeout.as_deref())?,
            start_period: duration_or_default("health-start-period", self.health_start_period.as_deref())?,
            start_interval: duration_or_default(
                "health-start-interval",
                self.health_start_interval.as_deref(),
            )?,
            retries: self.health_retries.unwrap_or(0),
        }))
    }
}

/// `NAME[:COUNT]`; which names there are is the daemon's to say.
pub(crate) fn parse_restart(policy: &str) -> Result<RestartPolicy, String> {
    let (name, count) = policy.split_once(':').unwrap_or((policy, "0"));
    let maximum_retry_count =
        count.parse().map_err(|_| "maximum retry count must be an integer".to_owned())?;
    Ok(RestartPolicy { name: name.to_owned(), maximum_retry_count })
}
