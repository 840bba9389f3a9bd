//! A path in a container as a client says it, made absolute as Docker makes it: what stands before ".." is taken back
//! by its text, before any link is followed, and a "/" or "/." at the end stays, because it follows a link there.

use std::fmt;

/// Absolute, without ".." or empty names; bytes, as the container's files have no encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPath {
    cleaned: Vec<u8>,
    /// As the client said it, for messages.
    given: Vec<u8>,
}

impl ContainerPath {
    #[must_use]
    pub fn new(given: &[u8]) -> Self {
        let mut cleaned = Vec::new();
        for name in clean_names(given) {
            cleaned.push(b'/');
            cleaned.extend_from_slice(name);
        }
        let last = given.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        if last == b"." {
            cleaned.extend_from_slice(b"/.");
        } else if last.is_empty() || cleaned.is_empty() {
            cleaned.push(b'/');
        }
        Self { cleaned, given: given.to_vec() }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.cleaned
    }

    /// The last name; "." where that is what the client said, "/" for the root.
    #[must_use]
    pub fn base(&self) -> &[u8] {
        let mut names = self.cleaned.rsplit(|byte| *byte == b'/').filter(|name| !name.is_empty());
        names.next().unwrap_or(b"/")
    }
}

impl fmt::Display for ContainerPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.given).fmt(formatter)
    }
}

/// The names of a path once each ".." has taken the one before it back; above the root there is nothing.
fn clean_names(path: &[u8]) -> Vec<&[u8]> {
    let mut names = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_dockers() {
        for (given, cleaned, base) in [
            ("/", "/", "/"),
            ("", "/", "/"),
            (".", "/.", "."),
            ("/.", "/.", "."),
            ("d", "/d", "d"),
            ("/d/", "/d/", "d"),
            ("/d/.", "/d/.", "."),
            ("d//f", "/d/f", "f"),
            ("/../d/../d/f", "/d/f", "f"),
            ("/d/..", "/", "/"),
            ("/d/../", "/", "/"),
            ("..", "/", "/"),
            ("/d/...", "/d/...", "..."),
        ] {
            let path = ContainerPath::new(given.as_bytes());
            let found = (String::from_utf8_lossy(path.as_bytes()), String::from_utf8_lossy(path.base()));
            assert_eq!(found, (cleaned.into(), base.into()), "{given}");
            assert_eq!(path.to_string(), given);
        }
    }
}
