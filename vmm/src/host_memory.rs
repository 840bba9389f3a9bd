//! Whether this host could ever give a machine its memory.
//!
//! Machines together may be promised more than there is: most never touch all of theirs. One machine alone that is
//! promised more than all memory and swap can only end by being killed in the middle of its work.

const MIB: u64 = 1 << 20;

/// The machine is larger than its host.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "memory_mib: {asked_mib} MiB are more than this host has, {ram_mib} MiB of memory and {swap_mib} MiB of swap: \
     give the machine less"
)]
pub(crate) struct TooMuchMemory {
    asked_mib: u64,
    ram_mib: u64,
    swap_mib: u64,
}

/// # Errors
/// The host's memory and swap together are smaller.
pub(crate) fn check(asked_mib: u32) -> Result<(), TooMuchMemory> {
    let host = rustix::system::sysinfo();
    let unit_bytes = u64::from(host.mem_unit).max(1);
    let mib = |units: u64| units.saturating_mul(unit_bytes) / MIB;
    check_against(asked_mib.into(), mib(host.totalram), mib(host.totalswap))
}

fn check_against(asked_mib: u64, ram_mib: u64, swap_mib: u64) -> Result<(), TooMuchMemory> {
    if asked_mib <= ram_mib + swap_mib { Ok(()) } else { Err(TooMuchMemory { asked_mib, ram_mib, swap_mib }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{MAX_MEMORY_MIB, MIN_MEMORY_MIB};

    #[test]
    fn a_machine_may_have_all_memory_and_swap_and_no_more() {
        assert_eq!(check_against(3000, 2000, 1000), Ok(()));
        let refusal = check_against(3001, 2000, 1000).unwrap_err().to_string();
        assert_eq!(
            refusal,
            "memory_mib: 3001 MiB are more than this host has, 2000 MiB of memory and 1000 MiB of swap: give the \
             machine less"
        );
    }

    #[test]
    fn this_host_is_large_enough_for_one_and_too_small_for_another() {
        assert_eq!(check(MIN_MEMORY_MIB), Ok(()));
        // 1 TiB; where a host is larger, so is what it is asked for.
        let host_mib = rustix::system::sysinfo().totalram / MIB;
        if host_mib < u64::from(MAX_MEMORY_MIB) / 2 {
            assert!(check(MAX_MEMORY_MIB).is_err());
        }
    }
}
