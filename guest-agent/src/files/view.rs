//! The root of a container, with whatever is mounted in it, and how a path below it is found.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs, openat2, readlinkat};
use rustix::io::Errno;

use crate::container::ids::IdMaps;

/// As many links as Docker follows in one path.
const MAX_LINKS: u32 = 255;
/// Components that one path may have, those of the links in it included.
const MAX_STEPS: u32 = 8192;
/// A kernel that is disturbed by renames answers "again". Somebody who renames all the time must not hold us for ever.
const MAX_ATTEMPTS: u32 = 1000;

/// File systems that keep files for whoever wrote them, by the magic numbers of statfs(2). All others are faces of the
/// kernel's: what is read there may block or act, and nothing can be kept there.
const KEEPERS: [i64; 6] = [
    0x794c_7630, // overlay
    0xef53,      // ext4
    0xe0f5_e1e2, // erofs
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0x6573_5546, // FUSE, which shares are
];

/// A root. Nothing that is opened through it lies outside.
#[derive(Debug)]
pub(crate) struct View {
    root: OwnedFd,
    device: u64,
    /// The file system of the standard devices, if it is one of its own.
    standard_devices: Option<u64>,
    ids: IdMaps,
}

impl View {
    /// # Errors
    /// If it is no directory any more.
    pub(crate) fn new(root: OwnedFd) -> io::Result<Self> {
        let device = fstat(&root)?.st_dev;
        let mut view = Self { root, device, standard_devices: None, ids: IdMaps::default() };
        let devices = view.open(b"/dev", OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW);
        let devices = devices.and_then(|directory| fstat(&directory)).map(|stat| stat.st_dev);
        view.standard_devices = devices.ok().filter(|devices| *devices != device);
        Ok(view)
    }

    /// The same, of a container whose users are others outside.
    pub(crate) fn owned_as(self, ids: &IdMaps) -> Self {
        Self { ids: ids.clone(), ..self }
    }

    pub(super) fn ids(&self) -> &IdMaps {
        &self.ids
    }

    /// The file system of the root itself.
    pub(super) fn root_device(&self) -> u64 {
        self.device
    }

    /// Whether what is in a directory belongs to a copy that began on the file system `began_on`: not what the kernel
    /// shows, and not the devices that every container has.
    pub(crate) fn copies_what_is_in(&self, directory: &OwnedFd, device: u64, began_on: u64) -> bool {
        let is_entered = device == began_on || Some(device) != self.standard_devices;
        is_entered && keeps_files(directory.as_fd()).unwrap_or(false)
    }

    /// What has that path, which may be absolute or not: it begins at the root.
    pub(super) fn open(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        open_by(self.root.as_fd(), if path.is_empty() { b"." } else { path }, flags, resolve)
    }

    /// What has that path, by a descriptor that opens nothing; a link at its end is itself what has it.
    ///
    /// # Errors
    /// NOENT also for what the kernel only shows: it can be looked at, and not copied.
    pub(crate) fn find(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let file = self.open(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let kind = FileType::from_raw_mode(fstat(&file)?.st_mode);
        if kind != FileType::Directory && !keeps_files(file.as_fd())? {
            return Err(Errno::NOENT);
        }
        Ok(file)
    }

    /// The absolute path, without any link in it, of what a path leads to; components that do not exist stay as they are.
    ///
    /// # Errors
    /// LOOP for too many links, or too long a way.
    pub(super) fn follow(&self, path: &[u8]) -> rustix::io::Result<Vec<u8>> {
        let mut ahead: Vec<Vec<u8>> = components(path).rev().map(<[u8]>::to_vec).collect();
        let (mut links, mut steps) = (0, 0);
        // The root's path is empty here; each component is preceded by a slash.
        let mut behind: Vec<u8> = Vec::new();
        while let Some(component) = ahead.pop() {
            steps += 1;
            if links > MAX_LINKS || steps > MAX_STEPS {
                return Err(Errno::LOOP);
            }
            if component == b".." {
                behind.truncate(behind.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                continue;
            }
            let here = [behind.as_slice(), b"/", &component].concat();
            match self.link_target(&here) {
                Some(target) => {
                    links += 1;
                    if target.starts_with(b"/") {
                        behind.clear();
                    }
                    ahead.extend(components(&target).rev().map(<[u8]>::to_vec));
                }
                None => behind = here,
            }
        }
        Ok(if behind.is_empty() { b"/".to_vec() } else { behind })
    }

    fn link_target(&self, path: &[u8]) -> Option<Vec<u8>> {
        let file = self.open(path, OFlags::PATH | OFlags::NOFOLLOW).ok()?;
        let kind = FileType::from_raw_mode(fstat(&file).ok()?.st_mode);
        let is_link = kind == FileType::Symlink;
        is_link.then(|| readlinkat(&file, "", Vec::new()).ok()).flatten().map(|target| target.into_bytes())
    }
}

/// The names in a path; empty ones and "." mean nothing.
pub(super) fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|component| !matches!(*component, b"" | b"."))
}

