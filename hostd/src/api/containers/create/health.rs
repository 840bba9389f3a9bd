//! The health check of a request, with Docker's rules and texts.

use super::body;
use crate::api::error::{ApiError, ApiResult};
use crate::engine::Healthcheck;

/// Docker's minimum.
const MIN_DURATION_NS: i64 = 1_000_000;

/// # Errors
/// Docker's texts for a duration that is too short, negative retries, or a test of another kind than there are.
pub(super) fn healthcheck(asked: body::Healthcheck) -> ApiResult<Healthcheck> {
    let kinds = ["CMD", "CMD-SHELL", "NONE"];
    if let Some(kind) = asked.test.first().filter(|kind| !kinds.contains(&kind.as_str())) {
        let message = format!("unknown health check type \"{kind}\": it is CMD, CMD-SHELL or NONE");
        return Err(ApiError::invalid(message));
    }
    let retries = u32::try_from(asked.retries)
        .map_err(|_range| ApiError::invalid("Retries in Healthcheck cannot be negative"))?;
    Ok(Healthcheck {
        test: asked.test,
        interval_ns: duration("Interval", asked.interval)?,
        timeout_ns: duration("Timeout", asked.timeout)?,
        start_period_ns: duration("StartPeriod", asked.start_period)?,
        start_interval_ns: duration("StartInterval", asked.start_interval)?,
        retries,
    })
}

fn duration(name: &str, nanoseconds: i64) -> ApiResult<u64> {
    if nanoseconds != 0 && nanoseconds < MIN_DURATION_NS {
        return Err(ApiError::invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
    }
    Ok(nanoseconds.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: serde_json::Value) -> ApiResult<Healthcheck> {
        healthcheck(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn every_option_is_kept() {
        let second = 1_000_000_000_i64;
        let check = parse(json!({
            "Test": ["CMD-SHELL", "true"], "Interval": second, "Timeout": 2 * second, "StartPeriod": 3 * second,
            "StartInterval": 4 * second, "Retries": 5,
        }))
        .unwrap();
        assert_eq!(check.test, ["CMD-SHELL", "true"]);
        let in_seconds =
            [check.interval_ns, check.timeout_ns, check.start_period_ns, check.start_interval_ns];
        assert_eq!(in_seconds.map(|ns| ns / 1_000_000_000), [1, 2, 3, 4]);
        assert_eq!(check.retries, 5);
        assert_eq!(parse(json!({})), Ok(Healthcheck::default()));
    }

    #[test]
    fn what_is_out_of_range_is_refused_in_dockers_words() {
        for (value, message) in [
            (json!({ "Interval": 999_999 }), "Interval in Healthcheck cannot be less than 1ms"),
            (json!({ "Timeout": -1 }), "Timeout in Healthcheck cannot be less than 1ms"),
            (json!({ "StartInterval": 1 }), "StartInterval in Healthcheck cannot be less than 1ms"),
            (json!({ "Retries": -1 }), "Retries in Healthcheck cannot be negative"),
            (json!({ "Test": ["true"] }), "unknown health check type \"true\": it is CMD, CMD-SHELL or NONE"),
        ] {
            let error = parse(value).unwrap_err();
            assert_eq!((error.status.as_u16(), error.message.as_str()), (400, message));
        }
    }
}
