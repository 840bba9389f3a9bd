//! Sizes as people write them: `512m`, `2g`, `1024`.

/// Bytes; a number alone is bytes, `b`, `k`, `m`, `g`, `t` (in any case, with or without a trailing `b`, `i` allowed)
/// are powers of 1024.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let factor = factor(&unit).ok_or_else(|| wrong(text))?;
    multiply(text, number, factor)
}

/// MiB; a number alone is MiB. Fractions of a MiB are dropped.
pub(super) fn parse_mib(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    if unit.is_empty() {
        return number.parse().map_err(|_| wrong(text));
    }
    parse_bytes(text).map(|bytes| bytes >> 20)
}

fn split(text: &str) -> (&str, String) {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    (number, unit.trim().to_ascii_lowercase())
}

fn factor(unit: &str) -> Option<u64> {
    match unit {
        "" | "b" => Some(1),
        "k" | "kb" | "kib" => Some(1 << 10),
        "m" | "mb" | "mib" => Some(1 << 20),
        "g" | "gb" | "gib" => Some(1 << 30),
        "t" | "tb" | "tib" => Some(1 << 40),
        _ => None,
    }
}

fn multiply(text: &str, number: &str, factor: u64) -> Result<u64, String> {
    let number: u64 = number.parse().map_err(|_| wrong(text))?;
    number.checked_mul(factor).ok_or_else(|| wrong(text))
}

fn wrong(text: &str) -> String {
    format!("\"{text}\" is not a size; write it as 512m or 2g")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_alone_is_bytes_or_mib_as_the_setting_says() {
        assert_eq!(parse_bytes("4096"), Ok(4096));
        assert_eq!(parse_mib("4096"), Ok(4096));
    }

    #[test]
    fn units_are_powers_of_1024_in_any_case() {
        for text in ["512m", "512M", "512MB", "512MiB", "512 m"] {
            assert_eq!(parse_mib(text), Ok(512), "{text}");
        }
        assert_eq!(parse_bytes("2g"), Ok(2 << 30));
    }

    #[test]
    fn what_is_no_size_is_refused_by_name() {
        for text in ["", "m", "1.5g", "-1", "5x", "99999999999t"] {
            assert!(parse_bytes(text).unwrap_err().contains(text), "{text}");
        }
    }
}
