//! What a container may do, and which namespaces it has for itself.

use clap::Args;

use super::OptionError;
use crate::client::{CreateRequest, HostConfig};
use crate::environment;

#[derive(Args, Debug)]
#[command(next_help_heading = "Security")]
pub(crate) struct SecurityOptions {
    /// Give extended privileges to this container
    #[arg(long)]
    privileged: bool,
    /// Add Linux capabilities
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// Security Options
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Sysctl options
    #[arg(long, value_name = "KEY=VALUE")]
    sysctl: Vec<String>,
    /// IPC mode to use
    #[arg(long, value_name = "MODE")]
    ipc: Option<String>,
    /// PID namespace to use
    #[arg(long, value_name = "MODE")]
    pid: Option<String>,
    /// UTS namespace to use
    #[arg(long, value_name = "MODE")]
    uts: Option<String>,
    /// User namespace to use
    #[arg(long, value_name = "MODE")]
    userns: Option<String>,
    /// Cgroup namespace to use (host|private)
    #[arg(long, value_name = "MODE")]
    cgroupns: Option<String>,
    /// Optional parent cgroup for the container
    #[arg(long, value_name = "PATH")]
    cgroup_parent: Option<String>,
}

impl SecurityOptions {
    pub(super) fn apply(&self, request: &mut CreateRequest) -> Result<(), OptionError> {
        let host = &mut request.host_config;
        host.privileged = self.privileged;
        host.cap_add.clone_from(&self.cap_add);
        host.cap_drop.clone_from(&self.cap_drop);
        for option in &self.security_opt {
            apply_security_option(option, host)?;
        }
        for sysctl in &self.sysctl {
            if !sysctl.contains('=') {
                return Err(OptionError::invalid("sysctl", sysctl, "expected KEY=VALUE"));
            }
        }
        host.sysctls = environment::pairs(&self.sysctl);
        host.ipc_mode = self.ipc.clone().unwrap_or_default();
        host.pid_mode = self.pid.clone().unwrap_or_default();
        host.uts_mode = self.uts.clone().unwrap_or_default();
        host.userns_mode = self.userns.clone().unwrap_or_default();
        host.cgroupns_mode = self.cgroupns.clone().unwrap_or_default();
        host.cgroup_parent = self.cgroup_parent.clone().unwrap_or_default();
        Ok(())
    }
}

/// As the docker command does it: a profile is a file of the client's, and unconfined paths are lists of none.
fn apply_security_option(option: &str, host: &mut HostConfig) -> Result<(), OptionError> {
    let (name, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
    match (name, value) {
        ("systempaths", "unconfined") => {
            host.masked_paths = Some(Vec::new());
            host.readonly_paths = Some(Vec::new());
        }
        ("seccomp", file) if !matches!(file, "unconfined" | "builtin") => {
            let profile = std::fs::read_to_string(file);
            let profile = profile.map_err(|reason| {
                let reason = format!("opening seccomp profile ({file}) failed: {reason}");
                OptionError::invalid("security-opt", option, reason)
            })?;
            host.security_opt.push(format!("seccomp={profile}"));
        }
        _ => host.security_opt.push(option.to_owned()),
    }
    Ok(())
}
