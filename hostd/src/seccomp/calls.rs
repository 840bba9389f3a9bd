//! The numbers of system calls by their names.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::program::Architecture;

/// Facts of the kernel's, one call a line.
const TABLE: &str = include_str!("calls.txt");

/// x86-64 and 32-bit x86.
type Numbers = [Option<u32>; 2];

static CALLS: LazyLock<HashMap<&str, Numbers>> = LazyLock::new(|| TABLE.lines().filter_map(parse).collect());

fn parse(line: &'static str) -> Option<(&'static str, Numbers)> {
    let mut words = line.split(' ').filter(|_| !line.starts_with('#'));
    let name = words.next()?;
    let mut number = || words.next()?.parse().ok();
    Some((name, [number(), number()]))
}

/// None for a call that this architecture does not have, or that no kernel of ours knows.
pub(super) fn number(name: &str, architecture: Architecture) -> Option<u32> {
    let numbers = CALLS.get(name)?;
    match architecture {
        Architecture::X86_64 => numbers[0],
        Architecture::X86 => numbers[1],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_the_kernels_numbers() {
        let of = |name| [number(name, Architecture::X86_64), number(name, Architecture::X86)];
        assert_eq!(of("read"), [Some(0), Some(3)]);
        assert_eq!(of("execve"), [Some(59), Some(11)]);
        assert_eq!(of("socketcall"), [None, Some(102)]);
        assert_eq!(of("newfstatat"), [Some(262), None]);
        assert_eq!(of("clone3"), [Some(435), Some(435)]);
        assert_eq!(of("mseal"), [Some(462), Some(462)]);
        assert_eq!(of("no_such_call"), [None, None]);
    }

    #[test]
    fn every_line_is_a_call_with_a_number() {
        for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
            let (name, numbers) = parse(line).unwrap();
            assert!(!name.is_empty() && numbers.iter().any(Option::is_some), "{line}");
            assert_eq!(line.split(' ').count(), 3, "{line}");
        }
        assert!(CALLS.len() > 400);
    }
}
