//! What volumes are called.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::super::error::EngineError;

/// A directory's name on the host, so no longer than those.
const MAX_BYTES: usize = 255;
/// As Docker's message has them.
const ALLOWED: &str = "[a-zA-Z0-9][a-zA-Z0-9_.-]";

/// A name that can be a directory's: no separator, no point at its beginning.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeName(String);

impl VolumeName {
    /// # Errors
    /// Docker's texts for what is no name.
    pub fn parse(name: &str) -> Result<Self, EngineError> {
        if name.len() == 1 {
            let message = "volume name is too short, names should be at least two alphanumeric characters";
            return Err(EngineError::invalid(message));
        }
        if name.len() > MAX_BYTES {
            return Err(EngineError::invalid(format!(
                "volume name is too long: it has more than {MAX_BYTES} bytes"
            )));
        }
        let first = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if first && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) {
            return Ok(Self(name.to_owned()));
        }
        Err(EngineError::invalid(format!(
            "{name:?} includes invalid characters for a local volume name, only \"{ALLOWED}\" are allowed. If you \
             intended to pass a host directory, use absolute path"
        )))
    }

    /// 64 hex digits: of a volume that nobody gave a name.
    pub(super) fn random() -> Self {
        Self(hex::encode(rand::random::<[u8; 32]>()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for VolumeName {
    type Error = EngineError;

    fn try_from(name: String) -> Result<Self, EngineError> {
        Self::parse(&name)
    }
}

impl From<VolumeName> for String {
    fn from(name: VolumeName) -> Self {
        name.0
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_name_is_refused_in_dockers_words() {
        let message = |name: &str| VolumeName::parse(name).unwrap_err().message;
        assert!(message("a").starts_with("volume name is too short"), "{}", message("a"));
        assert!(message(&"a".repeat(256)).contains("more than 255 bytes"));
        assert_eq!(
            message("a b"),
            "\"a b\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are \
             allowed. If you intended to pass a host directory, use absolute path"
        );
        for name in ["", "..", ".a", "-a", "_a", "a/b", "/a", "a\0", "ä1", "a\n"] {
            assert!(VolumeName::parse(name).is_err(), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_one_component_of_a_path_and_no_hidden_one(name in any::<String>()) {
            if let Ok(name) = VolumeName::parse(&name) {
                let path = Path::new(name.as_str());
                let components: Vec<_> = path.components().collect();
                prop_assert!(matches!(components[..], [Component::Normal(_)]) && !name.as_str().starts_with('.'));
            }
        }

        #[test]
        fn every_name_of_dockers_is_one(name in "[a-zA-Z0-9][a-zA-Z0-9_.-]{1,254}") {
            prop_assert_eq!(VolumeName::parse(&name).unwrap().to_string(), name);
        }
    }
}
