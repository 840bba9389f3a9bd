//! The limits of a single process, as setrlimit(2) has them, and its place in line when memory runs out.

use berth_protocol::agent::{ErrorCode, Process, ProcessLimit};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

use crate::failure::{During, Failure};

/// All ones, on both sides of the wire.
const UNLIMITED: u64 = u64::MAX;

const RESOURCES: [Resource; 16] = [
    Resource::Cpu,
    Resource::Fsize,
    Resource::Data,
    Resource::Stack,
    Resource::Core,
    Resource::Rss,
    Resource::Nproc,
    Resource::Nofile,
    Resource::Memlock,
    Resource::As,
    Resource::Locks,
    Resource::Sigpending,
    Resource::Msgqueue,
    Resource::Nice,
    Resource::Rtprio,
    Resource::Rttime,
];

/// Sets them. As late as possible, since they hold for this program too, but before privileges go.
pub(super) fn set(limits: &[ProcessLimit]) -> Result<(), Failure> {
    for limit in limits {
        let resource = resource(limit.resource)
            .ok_or_else(|| Failure::invalid(format!("{} is no resource of a process", limit.resource)))?;
        let bound = |number: u64| (number != UNLIMITED).then_some(number);
        let both = Rlimit { current: bound(limit.soft), maximum: bound(limit.hard) };
        setrlimit(resource, both).during(ErrorCode::InvalidRequest, || {
            format!("set the limit of {resource:?} to {}:{}", limit.soft, limit.hard)
        })?;
    }
    Ok(())
}

/// Lifts what is to be set later above what this process, or that of `pid`, may reach: that takes the machine's own
/// privileges, which nobody has in a user namespace. What is no resource is left for [`set`] to refuse.
///
/// # Errors
/// What prlimit(2) returned.
pub(crate) fn raise(pid: Option<Pid>, limits: &[ProcessLimit]) -> std::io::Result<()> {
    for limit in limits {
        let Some(resource) = resource(limit.resource) else { continue };
        let own = getrlimit(resource);
        let wanted = (limit.hard != UNLIMITED).then_some(limit.hard);
        let is_enough = own.maximum.is_none_or(|own| wanted.is_some_and(|wanted| wanted <= own));
        if !is_enough {
            prlimit(pid, resource, Rlimit { current: own.current, maximum: wanted })?;
        }
    }
    Ok(())
}

/// By the outer /proc: what a container has at this path is the container's to decide.
pub(super) fn set_oom_score(process: &Process) -> Result<(), Failure> {
    if process.oom_score_adj == 0 {
        return Ok(());
    }
    let score = process.oom_score_adj;
    std::fs::write("/proc/self/oom_score_adj", score.to_string())
        .during(ErrorCode::InvalidRequest, || format!("set oom_score_adj to {score}"))
}

fn resource(number: u32) -> Option<Resource> {
    RESOURCES.into_iter().find(|resource| *resource as u32 == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_have_the_kernels_numbers() {
        assert_eq!(resource(7), Some(Resource::Nofile));
        assert_eq!(resource(15), Some(Resource::Rttime));
        assert_eq!(resource(16), None);
        assert!(set(&[ProcessLimit { resource: 99, soft: 1, hard: 1 }]).is_err());
    }
}
