//! Sizes and processor counts as users write them, sizes as they read them.

use thiserror::Error;

#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum QuantityError {
    #[error("invalid size: '{0}'")]
    Size(String),
    #[error("failed to parse {0} as a rational number")]
    Cpus(String),
    #[error("value is too precise: {0} CPUs has more than nine decimal places")]
    TooPrecise(String),
}

/// Bytes from `64m`, `1.5GiB`, `512 kb`, `1024`: powers of 1024, a letter without `b` means the same.
pub(crate) fn parse_bytes(text: &str) -> Result<i64, QuantityError> {
    let wrong = || QuantityError::Size(text.to_owned());
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = shift_of(unit.strip_prefix(' ').unwrap_or(unit)).ok_or_else(wrong)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    // Empty parts, a second point and overflow are all refused by the integer parser.
    let whole: i64 = whole.parse().map_err(|_| wrong())?;
    let fraction_bytes = scaled_fraction(fraction, 1 << shift).ok_or_else(wrong)?;
    whole.checked_mul(1 << shift).and_then(|bytes| bytes.checked_add(fraction_bytes)).ok_or_else(wrong)
}

/// -1 for unlimited, else [`parse_bytes`].
pub(crate) fn parse_swap(text: &str) -> Result<i64, QuantityError> {
    if text == "-1" { Ok(-1) } else { parse_bytes(text) }
}

fn shift_of(unit: &str) -> Option<u32> {
    let unit = unit.to_ascii_lowercase();
    let letter = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit) {
        "" if unit == "ib" => return None,
        letter => letter,
    };
    ["", "k", "m", "g", "t", "p"]
        .iter()
        .zip([0, 10, 20, 30, 40, 50])
        .find_map(|(l, s)| (*l == letter).then_some(s))
}

/// `0.FRACTION * unit`, rounded down.
fn scaled_fraction(fraction: &str, unit: i64) -> Option<i64> {
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // 15 digits are more than the largest unit (2^50) can tell apart.
    let digits = &fraction[..fraction.len().min(15)];
    let numerator: i128 = digits.parse().ok()?;
    let denominator = 10_i128.pow(u32::try_from(digits.len()).ok()?);
    i64::try_from(numerator * i128::from(unit) / denominator).ok()
}

/// Billionths of a processor from `0.5`, `2`, `.25`.
pub(crate) fn parse_nano_cpus(text: &str) -> Result<i64, QuantityError> {
    let wrong = || QuantityError::Cpus(text.to_owned());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !digits(whole) || !digits(fraction) {
        return Err(wrong());
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 9 {
        return Err(QuantityError::TooPrecise(text.to_owned()));
    }
    format!("{whole}{fraction:0<9}").parse().map_err(|_| wrong())
}

/// `4.27MB`: powers of 1000, three significant digits, as `images` prints sizes.
pub(crate) fn decimal_size(bytes: u64) -> String {
    human(bytes, 1000.0, 3, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// `23.54GiB`: powers of 1024, four significant digits, as `info` prints memory.
pub(crate) fn binary_size(bytes: u64) -> String {
    human(bytes, 1024.0, 4, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

fn human(bytes: u64, base: f64, digits: usize, units: &[&str]) -> String {
    #[expect(clippy::cast_precision_loss, reason = "at most four digits of it are shown")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let whole_digits = if value >= 1000.0 {
        4
    } else if value >= 100.0 {
        3
    } else if value >= 10.0 {
        2
    } else {
        1
    };
    let number = format!("{value:.*}", digits.saturating_sub(whole_digits));
    let number =
        if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
    format!("{number}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_docker_reads_them() {
        for (text, bytes) in [
            ("1024", 1024),
            ("64m", 64 << 20),
            ("64M", 64 << 20),
            ("64mb", 64 << 20),
            ("64MiB", 64 << 20),
            ("1.5g", 3 << 29),
            ("32 kb", 32 << 10),
            ("1t", 1 << 40),
            ("10b", 10),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn wrong_sizes_are_named() {
        for text in ["", "m", "-1", "1.", ".5g", "1.2.3m", "12x", "1ib", "99999999999p", " 1m", "1  m"] {
            assert_eq!(parse_bytes(text), Err(QuantityError::Size(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn cpus_are_exact_to_nine_places() {
        assert_eq!(parse_nano_cpus("0.5"), Ok(500_000_000));
        assert_eq!(parse_nano_cpus("2"), Ok(2_000_000_000));
        assert_eq!(parse_nano_cpus(".25"), Ok(250_000_000));
        assert_eq!(parse_nano_cpus("1.0000000000"), Ok(1_000_000_000));
        assert!(matches!(parse_nano_cpus("0.0000000001"), Err(QuantityError::TooPrecise(_))));
        for text in ["", ".", "-1", "two", "1e3", "99999999999999999999"] {
            assert!(matches!(parse_nano_cpus(text), Err(QuantityError::Cpus(_))), "{text}");
        }
    }

    #[test]
    fn sizes_print_as_docker_prints_them() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (4_269_678, "4.27MB"),
            (13_256, "13.3kB"),
            (187_654_321, "188MB"),
        ] {
            assert_eq!(decimal_size(bytes), text);
        }
        assert_eq!(binary_size(25_276_325_888), "23.54GiB");
        assert_eq!(binary_size(64 << 20), "64MiB");
    }
}
