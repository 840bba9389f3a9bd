//! A profile as people write it: Docker's JSON, which is the runtime specification's with conditions on top.

use serde::{Deserialize, Serialize};

/// What is in a profile that cannot be honoured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    #[error("Decoding seccomp profile failed: {0}")]
    Json(String),
    #[error("Decoding seccomp profile failed: {0}")]
    Contradiction(&'static str),
    #[error("seccomp profile: the action {0} is not supported by berth: nobody listens for notifications")]
    Notify(&'static str),
    #[error("seccomp profile: unknown flag {0}")]
    Flag(String),
    #[error("seccomp profile: {0:?} is no version of a kernel")]
    KernelVersion(String),
    #[error("seccomp profile: a system call has the arguments 0 to 5, not {0}")]
    ArgumentIndex(u32),
    #[error("seccomp profile: it comes to {0} instructions, and the kernel takes 4096")]
    TooLong(usize),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    pub(super) default_action: Action,
    #[serde(default)]
    pub(super) default_errno_ret: Option<u16>,
    #[serde(default)]
    pub(super) architectures: Vec<String>,
    #[serde(default)]
    pub(super) arch_map: Vec<ArchitectureMap>,
    #[serde(default)]
    pub(super) flags: Vec<String>,
    #[serde(default)]
    pub(super) listener_path: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) syscalls: Vec<Rule>,
}

/// An architecture and those whose programs it runs too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ArchitectureMap {
    pub(super) architecture: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) sub_architectures: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) names: Vec<String>,
    pub(super) action: Action,
    pub(super) errno_ret: Option<u16>,
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) args: Vec<Argument>,
    pub(super) includes: Condition,
    pub(super) excludes: Condition,
}

/// Every part of it that is there has to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Condition {
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) caps: Vec<String>,
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) arches: Vec<String>,
    pub(super) min_kernel: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Argument {
    pub(super) index: u32,
    pub(super) value: u64,
    #[serde(default)]
    pub(super) value_two: u64,
    pub(super) op: Comparison,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Action {
    /// The thread, as the kernel's oldest action does.
    #[serde(rename = "SCMP_ACT_KILL", alias = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    #[default]
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Comparison {
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    /// The argument's bits of `value` are those of `value_two`.
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

impl Profile {
    /// Reads the JSON of `--security-opt seccomp=`.
    ///
    /// # Errors
    /// [`ProfileError`], for what is no profile and for what Berth could not keep to.
    pub fn parse(json: &str) -> Result<Self, ProfileError> {
        let profile: Self =
            serde_json::from_str(json).map_err(|error| ProfileError::Json(error.to_string()))?;
        profile.check()?;
        Ok(profile)
    }

    pub(super) fn of_rules(default_action: Action, default_errno: u16, syscalls: Vec<Rule>) -> Self {
        let every = |sub: &str| sub.to_owned();
        let arch_map = vec![ArchitectureMap {
            architecture: every("SCMP_ARCH_X86_64"),
            sub_architectures: vec![every("SCMP_ARCH_X86"), every("SCMP_ARCH_X32")],
        }];
        Self {
            default_action,
            default_errno_ret: Some(default_errno),
            architectures: Vec::new(),
            arch_map,
            flags: Vec::new(),
            listener_path: String::new(),
            syscalls,
        }
    }

    fn check(&self) -> Result<(), ProfileError> {
        if !self.architectures.is_empty() && !self.arch_map.is_empty() {
            return Err(ProfileError::Contradiction("use either 'architectures' or 'archMap'"));
        }
        if !self.listener_path.is_empty() {
            return Err(ProfileError::Notify("listenerPath"));
        }
        if self.default_action == Action::Notify {
            return Err(ProfileError::Notify("SCMP_ACT_NOTIFY"));
        }
        self.syscalls.iter().try_for_each(Rule::check)
    }
}

impl Rule {
    pub(super) fn new(names: &str, action: Action) -> Self {
        Self { names: names.split_whitespace().map(str::to_owned).collect(), action, ..Self::default() }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let single = Some(self.name.as_str()).filter(|name| !name.is_empty());
        single.into_iter().chain(self.names.iter().map(String::as_str))
    }

    fn check(&self) -> Result<(), ProfileError> {
        if !self.name.is_empty() && !self.names.is_empty() {
            return Err(ProfileError::Contradiction("use either 'name' or 'names'"));
        }
        if self.action == Action::Notify {
            return Err(ProfileError::Notify("SCMP_ACT_NOTIFY"));
        }
        match self.args.iter().find(|argument| argument.index > 5) {
            Some(argument) => Err(ProfileError::ArgumentIndex(argument.index)),
            None => Ok(()),
        }
    }
}

/// Go writes lists that nobody filled as null.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_profile_says_why() {
        for (json, text) in [
            ("", "EOF"),
            ("{}", "missing field `defaultAction`"),
            (r#"{"defaultAction": "SCMP_ACT_MAYBE"}"#, "unknown variant"),
            (r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#, "SCMP_ACT_NOTIFY is not supported"),
            (r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}"#, "listenerPath is not supported"),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["a"], "archMap": [{"architecture": "b"}]}"#,
                "either 'architectures' or 'archMap'",
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "a", "names": ["b"], "action": "SCMP_ACT_LOG"}]}"#,
                "either 'name' or 'names'",
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls":
                    [{"name": "a", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
                "not 6",
            ),
        ] {
            let message = Profile::parse(json).unwrap_err().to_string();
            assert!(message.contains(text), "{message}");
        }
    }

    #[test]
    fn a_profile_survives_being_kept() {
        let json = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": null, "includes": {"caps": ["CAP_BPF"]}}]}"#;
        let profile = Profile::parse(json).unwrap();
        let kept = serde_json::to_string(&profile).unwrap();
        assert_eq!(Profile::parse(&kept), Ok(profile));
    }
}
