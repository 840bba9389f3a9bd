//! One member: what is in its way goes, and it comes into being, empty.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use berth_protocol::agent::{FileKind, FileMember};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, linkat, makedev, mkdirat, mknodat, openat, statat, symlinkat,
};
use rustix::io::Errno;

use super::place::{Place, Places, failure};
use super::removal::remove;
use super::shown;
use crate::failure::Failure;
use crate::files::view::open_below;

/// Until it has its own.
const FIRST_FILE_MODE: Mode = Mode::from_raw_mode(0o600);
const FIRST_DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o700);

/// By a descriptor of the very file, never by its name again.
pub(super) enum Made {
    /// Open to be written.
    File(File),
    Directory(OwnedFd),
    Other(OwnedFd),
}

/// Takes away what has the member's name, unless both are directories.
///
/// # Errors
/// INVALID_REQUEST for a directory that would become something else, or the other way round, where that is forbidden.
pub(super) fn make_room(place: &Place, member: &FileMember, keep_kinds: bool) -> Result<(), Failure> {
    let existing = match statat(&place.parent, place.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        existing => existing.map_err(|errno| failure(&format!("lstat {}", place.shown()), errno))?,
    };
    let was_directory = FileType::from_raw_mode(existing.st_mode) == FileType::Directory;
    let is_directory = member.kind() == FileKind::Directory;
    if keep_kinds && was_directory != is_directory {
        let (was, is) =
            if was_directory { ("directory", "non-directory") } else { ("non-directory", "directory") };
        let (shown, directory) = (place.shown(), &place.directory);
        return Err(Failure::invalid(format!(
            "cannot overwrite {was} \"{shown}\" with {is} \"{directory}\""
        )));
    }
    if was_directory && is_directory {
        return Ok(());
    }
    remove(&place.parent, &place.name).map_err(|errno| failure(&format!("remove {}", place.shown()), errno))
}

/// # Errors
/// INVALID_REQUEST for what cannot be made as it is described, READ_ONLY, INTERNAL.
pub(super) fn create(places: &Places, place: &Place, member: &FileMember) -> Result<Made, Failure> {
    let named = |verb: &str, errno| failure(&format!("{verb} {}", place.shown()), errno);
    match member.kind() {
        FileKind::RegularFile => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = openat(&place.parent, place.name.as_slice(), flags, FIRST_FILE_MODE);
            return file.map(|file| Made::File(file.into())).map_err(|errno| named("open", errno));
        }
        FileKind::Directory => {
            match mkdirat(&place.parent, place.name.as_slice(), FIRST_DIRECTORY_MODE) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(named("mkdir", errno)),
            }
            let directory = open_made(place, FileType::Directory)?;
            return Ok(Made::Directory(directory));
        }
        FileKind::HardLink => return link(places, place, member),
        FileKind::SymbolicLink => symlinkat(member.target.as_slice(), &place.parent, place.name.as_slice())
            .map_err(|errno| named("symlink", errno))?,
        FileKind::CharacterSpecial | FileKind::BlockSpecial | FileKind::Fifo => {
            let device = makedev(member.device_major, member.device_minor);
            mknodat(&place.parent, place.name.as_slice(), file_type(member.kind()), FIRST_FILE_MODE, device)
                .map_err(|errno| named("mknod", errno))?;
        }
        FileKind::NoFile => return Err(Failure::invalid(format!("{} is of no kind", place.shown()))),
    }
    open_made(place, file_type(member.kind())).map(Made::Other)
}

/// Another name for what has been there before, or been written before.
fn link(places: &Places, place: &Place, member: &FileMember) -> Result<Made, Failure> {
    let step = format!("link {} {}", shown(&member.target), place.shown());
    let target = places.find_existing(&member.target)?;
    let target = target.ok_or_else(|| failure(&step, Errno::PERM))?;
    linkat(&target.parent, target.name.as_slice(), &place.parent, place.name.as_slice(), AtFlags::empty())
        .map_err(|errno| failure(&step, errno))?;
    let file = open_below(place.parent.as_fd(), &place.name, OFlags::PATH | OFlags::NOFOLLOW);
    file.map(Made::Other).map_err(|errno| failure(&step, errno))
}

/// What was made a moment ago under this name. Something else may have been put there since: that is not touched.
fn open_made(place: &Place, kind: FileType) -> Result<OwnedFd, Failure> {
    let step = || format!("open {}", place.shown());
    let file = open_below(place.parent.as_fd(), &place.name, OFlags::PATH | OFlags::NOFOLLOW);
    let file = file.map_err(|errno| failure(&step(), errno))?;
    let stat = rustix::fs::fstat(&file).map_err(|errno| failure(&step(), errno))?;
    let is_it =
        FileType::from_raw_mode(stat.st_mode) == kind && (kind == FileType::Directory || stat.st_nlink == 1);
    if is_it { Ok(file) } else { Err(failure(&step(), Errno::EXIST)) }
}

fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::CharacterSpecial => FileType::CharacterDevice,
        FileKind::BlockSpecial => FileType::BlockDevice,
        FileKind::Fifo => FileType::Fifo,
        FileKind::SymbolicLink => FileType::Symlink,
        FileKind::Directory => FileType::Directory,
        FileKind::RegularFile | FileKind::HardLink | FileKind::NoFile => FileType::RegularFile,
    }
}