/// Whether files can be copied from and to the file system that this lies on.
pub(super) fn keeps_files(file: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    Ok(KEEPERS.contains(&fstatfs(file)?.f_type))
}

/// Opens below a directory, and nothing that leads out of it; no link is followed.
pub(super) fn open_below(
    directory: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    open_by(directory, path, flags, resolve)
}

fn open_by(
    directory: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    for _ in 0..MAX_ATTEMPTS {
        match openat2(directory, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            opened => return opened,
        }
    }
    Err(Errno::AGAIN)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn view(root: &Path) -> View {
        View::new(fs::File::open(root).unwrap().into()).unwrap()
    }

    /// Where it leads to, read by what is in the file there.
    fn content(view: &View, path: &str) -> Result<String, Errno> {
        let file = fs::File::from(view.open(path.as_bytes(), OFlags::RDONLY)?);
        Ok(io::read_to_string(file).unwrap())
    }

    #[test]
    fn no_path_leads_out_of_the_root() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "outside").unwrap();
        let root = outside.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("secret"), "inside").unwrap();
        symlink("../secret", root.join("up")).unwrap();
        symlink("/secret", root.join("absolute")).unwrap();
        symlink("/proc/self/root", root.join("magic")).unwrap();
        let view = view(&root);
        for path in ["/secret", "secret", "/../../secret", "up", "/absolute"] {
            assert_eq!(content(&view, path).unwrap(), "inside", "{path}");
        }
        assert_eq!(content(&view, "/magic/secret"), Err(Errno::NOENT), "there is no /proc in this root");
    }

    #[test]
    fn a_magic_link_is_no_way() {
        let view = view(Path::new("/"));
        let found = view.open(b"/proc/self/root/etc", OFlags::PATH);
        assert_eq!(found.map(drop), Err(Errno::LOOP));
        assert_eq!(view.find(b"/proc/version").map(drop), Err(Errno::NOENT), "only shown, not kept");
        assert!(view.find(b"/proc").is_ok());
    }

    #[test]
    fn links_are_followed_to_their_end_as_far_as_it_exists() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir(path("d")).unwrap();
        symlink("d", path("relative")).unwrap();
        symlink("/relative/nothing/deep", path("broken")).unwrap();
        symlink("../../../..", path("d/up")).unwrap();
        symlink("loop", path("loop")).unwrap();
        symlink("/relative/up/broken", path("chain")).unwrap();
        let view = view(root.path());
        for (from, to) in [
            ("/relative", "/d"),
            ("/broken", "/d/nothing/deep"),
            ("/d/up", "/"),
            ("/chain", "/d/nothing/deep"),
            ("/nothing/../d/./x", "/d/x"),
            ("/", "/"),
        ] {
            assert_eq!(view.follow(from.as_bytes()).unwrap(), to.as_bytes(), "{from}");
        }
        assert_eq!(view.follow(b"/loop"), Err(Errno::LOOP));
        assert_eq!(view.follow(&b"x/".repeat(20_000)), Err(Errno::LOOP));
    }
}
