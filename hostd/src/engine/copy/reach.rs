//! What of a container can be copied when what it has mounted cannot be had: its own files.
//!
//! Goes by a path's text: a link of the container's that leads to a mount's place leads to what lies under it.

use super::ContainerPath;
use crate::engine::container::Container;
use crate::engine::error::EngineError;
use crate::engine::files::Files;

/// # Errors
/// The path is in a mount that is not there: what lies under it is not what is meant.
pub(super) fn check(container: &Container, files: &Files, path: &ContainerPath) -> Result<(), EngineError> {
    let Some(reason) = &files.without_mounts else { return Ok(()) };
    let targets = container.mounts.iter().map(|point| point.target.as_str());
    match targets.filter(|target| is_in(path.as_bytes(), target.as_bytes())).max_by_key(|target| target.len())
    {
        None => Ok(()),
        Some(target) => Err(EngineError::conflict(format!(
            "cannot reach {path} in container {}, which does not run: what is mounted at {target} cannot be had: \
             {reason}; start it first",
            container.id
        ))),
    }
}

/// Whether a clean path is another, or below it.
fn is_in(path: &[u8], place: &[u8]) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_whole_name() {
        for (path, place, is) in [
            ("/data", "/data", true),
            ("/data/", "/data", true),
            ("/data/a", "/data", true),
            ("/data2", "/data", false),
            ("/", "/data", false),
        ] {
            assert_eq!(is_in(path.as_bytes(), place.as_bytes()), is, "{path}");
        }
    }
}
