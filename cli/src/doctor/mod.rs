//! What this host has for running machines, what is missing, and the fix for each missing thing.
//!
//! Looks, never changes anything, and needs no daemon. It searches where the daemon searches; the rules are written a
//! second time because the CLI must build where the daemon cannot.

mod accelerator;
mod artifacts;
mod daemon;
mod programs;
mod report;
mod settings;
mod system;

use report::Report;
pub(crate) use settings::{AcceleratorRequest, Settings};

use crate::client::Client;
use crate::host::HostError;

/// Every check, in the order in which they are shown.
pub(crate) async fn examine(settings: &Settings, client: Result<Client, HostError>) -> Report {
    let mut checks = Vec::new();
    if cfg!(target_os = "linux") {
        let programs = programs::Search::of_process(settings);
        let accelerator = accelerator::Probe::of_host(programs.qemu()).choose(settings.accelerator);
        checks.push(accelerator::check(&accelerator));
        checks.extend(artifacts::checks(settings, &programs));
        checks.extend(programs::checks(&programs, &accelerator, system::is_privileged()));
        checks.extend(system::checks());
    } else {
        checks.push(system::only_a_client());
    }
    checks.push(daemon::check(client).await);
    Report { checks }
}
