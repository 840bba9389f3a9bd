//! Points in time and durations: as users write them (`10m`, `2026-11-20T10:00:00Z`), and as Docker prints them.

use jiff::{Timestamp, Zoned, tz::TimeZone};
use thiserror::Error;

#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum MomentError {
    #[error(
        "invalid value for \"{flag}\": failed to parse value as time or duration: \"{value}\" \
         (seconds since 1970, RFC 3339, a date, or a duration like 10m)"
    )]
    Time { flag: &'static str, value: String },
    #[error("invalid duration `{0}`: expected numbers with units, like 1h30m or 500ms")]
    Duration(String),
}

/// `seconds[.nanoseconds]` since the epoch, as the API wants it, from what `--since` and `--until` take.
/// A duration means that long before `now`; a time without zone is local.
pub(crate) fn parse_time(flag: &'static str, text: &str, now: &Zoned) -> Result<String, MomentError> {
    if let Ok(nanoseconds) = parse_duration_ns(text) {
        let now_ns = now.timestamp().as_nanosecond();
        return Ok(seconds_and_nanoseconds(now_ns - i128::from(nanoseconds)));
    }
    if is_unix_time(text) {
        return Ok(text.to_owned());
    }
    let timestamp = parse_calendar(text, now.time_zone())
        .ok_or_else(|| MomentError::Time { flag, value: text.to_owned() })?;
    Ok(seconds_and_nanoseconds(timestamp.as_nanosecond()))
}

fn seconds_and_nanoseconds(nanoseconds: i128) -> String {
    const NS: i128 = 1_000_000_000;
    format!("{}.{:09}", nanoseconds.div_euclid(NS), nanoseconds.rem_euclid(NS))
}

fn is_unix_time(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('.').map_or_else(|| digits(text), |(seconds, rest)| digits(seconds) && digits(rest))
}

fn parse_calendar(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp);
    }
    // A date with Z is midnight in UTC; jiff reads neither that nor the rest as a timestamp.
    let (text, zone) = match text.strip_suffix('Z') {
        Some(text) => (text, &TimeZone::UTC),
        None => (text, zone),
    };
    let local: jiff::civil::DateTime = text.parse().ok()?;
    local.to_zoned(zone.clone()).ok().map(|zoned| zoned.timestamp())
}

/// Nanoseconds from `1h30m`, `1.5s`, `500ms`: Go's notation, without signs.
pub(crate) fn parse_duration_ns(text: &str) -> Result<i64, MomentError> {
    let wrong = || MomentError::Duration(text.to_owned());
    let mut rest = text;
    let mut total: i64 = 0;
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let number_length = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(number_length);
        let unit_length = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_length);
        let nanoseconds = unit_ns(unit).and_then(|unit_ns| scale(number, unit_ns)).ok_or_else(wrong)?;
        total = total.checked_add(nanoseconds).ok_or_else(wrong)?;
        rest = next;
    }
    Ok(total)
}

fn unit_ns(unit: &str) -> Option<i64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// `number * unit`, rounded down; a number is digits with at most one point.
fn scale(number: &str, unit: i64) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let part = |digits: &str| {
        if digits.is_empty() { Some(0_i128) } else { digits.parse::<u64>().ok().map(i128::from) }
    };
    let denominator = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let sum = part(whole)?.checked_mul(i128::from(unit))?
        + part(fraction)?.checked_mul(i128::from(unit))? / denominator;
    i64::try_from(sum).ok()
}

/// `About a minute ago`; nothing sensible can be said of time zero, which Docker shows as `N/A`.
pub(crate) fn ago(unix_seconds: i64, now: &Zoned) -> String {
    if unix_seconds <= 0 {
        return "N/A".to_owned();
    }
    format!("{} ago", human_duration(now.timestamp().as_second() - unix_seconds))
}

/// A duration in seconds the way Docker words it.
pub(crate) fn human_duration(seconds: i64) -> String {
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match (seconds, minutes, hours) {
        (..=0, _, _) => "Less than a second".to_owned(),
        (1, _, _) => "1 second".to_owned(),
        (..60, _, _) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, ..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".to_owned(),
        (_, _, ..48) => format!("{hours} hours"),
        (_, _, ..336) => format!("{} days", hours / 24),
        (_, _, ..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, ..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// `2026-11-20 10:00:00 +0100 CET`, in the zone of `now`.
pub(crate) fn created_at(unix_seconds: i64, now: &Zoned) -> String {
    match Timestamp::from_second(unix_seconds) {
        Ok(timestamp) => {
            timestamp.to_zoned(now.time_zone().clone()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
        }
        Err(_) => "N/A".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Zoned {
        jiff::civil::date(2026, 11, 20).at(12, 0, 0, 0).to_zoned(TimeZone::UTC).unwrap()
    }

    #[test]
    fn durations_are_worded_as_docker_words_them() {
        for (seconds, words) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5399, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (13 * 86400, "13 days"),
            (14 * 86400, "2 weeks"),
            (59 * 86400, "8 weeks"),
            (60 * 86400, "2 months"),
            (729 * 86400, "24 months"),
            (730 * 86400, "2 years"),
        ] {
            assert_eq!(human_duration(seconds), words, "{seconds} s");
        }
    }

    #[test]
    fn moments_are_told_in_relation_to_now() {
        assert_eq!(ago(now().timestamp().as_second() - 61, &now()), "About a minute ago");
        assert_eq!(ago(0, &now()), "N/A");
        assert_eq!(created_at(1_700_000_000, &now()), "2023-11-14 22:13:20 +0000 UTC");
    }

    #[test]
    fn since_takes_durations_unix_times_and_calendars() {
        for (text, unix) in [
            ("10m", "1795175400.000000000"),
            ("1700000000", "1700000000"),
            ("1700000000.5", "1700000000.5"),
            ("2026-11-20T12:00:00Z", "1795176000.000000000"),
            ("2026-11-20T13:00:00+01:00", "1795176000.000000000"),
            ("2026-11-20T12:00:00.25", "1795176000.250000000"),
            ("2026-11-20", "1795132800.000000000"),
            ("2026-11-20Z", "1795132800.000000000"),
        ] {
            assert_eq!(parse_time("since", text, &now()).as_deref(), Ok(unix), "{text}");
        }
        assert_eq!(
            parse_time("since", "yesterday", &now()),
            Err(MomentError::Time { flag: "since", value: "yesterday".to_owned() })
        );
    }

    #[test]
    fn durations_read_as_go_reads_them() {
        for (text, nanoseconds) in
            [("1h30m", 5_400_000_000_000), ("1.5s", 1_500_000_000), (".5ms", 500_000), ("0", 0), ("7ns", 7)]
        {
            assert_eq!(parse_duration_ns(text), Ok(nanoseconds), "{text}");
        }
        for text in ["", "5", "s", "1x", "-1s", "1.2.3s", ".s", "9999999999999h", "1s "] {
            assert_eq!(parse_duration_ns(text), Err(MomentError::Duration(text.to_owned())), "{text}");
        }
    }
}
