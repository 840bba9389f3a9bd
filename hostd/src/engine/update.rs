//! New limits for a container that exists, whether it runs or not.

use std::time::Duration;

use super::Engine;
use super::container::{Command, Live};
use super::error::{EngineError, ErrorKind, chain};
use super::identity::ContainerId;
use super::limits::Limits;
use crate::agent_client::{CallError, within};
use berth_protocol::agent::ErrorCode;

/// Writing a few files, and what the kernel takes back from a container that has too much.
const UPDATE_DEADLINE: Duration = Duration::from_secs(60);
/// What the guest's kernel and the agent need of a machine's memory while it runs.
const MACHINE_NEED_BYTES: u64 = 32 << 20;

impl Engine {
    /// Puts new limits in the place of all that the container has. Returns warnings for what its machine, which is as
    /// large as it was at the container's start, cannot give until the next start.
    ///
    /// # Errors
    /// No such container, or limits that the machine's kernel refuses; the old ones hold then.
    pub async fn update(&self, name: &str, limits: Limits) -> Result<Vec<String>, EngineError> {
        let container = self.find(name)?;
        let warnings = container.command(|reply| Command::Update { limits, reply }).await??;
        container.publish("update", []);
        Ok(warnings)
    }
}

/// The driver's part in the guest.
pub(super) async fn apply(
    id: &ContainerId,
    live: &Live,
    old: &Limits,
    new: &Limits,
) -> Result<Vec<String>, EngineError> {
    let deadline = live.pace.deadline(UPDATE_DEADLINE);
    let failed = |error: &CallError| {
        let kind = match error {
            CallError::Agent { code: ErrorCode::ResourceLimit, .. } => ErrorKind::Conflict,
            _ => ErrorKind::Internal,
        };
        EngineError::new(kind, format!("Cannot update container {id}: {}", chain(error)))
    };
    let update = async {
        let machine = live.agent.statistics(id.as_str()).await?;
        live.agent.update_resources(id.as_str(), new.resources()).await?;
        Ok(machine)
    };
    let machine = match within(deadline, "its new limits", update).await {
        Ok(machine) => machine,
        Err(error) => {
            // Some of the new ones may hold already.
            let restoring = live.agent.update_resources(id.as_str(), old.resources());
            if within(deadline, "its old limits", restoring).await.is_err() {
                tracing::warn!(container = %id, "a container's limits are neither the old ones nor the new");
            }
            return Err(failed(&error));
        }
    };
    let (memory, cpu) = (machine.memory.unwrap_or_default(), machine.cpu.unwrap_or_default());
    Ok(too_much(new, memory.machine_bytes, cpu.machine_cpus))
}

/// What the machine does not have.
fn too_much(limits: &Limits, machine_bytes: u64, machine_cpus: u32) -> Vec<String> {
    let mut warnings = Vec::new();
    if limits.memory_bytes.is_some_and(|bytes| bytes > machine_bytes.saturating_sub(MACHINE_NEED_BYTES)) {
        let mib = machine_bytes >> 20;
        warnings.push(format!(
            "The container's machine has {mib} MiB of memory; the new limit is reached after the container's next start."
        ));
    }
    if limits.cpus() > u64::from(machine_cpus) {
        warnings.push(format!(
            "The container's machine has {machine_cpus} CPUs; the new limit is reached after the container's next start."
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_machine_does_not_have_is_said() {
        let limits = |mib: u64, cpus: u64| Limits {
            memory_bytes: Some(mib << 20),
            nano_cpus: Some(cpus * 1_000_000_000),
            ..Limits::default()
        };
        assert_eq!(too_much(&Limits::default(), 1, 1), [""; 0]);
        assert_eq!(too_much(&limits(100, 2), 256 << 20, 2), [""; 0]);
        assert!(too_much(&limits(250, 2), 256 << 20, 2)[0].contains("256 MiB"));
        assert!(too_much(&limits(100, 3), 256 << 20, 2)[0].contains("2 CPUs"));
    }
}
