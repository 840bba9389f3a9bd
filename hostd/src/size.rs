//! Sizes as Docker's clients and settings write them.

/// What a kilobyte is where logs rotate.
pub(crate) const DECIMAL: u64 = 1000;
/// And of memory and disks.
pub(crate) const BINARY: u64 = 1024;

/// "10m", "1.5GB", "500": in powers of `kilo`. `None` for what is no size or none that fits.
pub(crate) fn bytes(text: &str, kilo: u64) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let power = match &lower[digits.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return None,
    };
    let factor = kilo.checked_pow(power)?;
    let number = digits.trim_end();
    if !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction_digits = u32::try_from(fraction.len()).ok().filter(|count| *count <= 6)?;
    let tenths: u64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let part = tenths.checked_mul(factor)? / 10_u64.pow(fraction_digits);
    whole.parse::<u64>().ok()?.checked_mul(factor)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_a_unit_or_is_bytes() {
        for (text, decimal, binary) in [
            ("500", 500, 500),
            ("10k", 10_000, 10 << 10),
            ("1.5GB", 1_500_000_000, 3 << 29),
            ("2 MiB", 2_000_000, 2 << 20),
            ("2T", 2_000_000_000_000, 2 << 40),
        ] {
            assert_eq!((bytes(text, DECIMAL), bytes(text, BINARY)), (Some(decimal), Some(binary)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_none() {
        for text in ["", "m", "-1", "+1", "1.+5", "1.x", "1x", "99999999999t", "1.1234567g", "1kbb", "1ib"] {
            assert_eq!(bytes(text, BINARY), None, "{text:?}");
        }
    }
}
