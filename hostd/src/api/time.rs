//! Points in time as clients write them: Unix seconds with a fraction, RFC 3339, or a duration back from now; and as
//! Docker prints them before a log line.

use jiff::{SignedDuration, Span, Timestamp};

use crate::api::error::{ApiError, ApiResult};
use crate::api::params::Params;

/// Go's zero time: "never", "not yet".
pub(super) const NEVER: &str = "0001-01-01T00:00:00Z";

/// The parameter's time; an absent one and 0 set no bound.
///
/// # Errors
/// What is no time, by name.
pub(super) fn bound(params: &Params, name: &str, now: Timestamp) -> ApiResult<Option<Timestamp>> {
    Ok(point(name, params.text(name), now)?.filter(|time| *time != Timestamp::UNIX_EPOCH))
}

/// The time that the text of a parameter or filter means.
///
/// # Errors
/// What is no time, by name.
pub(super) fn point(name: &str, text: Option<&str>, now: Timestamp) -> ApiResult<Option<Timestamp>> {
    let parse = |text: &str| {
        let invalid = || ApiError::invalid(format!("invalid value for {name}: \"{text}\" is no time"));
        parse(text, now).ok_or_else(invalid)
    };
    text.map(parse).transpose()
}

fn parse(text: &str, now: Timestamp) -> Option<Timestamp> {
    unix(text).or_else(|| text.parse().ok()).or_else(|| before(text, now))
}

/// "1700000000" or "1700000000.123456789".
fn unix(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) || fraction.len() > 9 {
        return None;
    }
    let nanoseconds = format!("{fraction:0<9}").parse().ok()?;
    Timestamp::new(seconds.parse().ok()?, nanoseconds).ok()
}

/// "10m", "1h30m", "90s": Go's durations, whose units are not ambiguous.
fn before(text: &str, now: Timestamp) -> Option<Timestamp> {
    if !text.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let span: Span = text.parse().ok()?;
    now.checked_sub(SignedDuration::try_from(span).ok()?).ok()
}

/// RFC 3339 with nine digits: lines stay aligned.
pub(super) fn fixed_width(time: Timestamp) -> String {
    format!("{time:.9}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_are_one_time() {
        let now = Timestamp::new(1_700_000_090, 0).unwrap();
        for (text, expected) in [
            ("1700000000", (1_700_000_000, 0)),
            ("1700000000.5", (1_700_000_000, 500_000_000)),
            ("1700000000.000000001", (1_700_000_000, 1)),
            ("2023-11-14T22:13:20Z", (1_700_000_000, 0)),
            ("90s", (1_700_000_000, 0)),
            ("1m30s", (1_700_000_000, 0)),
        ] {
            let expected = Timestamp::new(expected.0, expected.1).unwrap();
            assert_eq!(parse(text, now), Some(expected), "{text}");
        }
        for wrong in ["yesterday", "1.2.3", "1.0000000000", "", "-", "99999999999999999999"] {
            assert_eq!(parse(wrong, now), None, "{wrong}");
        }
    }

    #[test]
    fn nine_digits_are_printed() {
        let time = Timestamp::new(1_700_000_000, 500_000_000).unwrap();
        assert_eq!(fixed_width(time), "2023-11-14T22:13:20.500000000Z");
    }
}
