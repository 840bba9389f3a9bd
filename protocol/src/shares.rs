//! How the two sides call the shares of a machine: host directories and files in its guest.

/// What the guest mounts the one file system by in which all shares of its machine are.
pub const TAG: &str = "shares";

/// The longest name of a share, in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// Whether it can be the name of a share: a part of a path, of letters, digits, `-` and `_`.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let is_possible = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(is_possible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_part_of_a_path() {
        assert!(is_name("a-B_9") && is_name(&"x".repeat(64)));
        for name in ["", ".", "..", "a/b", "a b", "\u{e9}", &"x".repeat(65)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
