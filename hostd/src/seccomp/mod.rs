//! Which system calls a container may make: profiles, and the programs that a guest's kernel runs for them.
//!
//! Profiles are compiled here and not in the guest, so that the agent neither reads JSON nor knows a call by its name.
//! Knows nothing of containers; which profile and which capabilities one has is the engine's to say.

mod calls;
mod default_profile;
mod profile;
mod program;

use serde::{Deserialize, Serialize};

pub use profile::{Profile, ProfileError};

/// What `--security-opt seccomp=` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seccomp {
    /// The built-in profile, unless everything is permitted anyway.
    #[default]
    Default,
    /// The built-in profile in any case.
    Builtin,
    Unconfined,
    Custom(Box<Profile>),
}

/// A filter, ready to be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// `struct sock_filter`, one after the other.
    pub program: Vec<u8>,
    /// `SECCOMP_FILTER_FLAG_…`
    pub flags: u32,
}

impl Seccomp {
    /// The filter for processes whose capabilities have these names ("CAP_CHOWN"); `None` if every call is permitted.
    ///
    /// # Errors
    /// [`ProfileError`]; never for the built-in profile.
    pub fn filter(&self, capabilities: &[&str]) -> Result<Option<Filter>, ProfileError> {
        let built_in;
        let profile = match self {
            Self::Unconfined => return Ok(None),
            Self::Custom(profile) => profile,
            Self::Default | Self::Builtin => {
                built_in = default_profile::profile();
                &built_in
            }
        };
        let program = program::compile(profile, capabilities)?;
        Ok(Some(Filter { program, flags: program::flags(profile)? }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unconfined_process_has_no_filter() {
        assert_eq!(Seccomp::Unconfined.filter(&[]), Ok(None));
        let filter = Seccomp::Default.filter(&[]).unwrap().unwrap();
        assert_eq!((filter.program.len() % 8, filter.flags), (0, 0));
    }
}
