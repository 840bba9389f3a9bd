//! Trees of files that guests have made: measured and deleted by the host.
//!
//! A guest may write to such a tree while it is looked at, and it may have made directories in directories without end.
//! So no path is resolved here, no link is followed, and neither the stack nor the number of open files grows with what
//! is found.

use std::collections::{HashSet, VecDeque};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, openat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

/// Directories below this depth are not measured: each level is an open file.
const MAX_MEASURED_DEPTH: usize = 256;
/// How often a directory is emptied that somebody fills at the same time.
const MAX_ATTEMPTS: u32 = 16;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The bytes of all files in the directory and below; of a file with several names once. Blocks.
///
/// # Errors
/// The directory cannot be opened. What goes away meanwhile is not counted.
pub(super) fn content_bytes(directory: &Path) -> io::Result<u64> {
    let mut linked = HashSet::new();
    let mut total_bytes = 0_u64;
    let mut stack = vec![Dir::new(openat(CWD, directory, DIRECTORY, Mode::empty())?)?];
    while let depth = stack.len()
        && let Some(directory) = stack.last_mut()
    {
        let Some(entry) = directory.read() else {
            stack.pop();
            continue;
        };
        let (Ok(entry), Ok(fd)) = (entry, directory.fd()) else { continue };
        let name = entry.file_name();
        let Ok(stat) = statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            if stat.st_nlink < 2 || linked.insert((stat.st_dev, stat.st_ino)) {
                total_bytes = total_bytes.saturating_add(u64::try_from(stat.st_size).unwrap_or(0));
            }
        } else if !is_dots(name.to_bytes())
            && depth < MAX_MEASURED_DEPTH
            && let Ok(child) = openat(fd, name, DIRECTORY, Mode::empty())
        {
            stack.push(Dir::new(child)?);
        }
    }
    Ok(total_bytes)
}

/// Whether there is nothing in the directory. Blocks.
pub(super) fn is_empty(directory: BorrowedFd<'_>) -> io::Result<bool> {
    let own = openat(directory, c".", DIRECTORY, Mode::empty())?;
    let mut entries = Dir::new(own)?
        .filter(|entry| !entry.as_ref().is_ok_and(|entry| is_dots(entry.file_name().to_bytes())));
    Ok(entries.next().transpose()?.is_none())
}

/// Deletes the directory and all that is in it. Blocks.
///
/// # Errors
/// The host refuses; what was deleted by then is gone.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    match openat(CWD, directory, DIRECTORY, Mode::empty()) {
        Ok(opened) => clear(opened.as_fd())?,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    Ok(unlinkat(CWD, directory, AtFlags::REMOVEDIR)?)
}

/// Deletes all that is in the directory. Blocks.
///
/// # Errors
/// The host refuses, or somebody fills it as fast as it is emptied.
pub(super) fn clear(root: BorrowedFd<'_>) -> io::Result<()> {
    for _ in 0..MAX_ATTEMPTS {
        let mut directories = VecDeque::from(unlink_files(root)?);
        if directories.is_empty() {
            return Ok(());
        }
        // What is found in one of them is moved up here before its turn comes: no path grows longer than two names.
        let mut number = 0_u64;
        while let Some(name) = directories.pop_front() {
            match openat(root, &name, DIRECTORY, Mode::empty()) {
                Ok(directory) => lift(root, &directory, &mut directories, &mut number)?,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(error) => return Err(error.into()),
            }
            match unlinkat(root, &name, AtFlags::REMOVEDIR) {
                // Somebody was there in between: again, from the beginning.
                Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, "somebody fills it as fast as it is emptied"))
}

/// Deletes the files of a directory, and moves its directories into `root`.
fn lift(
    root: BorrowedFd<'_>,
    directory: &OwnedFd,
    lifted: &mut VecDeque<CString>,
    number: &mut u64,
) -> io::Result<()> {
    for child in unlink_files(directory.as_fd())? {
        loop {
            *number += 1;
            let name = CString::new(format!(".lifted-{number}")).expect("digits have no zero byte");
            match renameat_with(directory, &child, root, &name, RenameFlags::NOREPLACE) {
                Ok(()) => lifted.push_back(name),
                Err(Errno::EXIST) => continue,
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
            break;
        }
    }
    Ok(())
}

/// Deletes all that is no directory; returns what the others are called.
fn unlink_files(directory: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let mut directories = Vec::new();
    // Of its own position, and read to its end before anything is taken out of it.
    let names = Dir::new(openat(directory, c".", DIRECTORY, Mode::empty())?)?;
    let names = names.map(|entry| Ok(entry?.file_name().to_owned())).collect::<io::Result<Vec<_>>>()?;
    for name in names.into_iter().filter(|name| !is_dots(name.to_bytes())) {
        match unlinkat(directory, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => directories.push(name),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(directories)
}

fn is_dots(name: &[u8]) -> bool {
    matches!(name, b"." | b"..")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::mkdirat;

    use super::*;

    fn deep(root: &Path, depth: usize) {
        let mut here = openat(CWD, root, DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..depth {
            mkdirat(&here, c"directory", Mode::RWXU).unwrap();
            here = openat(&here, c"directory", DIRECTORY, Mode::empty()).unwrap();
        }
        openat(&here, c"file", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap();
    }

    #[test]
    fn no_depth_is_too_deep_to_delete() {
        let root = tempfile::tempdir().unwrap();
        let tree = root.path().join("tree");
        fs::create_dir(&tree).unwrap();
        // More names in one path than the kernel resolves, and more levels than a process has files.
        deep(&tree, 3000);
        assert_eq!(content_bytes(&tree).unwrap(), 0);
        remove(&tree).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        remove(&tree).unwrap();
    }

    #[test]
    fn links_lead_nowhere() {
        let root = tempfile::tempdir().unwrap();
        let (tree, outside) = (root.path().join("tree"), root.path().join("outside"));
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), "12345").unwrap();
        fs::create_dir_all(tree.join("a/b")).unwrap();
        symlink(&outside, tree.join("link")).unwrap();
        symlink("../../../outside", tree.join("a/b/link")).unwrap();
        fs::write(tree.join(".lifted-1"), "x").unwrap();
        let links_bytes = outside.as_os_str().len() as u64 + "../../../outside".len() as u64;
        assert_eq!(content_bytes(&tree).unwrap(), links_bytes + 1);
        remove(&tree).unwrap();
        assert_eq!(fs::read_to_string(outside.join("precious")).unwrap(), "12345");
        assert!(!tree.exists());
    }

    #[test]
    fn several_names_are_one_file() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a"), vec![0; 100]).unwrap();
        fs::hard_link(root.path().join("a"), root.path().join("b")).unwrap();
        assert_eq!(content_bytes(root.path()).unwrap(), 100);
        let opened = fs::File::open(root.path()).unwrap();
        assert!(!is_empty(opened.as_fd()).unwrap());
        clear(opened.as_fd()).unwrap();
        assert!(is_empty(opened.as_fd()).unwrap());
    }
}
