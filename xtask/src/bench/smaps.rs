//! What the mappings of a process take of the host's memory, as proc_pid_smaps(5) tells.

/// In KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) proportional_kib: u64,
    pub(super) private_dirty_kib: u64,
}

#[derive(Debug)]
pub(super) struct Mapping {
    pub(super) start: u64,
    pub(super) end: u64,
    /// The file's, or the kernel's word for it; empty for anonymous memory.
    pub(super) name: String,
    pub(super) memory: Memory,
}

/// Of the text of /proc/PID/smaps: a line of addresses, then named sizes.
pub(super) fn parse(text: &str) -> Vec<Mapping> {
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(first), second) = (words.next(), words.next()) else { continue };
        if let Some((start, end)) = addresses(first) {
            // Past permissions, offset, device and inode.
            let name = words.skip(3).collect::<Vec<_>>().join(" ");
            mappings.push(Mapping { start, end, name, memory: Memory::default() });
        } else if let (Some(mapping), Some(kib)) =
            (mappings.last_mut(), second.and_then(|kib| kib.parse().ok()))
        {
            match first {
                "Pss:" => mapping.memory.proportional_kib = kib,
                "Private_Dirty:" => mapping.memory.private_dirty_kib = kib,
                _ => {}
            }
        }
    }
    mappings
}

impl Memory {
    pub(super) fn sum<'a>(mappings: impl Iterator<Item = &'a Mapping>) -> Self {
        mappings.fold(Self::default(), |sum, mapping| Self {
            proportional_kib: sum.proportional_kib + mapping.memory.proportional_kib,
            private_dirty_kib: sum.private_dirty_kib + mapping.memory.private_dirty_kib,
        })
    }
}

fn addresses(range: &str) -> Option<(u64, u64)> {
    let (start, end) = range.split_once('-')?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_has_a_name_or_none() {
        let text = "1000-2000 rw-s 00000000 00:01 7   /memfd:ram (deleted)\nSize: 4 kB\nPss: 3 kB\nPrivate_Dirty: 2 kB\n\
                    3000-4000 rw-p 00000000 00:00 0 \nPss: 1 kB\n";
        let mappings = parse(text);
        let names: Vec<_> = mappings.iter().map(|mapping| mapping.name.as_str()).collect();
        assert_eq!(names, ["/memfd:ram (deleted)", ""]);
        assert_eq!((mappings[0].start, mappings[0].end), (0x1000, 0x2000));
        let expected = Memory { proportional_kib: 4, private_dirty_kib: 2 };
        assert_eq!(Memory::sum(mappings.iter()), expected);
    }
}
