//! One entry of a layer, checked: from here on its path, numbers and names can be trusted.

use super::path::{self, InvalidPath};
use crate::image::tar_stream::{Member, MemberKind, ModificationTime, Xattrs};

/// Marks a path as removed from the layers below (OCI image-spec 1.1, layer.md, "Whiteouts").
const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// What follows the prefix twice is AUFS's own bookkeeping, of which one marker has a meaning.
const BOOKKEEPING_PREFIX: &[u8] = b".wh..wh.";
const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";

/// The longest path that Linux resolves, its end marker aside.
const MAX_SYMLINK_BYTES: usize = 4095;
/// Device numbers as Linux packs them into 32 bits.
const MAX_MAJOR: u32 = 0xfff;
const MAX_MINOR: u32 = 0xf_ffff;
/// Of one entry, names and values together. File systems in the field hold much less.
const MAX_XATTR_BYTES: usize = 128 << 10;
const MAX_XATTR_NAME_BYTES: usize = 255;
const MAX_XATTR_VALUE_BYTES: usize = u16::MAX as usize;

/// What every kind of inode has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) modified: ModificationTime,
    pub(crate) xattrs: Xattrs,
}

/// Where a file's content is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FilePlace {
    /// In the data file, from a multiple of 4 KiB on.
    pub(crate) data_offset_bytes: u64,
    /// In the index file: what its size leaves beyond whole blocks. `None`: that is in the data file too.
    pub(crate) tail_offset_bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File {
        size_bytes: u64,
        place: FilePlace,
    },
    Directory,
    Symlink {
        target: Vec<u8>,
    },
    /// Another name for what is at `target`, a path like the entry's own.
    HardLink {
        target: Vec<u8>,
    },
    CharacterDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
    /// Hides what the layers below have at this path.
    Whiteout,
    /// Hides what the layers below have in this directory.
    Opaque,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Components joined by `/`; empty for the root.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: EntryKind,
    pub(crate) attributes: Attributes,
}

