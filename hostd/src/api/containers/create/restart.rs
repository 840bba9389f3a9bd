//! The restart policy of a request, with Docker's rules and texts.

use super::body;
use crate::api::error::{ApiError, ApiResult};
use crate::engine::RestartPolicy;

/// # Errors
/// Docker's texts for a policy that is none, or a count that it does not take.
pub(in crate::api) fn restart_policy(asked: &body::RestartPolicy) -> ApiResult<RestartPolicy> {
    let count = asked.maximum_retry_count;
    let policy = match asked.name.as_str() {
        // Clients of old write no name, with any count.
        "" => return Ok(RestartPolicy::No),
        "no" => RestartPolicy::No,
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        "on-failure" => {
            let max_retries = u32::try_from(count).map_err(|_range| {
                ApiError::invalid("invalid restart policy: maximum retry count cannot be negative")
            })?;
            return Ok(RestartPolicy::OnFailure { max_retries });
        }
        other => {
            return Err(ApiError::invalid(format!(
                "invalid restart policy: unknown policy '{other}'; \
                 use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            )));
        }
    };
    if count == 0 {
        return Ok(policy);
    }
    let negative = if count < 0 { " and cannot be negative" } else { "" };
    let message = "invalid restart policy: maximum retry count can only be used with 'on-failure'";
    Err(ApiError::invalid(format!("{message}{negative}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, maximum_retry_count: i64) -> ApiResult<RestartPolicy> {
        restart_policy(&body::RestartPolicy { name: name.to_owned(), maximum_retry_count })
    }

    #[test]
    fn every_policy_has_its_name() {
        for (name, count, policy) in [
            ("", 7, RestartPolicy::No),
            ("no", 0, RestartPolicy::No),
            ("always", 0, RestartPolicy::Always),
            ("unless-stopped", 0, RestartPolicy::UnlessStopped),
            ("on-failure", 0, RestartPolicy::OnFailure { max_retries: 0 }),
            ("on-failure", 5, RestartPolicy::OnFailure { max_retries: 5 }),
        ] {
            assert_eq!(parse(name, count), Ok(policy), "{name}");
        }
    }

    #[test]
    fn what_is_none_is_refused_in_dockers_words() {
        for (name, count, words) in [
            ("always", 1, "maximum retry count can only be used with 'on-failure'"),
            ("no", -1, "can only be used with 'on-failure' and cannot be negative"),
            ("on-failure", -1, "maximum retry count cannot be negative"),
            ("sometimes", 0, "unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or"),
        ] {
            let error = parse(name, count).unwrap_err();
            assert!(error.status == 400 && error.message.contains(words), "{}", error.message);
        }
    }
}
