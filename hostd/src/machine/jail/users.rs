//! Users to give away: numbers of a range, each to one machine at a time. No such user needs to exist anywhere.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;

/// First and last number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct UserRange {
    first: u32,
    last: u32,
}

/// Numbers that nothing else is known to give away: above those of containers and of services.
impl Default for UserRange {
    fn default() -> Self {
        Self { first: 0x7000_0000, last: 0x7000_ffff }
    }
}

impl UserRange {
    /// Reads `FIRST-LAST`.
    ///
    /// # Errors
    /// It is no range, or has root's number or the one that stands for nobody (-1).
    pub fn parse(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('-').and_then(|(first, last)| {
            Some(Self { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? })
        });
        let range =
            numbers.filter(|range| range.first > 0 && range.first <= range.last && range.last < u32::MAX);
        range.ok_or_else(|| format!("\"{text}\" is no range of user numbers; write it as 100000-165535"))
    }

    fn count(self) -> u32 {
        // A range that is parsed has root's number outside.
        self.last - self.first + 1
    }
}

impl TryFrom<String> for UserRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl fmt::Display for UserRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// The numbers of one daemon's machines.
#[derive(Debug)]
pub(super) struct Users {
    range: UserRange,
    given: Mutex<Given>,
}

#[derive(Debug)]
struct Given {
    by_machine: HashMap<String, u32>,
    /// Where in the range the search goes on.
    next: u32,
}

impl Users {
    /// Daemons that share a range begin at different places of it.
    pub(super) fn new(range: UserRange, machines: &Path) -> Self {
        let mut hasher = DefaultHasher::new();
        machines.hash(&mut hasher);
        let place = hasher.finish() % u64::from(range.count());
        let next = u32::try_from(place).expect("below a count of 32 bits");
        Self { range, given: Mutex::new(Given { by_machine: HashMap::new(), next }) }
    }

    fn given(&self) -> MutexGuard<'_, Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A machine of an earlier daemon has this one.
    pub(super) fn keep(&self, id: &str, user: u32) {
        self.given().by_machine.insert(id.to_owned(), user);
    }

    pub(super) fn take(&self, id: &str) -> io::Result<u32> {
        let mut given = self.given();
        for _ in 0..self.range.count() {
            let user = self.range.first + given.next;
            given.next = (given.next + 1) % self.range.count();
            if !given.by_machine.values().any(|taken| *taken == user) {
                given.by_machine.insert(id.to_owned(), user);
                return Ok(user);
            }
        }
        let message = format!("all users of {} have a machine: give more with --machine-users", self.range);
        Err(io::Error::other(message))
    }

    pub(super) fn give_back(&self, id: &str) {
        self.given().by_machine.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_two_numbers_and_never_root() {
        assert_eq!(UserRange::parse("7-9").unwrap().to_string(), "7-9");
        for text in ["", "7", "9-7", "0-5", "a-b", "1-4294967295", "-5"] {
            assert!(UserRange::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn no_two_machines_have_one_user() {
        let users = Users::new(UserRange::parse("10-12").unwrap(), Path::new("/x"));
        users.keep("old", 11);
        let mut two = [users.take("a").unwrap(), users.take("b").unwrap()];
        two.sort_unstable();
        assert_eq!(two, [10, 12]);
        assert!(users.take("c").unwrap_err().to_string().contains("--machine-users"));
        users.give_back("old");
        assert_eq!(users.take("c").unwrap(), 11);
    }
}
