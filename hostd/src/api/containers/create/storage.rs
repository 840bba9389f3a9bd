//! `StorageOpt`: how large the container's writable disk is.

use super::body::HostConfig;
use crate::api::error::{ApiError, ApiResult};
use crate::engine::SCRATCH_DISK_BYTES;
use crate::size;

/// In bytes; `None` is as large as the daemon's setting says.
///
/// # Errors
/// Docker's text for another option, and for what is no size; a size that no disk can have.
pub(super) fn scratch_disk_bytes(host: &HostConfig) -> ApiResult<Option<u64>> {
    let mut size_bytes = None;
    for (name, value) in &host.storage_opt {
        if !name.eq_ignore_ascii_case("size") {
            return Err(ApiError::invalid(format!("Unknown option {name}")));
        }
        let bytes = size::bytes(value, size::BINARY)
            .ok_or_else(|| ApiError::invalid(format!("invalid size: '{value}'")))?;
        if !SCRATCH_DISK_BYTES.contains(&bytes) {
            let message =
                format!("invalid size in HostConfig.StorageOpt: '{value}'; 16m to 16t are possible");
            return Err(ApiError::invalid(message));
        }
        // The file system is made of whole blocks, and a disk of whole sectors.
        size_bytes = Some(bytes.next_multiple_of(1 << 20));
    }
    Ok(size_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, value: &str) -> Result<Option<u64>, String> {
        let storage_opt = [(name.to_owned(), value.to_owned())].into();
        let host = HostConfig { storage_opt, ..HostConfig::default() };
        scratch_disk_bytes(&host).map_err(|error| error.message)
    }

    #[test]
    fn a_disk_has_whole_mebibytes() {
        assert_eq!(scratch_disk_bytes(&HostConfig::default()), Ok(None));
        assert_eq!(of("size", "10G"), Ok(Some(10 << 30)));
        assert_eq!(of("size", "16777217"), Ok(Some(17 << 20)));
    }

    #[test]
    fn what_is_no_size_of_a_disk_is_refused() {
        assert_eq!(of("color", "red").unwrap_err(), "Unknown option color");
        assert_eq!(of("size", "large").unwrap_err(), "invalid size: 'large'");
        assert!(of("size", "1m").unwrap_err().contains("16m to 16t"));
    }
}
