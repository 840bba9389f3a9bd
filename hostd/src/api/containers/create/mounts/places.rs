//! Places: targets in containers, paths of the host's and in volumes, and names of volumes.

use crate::api::error::{ApiError, ApiResult};

/// Words of `problem` in front of which a mount's type stands.
pub(super) fn wrong(kind: &str, problem: &str) -> ApiError {
    ApiError::invalid(format!("invalid mount config for type \"{kind}\": {problem}"))
}

pub(super) fn check_target(kind: &str, target: &str) -> ApiResult<()> {
    if target.is_empty() {
        return Err(wrong(kind, "field Target must not be empty"));
    }
    if !target.starts_with('/') {
        return Err(wrong(kind, &not_absolute(target)));
    }
    if target.contains('\0') {
        return Err(wrong(kind, "a path cannot contain NUL"));
    }
    if leads_nowhere(target) {
        return Err(wrong(kind, "invalid specification: destination can't be '/'"));
    }
    Ok(())
}

pub(super) fn not_absolute(path: &str) -> String {
    format!("invalid mount path: '{path}' mount path must be absolute")
}

/// Whether it is a way to write `/`.
fn leads_nowhere(path: &str) -> bool {
    let mut depth = 0_usize;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => depth = depth.saturating_sub(1),
            _ => depth += 1,
        }
    }
    depth == 0
}

/// Whether a relative path stays where it begins, whatever it passes.
pub(super) fn is_local(path: &str) -> bool {
    let mut depth = 0_usize;
    let stays = path.split('/').all(|part| match part {
        "" | "." => true,
        ".." => depth.checked_sub(1).is_some_and(|above| {
            depth = above;
            true
        }),
        _ => {
            depth += 1;
            true
        }
    });
    stays && !path.is_empty() && !path.starts_with('/') && !path.contains('\0')
}

/// Docker's names: a letter or digit, then letters, digits, `_.-`; none means "one of its own".
pub(super) fn check_volume_name(name: &str) -> ApiResult<()> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let long_enough = name.len() != 1;
    if name.is_empty() || (long_enough && name.chars().all(inner) && !name.starts_with(['_', '.', '-'])) {
        return Ok(());
    }
    if name.len() == 1 {
        return Err(ApiError::invalid(format!(
            "create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )));
    }
    Err(ApiError::invalid(format!(
        "create {name}: \"{name}\" includes invalid characters for a local volume name, only \
         \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )))
}
