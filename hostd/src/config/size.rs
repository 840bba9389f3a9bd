//! Settings that are sizes: `512m`, `2g`, `1024`.

use crate::size;

/// Bytes; a number alone is bytes, units are powers of 1024.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    size::bytes(text, size::BINARY).ok_or_else(|| format!("\"{text}\" is not a size; write it as 512m or 2g"))
}

/// MiB; a number alone is MiB. Fractions of a MiB are dropped.
pub(super) fn parse_mib(text: &str) -> Result<u64, String> {
    text.parse().or_else(|_| Ok(parse_bytes(text)? >> 20))
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
        for text in ["", "m", "1.x", "-1", "5x", "99999999999t"] {
            assert!(parse_bytes(text).unwrap_err().contains(text), "{text}");
        }
    }
}
