//! Privileges: capabilities, `SecurityOpt`, masked paths; Docker's words and texts.

use super::body::HostConfig;
use crate::api::error::{ApiError, ApiResult};
use crate::engine::{CapabilityName, Security, UnknownCapability};
use crate::seccomp::{Profile, Seccomp};

/// # Errors
/// Docker's texts for a capability or an option that is none, or a profile that cannot be honoured.
pub(super) fn security(host: &HostConfig, warnings: &mut Vec<String>) -> ApiResult<Security> {
    let mut security = Security {
        privileged: host.privileged,
        added_capabilities: capabilities("CapAdd", &host.cap_add)?,
        dropped_capabilities: capabilities("CapDrop", &host.cap_drop)?,
        masked_paths: paths("MaskedPaths", host.masked_paths.as_ref())?,
        readonly_paths: paths("ReadonlyPaths", host.readonly_paths.as_ref())?,
        options: host.security_opt.clone(),
        ..Security::default()
    };
    for option in &host.security_opt {
        apply(option, &mut security, warnings)?;
    }
    Ok(security)
}

fn capabilities(field: &str, words: &[String]) -> ApiResult<Vec<CapabilityName>> {
    let invalid = |error: UnknownCapability| ApiError::invalid(format!("invalid {field}: {error}"));
    words.iter().map(|word| CapabilityName::parse(word).map_err(invalid)).collect()
}

fn paths(field: &str, paths: Option<&Vec<String>>) -> ApiResult<Option<Vec<String>>> {
    match paths.into_iter().flatten().find(|path| !path.starts_with('/')) {
        Some(path) => {
            Err(ApiError::invalid(format!("invalid HostConfig.{field}: \"{path}\" is not absolute")))
        }
        None => Ok(paths.cloned()),
    }
}

/// `name=value`; `name:value` is an older spelling of it.
fn apply(option: &str, security: &mut Security, warnings: &mut Vec<String>) -> ApiResult<()> {
    if option == "no-new-privileges" {
        security.no_new_privileges = true;
        return Ok(());
    }
    let separator = if option.contains('=') { '=' } else { ':' };
    let Some((name, value)) = option.split_once(separator) else {
        return Err(ApiError::invalid(format!("invalid --security-opt 1: \"{option}\"")));
    };
    match name {
        "no-new-privileges" => security.no_new_privileges = flag(option, value)?,
        "seccomp" => security.seccomp = seccomp(value)?,
        "apparmor" if matches!(value, "unconfined" | "docker-default") => {}
        "label" if value == "disable" => {}
        "apparmor" | "label" => warnings.push(format!(
            "HostConfig.SecurityOpt \"{option}\" has no effect: the kernel of a machine has neither AppArmor nor SELinux."
        )),
        _ => return Err(ApiError::invalid(format!("invalid --security-opt 2: \"{option}\""))),
    }
    Ok(())
}

/// As Go reads truth.
fn flag(option: &str, value: &str) -> ApiResult<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(ApiError::invalid(format!("invalid --security-opt 2: \"{option}\""))),
    }
}

fn seccomp(value: &str) -> ApiResult<Seccomp> {
    let seccomp = match value {
        "unconfined" => Seccomp::Unconfined,
        "builtin" => Seccomp::Builtin,
        json => {
            let profile = Profile::parse(json).map_err(|error| ApiError::invalid(error.to_string()))?;
            Seccomp::Custom(Box::new(profile))
        }
    };
    // Which rules apply depends on capabilities, but what is wrong with one shows without.
    seccomp.filter(&[]).map_err(|error| ApiError::invalid(error.to_string()))?;
    Ok(seccomp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(host: &HostConfig) -> Result<(Security, Vec<String>), String> {
        let mut warnings = Vec::new();
        security(host, &mut warnings).map(|security| (security, warnings)).map_err(|error| error.message)
    }

    fn option(option: &str) -> Result<(Security, Vec<String>), String> {
        of(&HostConfig { security_opt: vec![option.to_owned()], ..HostConfig::default() })
    }

    #[test]
    fn capabilities_are_kept_in_full() {
        let host = HostConfig {
            cap_add: vec!["net_admin".into()],
            cap_drop: vec!["all".into()],
            ..HostConfig::default()
        };
        let (security, _) = of(&host).unwrap();
        assert_eq!(security.added_capabilities[0].as_str(), "CAP_NET_ADMIN");
        assert_eq!(security.dropped_capabilities[0].as_str(), "ALL");
        let wrong = HostConfig { cap_drop: vec!["fly".into()], ..HostConfig::default() };
        assert_eq!(of(&wrong).unwrap_err(), "invalid CapDrop: unknown capability: \"CAP_FLY\"");
    }

    #[test]
    fn options_have_two_spellings() {
        for spelling in ["no-new-privileges", "no-new-privileges:true", "no-new-privileges=1"] {
            assert!(option(spelling).unwrap().0.no_new_privileges, "{spelling}");
        }
        assert!(!option("no-new-privileges=false").unwrap().0.no_new_privileges);
        assert_eq!(option("seccomp:unconfined").unwrap().0.seccomp, Seccomp::Unconfined);
        assert_eq!(option("apparmor=unconfined").unwrap().1, [""; 0]);
        assert_eq!(option("apparmor=mine").unwrap().1.len(), 1, "nothing is dropped in silence");
    }

    #[test]
    fn what_is_no_option_is_refused_by_name() {
        for (wrong, message) in [
            ("fast", "invalid --security-opt 1: \"fast\""),
            ("fast=yes", "invalid --security-opt 2: \"fast=yes\""),
            ("no-new-privileges=perhaps", "invalid --security-opt 2: \"no-new-privileges=perhaps\""),
        ] {
            assert_eq!(option(wrong).unwrap_err(), message);
        }
        assert!(option("seccomp=/no/json").unwrap_err().starts_with("Decoding seccomp profile failed"));
        let kernel = r#"seccomp={"defaultAction": "SCMP_ACT_ALLOW", "syscalls":
            [{"names": ["read"], "action": "SCMP_ACT_LOG", "includes": {"minKernel": "new"}}]}"#;
        assert!(option(kernel).unwrap_err().contains("no version of a kernel"));
    }

    #[test]
    fn an_empty_list_of_paths_is_not_nothing() {
        let none = HostConfig { masked_paths: Some(Vec::new()), ..HostConfig::default() };
        let (security, _) = of(&none).unwrap();
        assert_eq!((security.masked_paths, security.readonly_paths), (Some(Vec::new()), None));
        let relative = HostConfig { readonly_paths: Some(vec!["proc".into()]), ..HostConfig::default() };
        assert!(of(&relative).unwrap_err().contains("HostConfig.ReadonlyPaths"));
    }
}
