//! What containers are called: ids, names, and how a client's word finds one.

use std::fmt;

use rand::seq::IndexedRandom;
use serde::{Deserialize, Serialize};

use super::error::EngineError;

/// 64 hex digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerId(String);

const SHORT_DIGITS: usize = 12;
/// Enough that two machines of one host never meet, short enough for a socket's path.
const MACHINE_DIGITS: usize = 16;

impl ContainerId {
    pub(super) fn random() -> Self {
        Self(hex::encode(rand::random::<[u8; 32]>()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As lists show it.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..SHORT_DIGITS]
    }

    /// The id of the machine that is this container's own.
    pub(super) fn machine_id(&self) -> &str {
        &self.0[..MACHINE_DIGITS]
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks a name that a client chose; a leading slash is Docker's older spelling.
pub(super) fn parse_name(name: &str) -> Result<String, EngineError> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let first = bare.starts_with(|c: char| c.is_ascii_alphanumeric());
    let rest = bare.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if first && rest && bare.len() > 1 {
        return Ok(bare.to_owned());
    }
    let allowed = "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed";
    Err(EngineError::invalid(format!("Invalid container name ({name}), {allowed}")))
}

const ADJECTIVES: [&str; 32] = [
    "able", "brisk", "calm", "daring", "early", "fair", "gallant", "hardy", "idle", "jolly", "keen",
    "lively", "merry", "nimble", "open", "patient", "quick", "ready", "salty", "tidy", "upright", "vivid",
    "windy", "young", "zealous", "bold", "clear", "deep", "eager", "fresh", "great", "swift",
];
const NOUNS: [&str; 32] = [
    "anchor", "barge", "beacon", "bosun", "buoy", "cable", "captain", "clipper", "compass", "cutter",
    "dinghy", "dock", "ferry", "gull", "harbour", "helm", "jetty", "keel", "ketch", "lantern", "lugger",
    "mast", "mooring", "oar", "pilot", "quay", "rudder", "sail", "schooner", "skipper", "sloop", "tide",
];

/// A name that people can say; with a number once `taken` names get in the way.
pub(super) fn random_name(taken: impl Fn(&str) -> bool) -> String {
    let mut random = rand::rng();
    let pick = |words: &'static [&'static str], random: &mut _| {
        *words.choose(random).expect("the lists are not empty")
    };
    for attempt in 0_u32.. {
        let name = format!("{}_{}", pick(&ADJECTIVES, &mut random), pick(&NOUNS, &mut random));
        let name = if attempt < 4 { name } else { format!("{name}{}", rand::random::<u16>()) };
        if !taken(&name) {
            return name;
        }
    }
    unreachable!("an endless loop ends by returning")
}

/// Finds what a client means among (id, name) pairs: a whole id, a name, or the beginning of one id.
pub(super) fn find<'a>(
    word: &str,
    candidates: impl Iterator<Item = (&'a ContainerId, &'a str)> + Clone,
) -> Result<ContainerId, EngineError> {
    let name = word.strip_prefix('/').unwrap_or(word);
    let exact = candidates.clone().find(|(id, its_name)| id.as_str() == word || *its_name == name);
    if let Some((id, _)) = exact {
        return Ok(id.clone());
    }
    let mut beginning = candidates.filter(|(id, _)| !word.is_empty() && id.as_str().starts_with(word));
    match (beginning.next(), beginning.next()) {
        (Some((id, _)), None) => Ok(id.clone()),
        (Some(_), Some(_)) => {
            Err(EngineError::invalid(format!("multiple IDs found with provided prefix: {word}")))
        }
        (None, _) => Err(EngineError::not_found(format!("No such container: {word}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::ErrorKind;
    use super::*;

    fn id(digits: &str) -> ContainerId {
        ContainerId(format!("{digits:0<64}"))
    }

    #[test]
    fn a_container_is_found_by_id_name_and_unique_beginning() {
        let all = [(id("abc1"), "web"), (id("abd2"), "db")];
        let find = |word: &str| find(word, all.iter().map(|(id, name)| (id, *name)));
        assert_eq!(find("web").unwrap(), id("abc1"));
        assert_eq!(find("/db").unwrap(), id("abd2"));
        assert_eq!(find("abd").unwrap(), id("abd2"));
        assert_eq!(find(id("abc1").as_str()).unwrap(), id("abc1"));
        assert_eq!(find("ab").unwrap_err().kind, ErrorKind::InvalidParameter);
        assert_eq!(find("nope").unwrap_err().message, "No such container: nope");
        assert_eq!(find("").unwrap_err().kind, ErrorKind::NotFound);
    }

    #[test]
    fn names_that_could_be_options_or_paths_are_refused() {
        assert_eq!(parse_name("/web-1").unwrap(), "web-1");
        for wrong in ["", "/", "-x", "a", "a/b", "a b", ".x", "ü1"] {
            assert!(parse_name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_random_name_is_valid_and_free() {
        let name = random_name(|name| !name.ends_with(|c: char| c.is_ascii_digit()));
        assert!(parse_name(&name).is_ok(), "{name}");
    }
}
