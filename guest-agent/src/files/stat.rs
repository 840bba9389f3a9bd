//! What is at a path.

use std::os::fd::OwnedFd;

use berth_protocol::agent::PathStat;
use rustix::fs::{FileType, fstat};

use super::View;

/// Tells about a file that was found at a path.
///
/// # Errors
/// LOOP for a link without an end.
pub(crate) fn stat(view: &View, path: &[u8], file: &OwnedFd) -> rustix::io::Result<PathStat> {
    let stat = fstat(file)?;
    let link_target = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => view.follow(path)?,
        _ => Vec::new(),
    };
    Ok(PathStat {
        mode: stat.st_mode,
        size_bytes: u64::try_from(stat.st_size).unwrap_or(0),
        modified_unix_s: stat.st_mtime,
        modified_ns: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        link_target,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_told_as_it_is_and_a_link_by_its_end() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "four").unwrap();
        symlink("file", root.path().join("link")).unwrap();
        let view = View::new(fs::File::open(root.path()).unwrap().into()).unwrap();
        let stat = |path: &str| {
            let path = path.as_bytes();
            stat(&view, path, &view.find(path).unwrap()).unwrap()
        };
        let file = stat("/file");
        assert_eq!((file.mode & 0o170_000, file.size_bytes), (0o100_000, 4));
        assert!(file.modified_unix_s > 1_700_000_000 && file.link_target.is_empty());
        let link = stat("/link");
        assert_eq!((link.mode & 0o170_000, link.link_target), (0o120_000, b"/file".to_vec()));
        assert_eq!(stat("/").mode & 0o170_000, 0o040_000);
    }
}
