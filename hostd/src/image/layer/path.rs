//! Paths inside layers: one normal form, and refusal of everything that could point elsewhere.

/// A component longer than this fits in no Linux file system.
const MAX_NAME_BYTES: usize = 255;
const MAX_PATH_BYTES: usize = 4096;

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidPath {
    #[error("its path leaves the layer through '..'")]
    Parent,
    #[error("its path has a component of more than {MAX_NAME_BYTES} bytes")]
    LongName,
    #[error("its path has more than {MAX_PATH_BYTES} bytes")]
    LongPath,
    #[error("a whiteout that names nothing")]
    EmptyWhiteout,
}

/// Components joined by single slashes, without `.`; the root is empty. An absolute path is one below the root.
pub(super) fn normalize(path: &[u8]) -> Result<Vec<u8>, InvalidPath> {
    let mut normal = Vec::with_capacity(path.len());
    for component in path.split(|byte| *byte == b'/').filter(|component| !matches!(*component, b"" | b".")) {
        push(&mut normal, component)?;
    }
    Ok(normal)
}

/// Whether [`normalize`] would leave it as it is.
pub(super) fn is_normal(path: &[u8]) -> bool {
    let component = |name: &[u8]| {
        !matches!(name, b"" | b"." | b"..") && name.len() <= MAX_NAME_BYTES && !name.contains(&0)
    };
    path.len() <= MAX_PATH_BYTES && (path.is_empty() || path.split(|byte| *byte == b'/').all(component))
}

/// The path of `name` in the directory `parent`, which is normal already.
pub(super) fn normalize_child(parent: &[u8], name: &[u8]) -> Result<Vec<u8>, InvalidPath> {
    if matches!(name, b"" | b".") {
        return Err(InvalidPath::EmptyWhiteout);
    }
    let mut normal = parent.to_vec();
    push(&mut normal, name)?;
    Ok(normal)
}

/// Parent and last component of a normal path.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

fn push(normal: &mut Vec<u8>, component: &[u8]) -> Result<(), InvalidPath> {
    if component == b".." {
        return Err(InvalidPath::Parent);
    }
    if component.len() > MAX_NAME_BYTES {
        return Err(InvalidPath::LongName);
    }
    if !normal.is_empty() {
        normal.push(b'/');
    }
    normal.extend_from_slice(component);
    if normal.len() > MAX_PATH_BYTES { Err(InvalidPath::LongPath) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_has_one_normal_form() {
        for path in ["a/b", "./a/b", "/a/b", "//a/./b/", "././a//b"] {
            assert_eq!(normalize(path.as_bytes()).unwrap(), b"a/b", "{path}");
        }
        for path in ["", "/", "./", "."] {
            assert_eq!(normalize(path.as_bytes()).unwrap(), b"", "{path}");
        }
        assert_eq!(normalize(b"...\xff").unwrap(), b"...\xff");
    }

    #[test]
    fn paths_that_lead_out_or_are_too_long_are_refused() {
        assert_eq!(normalize(b"a/.."), Err(InvalidPath::Parent));
        assert_eq!(normalize(&[b'a'; 256]), Err(InvalidPath::LongName));
        assert_eq!(normalize(&b"a/".repeat(2049)), Err(InvalidPath::LongPath));
    }
}
