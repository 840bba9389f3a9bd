//! The environment of the program to be executed.

use std::ffi::CString;

use crate::failure::{During, Failure};
use berth_protocol::agent::ErrorCode;

use super::users::User;

/// Checked `NAME=value` entries, each name once.
#[derive(Debug)]
pub(super) struct Environment {
    entries: Vec<String>,
}

impl Environment {
    /// Of several entries for a name the last counts. HOME is the user's where nobody says otherwise.
    pub(super) fn new(requested: &[String], user: &User) -> Result<Self, Failure> {
        let mut entries: Vec<String> = Vec::with_capacity(requested.len() + 1);
        let mut seen = std::collections::BTreeSet::new();
        for entry in requested.iter().rev() {
            let name = name_of(entry)?;
            if seen.insert(name) {
                entries.push(entry.clone());
            }
        }
        entries.reverse();
        let mut environment = Self { entries };
        if environment.get("HOME").is_none_or(str::is_empty) {
            environment.entries.retain(|entry| !entry.starts_with("HOME="));
            environment.entries.push(format!("HOME={}", user.home));
        }
        Ok(environment)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.entries.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
    }

    /// For execve(2).
    pub(super) fn to_c_strings(&self) -> Result<Vec<CString>, Failure> {
        let entries = self.entries.iter().map(|entry| CString::new(entry.as_str()));
        entries.collect::<Result<_, _>>().during(ErrorCode::InvalidRequest, || "environment")
    }
}

fn name_of(entry: &str) -> Result<&str, Failure> {
    match entry.split_once('=') {
        Some(("", _)) | None => Err(Failure::invalid(format!("invalid environment variable {entry:?}"))),
        Some((name, _)) => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(requested: &[&str]) -> Result<Environment, Failure> {
        let user = User { uid: 1, gid: 1, groups: vec![1], home: "/home/me".into() };
        let requested: Vec<String> = requested.iter().map(|&entry| entry.to_owned()).collect();
        Environment::new(&requested, &user)
    }

    #[test]
    fn the_last_value_of_a_name_counts() {
        let environment = environment(&["A=1", "B=2", "A=3", "HOME=/x"]).unwrap();
        assert_eq!(environment.entries, ["B=2", "A=3", "HOME=/x"]);
    }

    #[test]
    fn home_is_the_users_unless_said_otherwise() {
        assert_eq!(environment(&[]).unwrap().get("HOME"), Some("/home/me"));
        assert_eq!(environment(&["HOME="]).unwrap().entries, ["HOME=/home/me"]);
        assert_eq!(environment(&["HOME=/y"]).unwrap().get("HOME"), Some("/y"));
    }

    #[test]
    fn a_name_is_matched_whole() {
        let environment = environment(&["PATHS=/a", "PATH=/b=c"]).unwrap();
        assert_eq!(environment.get("PATH"), Some("/b=c"));
        assert_eq!(environment.get("PAT"), None);
    }

    #[test]
    fn entries_without_a_name_are_refused() {
        assert!(environment(&["novalue"]).is_err());
        assert!(environment(&["=x"]).is_err());
        assert!(environment(&["A=\0"]).unwrap().to_c_strings().is_err());
    }
}
