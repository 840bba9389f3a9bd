//! The names in one directory, sorted, so that the same files make the same archive; packed, because a directory may
//! have a million.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::Dir;

/// What the names of one directory take at most.
pub(super) const MAX_BYTES: usize = 32 << 20;

/// Names that are yet to be visited.
#[derive(Debug, Default)]
pub(super) struct Names {
    bytes: Vec<u8>,
    /// Where each begins, in the order of the names; the last is the next.
    starts: Vec<u32>,
}

impl Names {
    /// Those in a directory.
    ///
    /// # Errors
    /// If it cannot be read, or has too many names.
    pub(super) fn read(directory: BorrowedFd<'_>) -> io::Result<Self> {
        let mut names = Self::default();
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if !matches!(name.to_bytes(), b"." | b"..") {
                names.push(name.to_bytes_with_nul())?;
            }
        }
        names.sort();
        Ok(names)
    }

    /// Those of two directories, each once.
    ///
    /// # Errors
    /// If they are too many.
    pub(super) fn of_both(mut one: Self, mut other: Self) -> io::Result<Self> {
        while let Some(name) = other.next() {
            one.push(&[name, b"\0"].concat())?;
        }
        one.sort();
        let Self { bytes, starts } = &mut one;
        starts.dedup_by(|a, b| name_at(bytes, *a) == name_at(bytes, *b));
        Ok(one)
    }

    fn sort(&mut self) {
        let Self { bytes, starts } = self;
        starts.sort_unstable_by(|a, b| name_at(bytes, *b).cmp(name_at(bytes, *a)));
    }

    fn push(&mut self, name: &[u8]) -> io::Result<()> {
        if self.held_bytes() + name.len() + size_of::<u32>() > MAX_BYTES {
            return Err(io::Error::other(format!("the names in it take more than {} MiB", MAX_BYTES >> 20)));
        }
        self.starts.push(u32::try_from(self.bytes.len()).expect("bounded above"));
        self.bytes.extend_from_slice(name);
        Ok(())
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.len() + self.starts.len() * size_of::<u32>()
    }

    pub(super) fn next(&mut self) -> Option<&[u8]> {
        let start = self.starts.pop()?;
        Some(name_at(&self.bytes, start))
    }
}

/// The name that begins there, up to its NUL.
fn name_at(bytes: &[u8], start: u32) -> &[u8] {
    let rest = bytes.get(start as usize..).unwrap_or_default();
    rest.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_in_order_and_are_bounded() {
        let mut names = Names::default();
        names.push(b"b\0").unwrap();
        names.push(b"a\0").unwrap();
        assert_eq!(names.next().unwrap(), b"a");
        assert_eq!(names.next().unwrap(), b"b");
        assert!(names.next().is_none());
        assert!(names.push(&vec![b'x'; MAX_BYTES]).is_err());
    }

    #[test]
    fn names_of_two_directories_come_once() {
        let of = |list: &[&str]| {
            let mut names = Names::default();
            list.iter().for_each(|name| names.push(format!("{name}\0").as_bytes()).unwrap());
            names.sort();
            names
        };
        let mut both = Names::of_both(of(&["a", "c", "d"]), of(&["b", "c", "ca"])).unwrap();
        let all: Vec<_> = std::iter::from_fn(|| both.next().map(<[u8]>::to_vec)).collect();
        assert_eq!(all, [b"a".as_slice(), b"b", b"c", b"ca", b"d"]);
    }
}