impl Attributes {
    /// Names and values of the extended attributes together.
    pub(crate) fn xattr_bytes(&self) -> usize {
        self.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// What is wrong with an entry of a layer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidEntry {
    #[error(transparent)]
    Path(#[from] InvalidPath),
    #[error("its link target: {0}")]
    Target(#[source] InvalidPath),
    #[error("{0}")]
    Field(&'static str),
}

impl Entry {
    /// Checks a member of a layer's archive. `None` for bookkeeping that means nothing to us.
    ///
    /// A file's place is not known yet.
    pub(super) fn new(member: Member) -> Result<Option<Self>, InvalidEntry> {
        let path = path::normalize(&member.path)?;
        let (parent, name) = path::split(&path);
        if path.split(|byte| *byte == b'/').any(|component| component.starts_with(BOOKKEEPING_PREFIX)) {
            let opaque =
                || Self { path: parent.to_vec(), kind: EntryKind::Opaque, attributes: Attributes::default() };
            return Ok((name == OPAQUE_MARKER).then(opaque));
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT_PREFIX) {
            let path = path::normalize_child(parent, hidden)?;
            return Ok(Some(Self { path, kind: EntryKind::Whiteout, attributes: Attributes::default() }));
        }
        let kind = kind(member.kind)?;
        if path.is_empty() && kind != EntryKind::Directory {
            return Err(InvalidEntry::Field("the root must be a directory"));
        }
        let (mode, uid, gid, modified) = (member.mode, member.uid, member.gid, member.modified);
        let xattrs = xattrs(member.xattrs)?;
        Ok(Some(Self { path, kind, attributes: Attributes { mode, uid, gid, modified, xattrs } }))
    }
}

impl Entry {
    /// Whether it is one that [`Entry::new`] could have made: what an index file says is not taken on trust.
    pub(super) fn is_sound(&self) -> bool {
        let kind = match &self.kind {
            EntryKind::Symlink { target } => (1..=MAX_SYMLINK_BYTES).contains(&target.len()),
            EntryKind::HardLink { target } => path::is_normal(target),
            EntryKind::CharacterDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
                *major <= MAX_MAJOR && *minor <= MAX_MINOR
            }
            EntryKind::File { .. } | EntryKind::Fifo | EntryKind::Whiteout => true,
            EntryKind::Directory | EntryKind::Opaque => return self.is_sound_anywhere(),
        };
        kind && !self.path.is_empty() && self.is_sound_anywhere()
    }

    fn is_sound_anywhere(&self) -> bool {
        let attributes = &self.attributes;
        let numbers = attributes.mode <= 0o7777 && attributes.modified.nanoseconds < 1_000_000_000;
        let content = attributes.xattrs.iter().all(|(name, _)| is_content(name));
        numbers && content && check_xattrs(&attributes.xattrs).is_ok() && path::is_normal(&self.path)
    }
}

fn kind(kind: MemberKind) -> Result<EntryKind, InvalidEntry> {
    Ok(match kind {
        MemberKind::File { size_bytes, .. } => EntryKind::File { size_bytes, place: FilePlace::default() },
        MemberKind::Directory => EntryKind::Directory,
        MemberKind::Symlink { target } => {
            let possible = (1..=MAX_SYMLINK_BYTES).contains(&target.len());
            check(possible, "a symbolic link's target has 1 to 4095 bytes")?;
            EntryKind::Symlink { target }
        }
        MemberKind::HardLink { target } => {
            EntryKind::HardLink { target: path::normalize(&target).map_err(InvalidEntry::Target)? }
        }
        MemberKind::CharacterDevice { major, minor } => {
            check(major <= MAX_MAJOR && minor <= MAX_MINOR, "a device number is out of range")?;
            EntryKind::CharacterDevice { major, minor }
        }
        MemberKind::BlockDevice { major, minor } => {
            check(major <= MAX_MAJOR && minor <= MAX_MINOR, "a device number is out of range")?;
            EntryKind::BlockDevice { major, minor }
        }
        MemberKind::Fifo => EntryKind::Fifo,
    })
}

/// Keeps the extended attributes that are content.
fn xattrs(mut xattrs: Xattrs) -> Result<Xattrs, InvalidEntry> {
    xattrs.retain(|(name, _)| is_content(name));
    check_xattrs(&xattrs)?;
    Ok(xattrs)
}

fn check_xattrs(xattrs: &Xattrs) -> Result<(), InvalidEntry> {
    let mut total = 0;
    for (name, value) in xattrs {
        check(name.len() <= MAX_XATTR_NAME_BYTES, "an extended attribute's name is over 255 bytes")?;
        check(value.len() <= MAX_XATTR_VALUE_BYTES, "an extended attribute's value is over 65535 bytes")?;
        total += name.len() + value.len();
    }
    check(total <= MAX_XATTR_BYTES, "more than 128 KiB of extended attributes")
}

/// Linux has these name spaces; macOS archivers add others, which no Linux file system can hold. `trusted.overlay` is
/// not content but what an overlay mount remembers: in a layer it would steer the mount that is made of it.
fn is_content(name: &[u8]) -> bool {
    let spaces = [&b"user."[..], b"security.", b"trusted."];
    let plain =
        spaces.iter().any(|space| name.len() > space.len() && name.starts_with(space)) && !name.contains(&0);
    let acl = matches!(name, b"system.posix_acl_access" | b"system.posix_acl_default");
    (plain || acl) && !name.starts_with(b"trusted.overlay.")
}

fn check(holds: bool, problem: &'static str) -> Result<(), InvalidEntry> {
    if holds { Ok(()) } else { Err(InvalidEntry::Field(problem)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: MemberKind) -> Result<Option<Entry>, InvalidEntry> {
        let member = Member {
            path: path.into(),
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            modified: ModificationTime::default(),
            xattrs: vec![],
        };
        Entry::new(member)
    }

    fn file() -> MemberKind {
        MemberKind::File { size_bytes: 0, segments: vec![] }
    }

    #[test]
    fn markers_become_what_they_mean() {
        let kind_of = |path| entry(path, file()).unwrap().map(|entry| (entry.path, entry.kind));
        assert_eq!(kind_of("a/.wh.b"), Some((b"a/b".to_vec(), EntryKind::Whiteout)));
        assert_eq!(kind_of(".wh.b"), Some((b"b".to_vec(), EntryKind::Whiteout)));
        assert_eq!(kind_of("a/.wh..wh..opq"), Some((b"a".to_vec(), EntryKind::Opaque)));
        assert_eq!(kind_of(".wh..wh..opq"), Some((b"".to_vec(), EntryKind::Opaque)));
        assert_eq!(kind_of(".wh..wh.plnk/1.2"), None);
        assert!(matches!(kind_of("a/b"), Some((_, EntryKind::File { .. }))));
    }

    #[test]
    fn tricks_are_refused() {
        let hard = |target: &str| MemberKind::HardLink { target: target.into() };
        for (path, kind) in [
            ("../a", file()),
            ("a/../../b", file()),
            ("a/.wh...", file()),
            ("a/.wh..", file()),
            ("a/.wh.", file()),
            ("a", hard("../../etc/shadow")),
            ("./", file()),
            ("a", MemberKind::Symlink { target: vec![] }),
            ("a", MemberKind::Symlink { target: vec![b'x'; 4096] }),
            ("a", MemberKind::BlockDevice { major: 0x1000, minor: 0 }),
        ] {
            assert!(entry(path, kind.clone()).is_err(), "{path} {kind:?}");
        }
    }

    #[test]
    fn only_content_is_kept_of_extended_attributes() {
        let named = |name: &str| (name.as_bytes().to_vec(), b"v".to_vec());
        let kept = xattrs(vec![
            named("user.a"),
            named("com.apple.provenance"),
            named("trusted.overlay.redirect"),
            named("system.posix_acl_access"),
            named("user."),
        ])
        .unwrap();
        assert_eq!(kept, [named("user.a"), named("system.posix_acl_access")]);
        assert!(xattrs(vec![(b"user.a".to_vec(), vec![0; 70_000])]).is_err());
    }
}
