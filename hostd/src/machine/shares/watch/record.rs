//! What the kernel writes of a change (fanotify(7)), in groups that report files by handles: read, and nothing else.

/// Bits of an event's mask, from `linux/fanotify.h`; those below `FAN_Q_OVERFLOW` are inotify's too.
pub(super) const MODIFY: u64 = 0x2;
pub(super) const ATTRIB: u64 = 0x4;
pub(super) const CLOSE_WRITE: u64 = 0x8;
pub(super) const MOVED_FROM: u64 = 0x40;
pub(super) const MOVED_TO: u64 = 0x80;
pub(super) const CREATE: u64 = 0x100;
pub(super) const DELETE: u64 = 0x200;
pub(super) const DELETE_SELF: u64 = 0x400;
pub(super) const MOVE_SELF: u64 = 0x800;
pub(super) const Q_OVERFLOW: u64 = 0x4000;
pub(super) const EVENT_ON_CHILD: u64 = 0x0800_0000;
pub(super) const RENAME: u64 = 0x1000_0000;
pub(super) const ONDIR: u64 = 0x4000_0000;

/// Kinds of what follows an event, from the same place.
const OF_ITSELF: u8 = 1;
const OF_DIRECTORY_AND_NAME: u8 = 2;
const OF_DIRECTORY: u8 = 3;
const OF_OLD_DIRECTORY_AND_NAME: u8 = 10;
const OF_NEW_DIRECTORY_AND_NAME: u8 = 12;

/// `struct fanotify_event_metadata`, and the header of what follows it with a file system's id.
const METADATA_BYTES: usize = 24;
const HEADER_BYTES: usize = 4;
const FILE_SYSTEM_BYTES: usize = 8;
const HANDLE_HEADER_BYTES: usize = 8;

/// A file by its handle: its kind, and bytes that only its file system understands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Handle {
    pub(super) kind: i32,
    pub(super) bytes: Vec<u8>,
}

/// What has a name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) directory: Handle,
    pub(super) name: Vec<u8>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) mask: u64,
    pub(super) pid: i32,
    pub(super) itself: Option<Handle>,
    pub(super) entry: Option<Entry>,
    pub(super) old: Option<Entry>,
    pub(super) new: Option<Entry>,
}

/// The events of one read.
pub(super) fn parse(mut bytes: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some((event, rest)) = parse_one(bytes) {
        events.push(event);
        bytes = rest;
    }
    events
}

fn parse_one(bytes: &[u8]) -> Option<(Event, &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(array(bytes, 0)?)).ok()?;
    let metadata_length = usize::from(u16::from_ne_bytes(array(bytes, 6)?));
    if length < METADATA_BYTES || metadata_length > length || length > bytes.len() {
        return None;
    }
    let (event_bytes, rest) = bytes.split_at(length);
    let mut event = Event {
        mask: u64::from_ne_bytes(array(event_bytes, 8)?),
        pid: i32::from_ne_bytes(array(event_bytes, 20)?),
        ..Event::default()
    };
    let mut further = &event_bytes[metadata_length..];
    while let Some((kind, content, rest)) = split_information(further) {
        event.take(kind, content);
        further = rest;
    }
    Some((event, rest))
}

/// The next of what follows an event: its kind, what is in it, and what is behind.
fn split_information(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let length = usize::from(u16::from_ne_bytes(array(bytes, 2)?));
    if length < HEADER_BYTES || length > bytes.len() {
        return None;
    }
    Some((bytes[0], &bytes[HEADER_BYTES..length], &bytes[length..]))
}

impl Event {
    fn take(&mut self, kind: u8, content: &[u8]) {
        let Some((handle, behind)) = split_handle(content) else { return };
        let name = behind.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        match (kind, name.as_slice()) {
            // A directory in itself has this name.
            (OF_ITSELF | OF_DIRECTORY, _) | (OF_DIRECTORY_AND_NAME, b"" | b".") => self.itself = Some(handle),
            (OF_DIRECTORY_AND_NAME, _) => self.entry = Some(Entry { directory: handle, name }),
            (OF_OLD_DIRECTORY_AND_NAME, _) => self.old = Some(Entry { directory: handle, name }),
            (OF_NEW_DIRECTORY_AND_NAME, _) => self.new = Some(Entry { directory: handle, name }),
            _ => {}
        }
    }
}

fn split_handle(content: &[u8]) -> Option<(Handle, &[u8])> {
    let content = content.get(FILE_SYSTEM_BYTES..)?;
    let length = usize::try_from(u32::from_ne_bytes(array(content, 0)?)).ok()?;
    let kind = i32::from_ne_bytes(array(content, 4)?);
    let rest = &content[HANDLE_HEADER_BYTES..];
    let (bytes, behind) = rest.split_at_checked(length)?;
    Some((Handle { kind, bytes: bytes.to_vec() }, behind))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The inode and the handle of each mark, from `/proc/PID/fdinfo` of their group (proc(5)).
pub(super) fn parse_marks(text: &str) -> impl Iterator<Item = (u64, Handle)> {
    text.lines().filter_map(|line| {
        let fields = line.strip_prefix("fanotify ")?.split(' ');
        let (mut inode, mut kind, mut bytes) = (None, None, None);
        for (key, value) in fields.filter_map(|field| field.split_once(':')) {
            match key {
                "ino" => inode = u64::from_str_radix(value, 16).ok(),
                "fhandle-type" => kind = i32::from_str_radix(value, 16).ok(),
                "f_handle" => bytes = hex::decode(value).ok(),
                _ => {}
            }
        }
        Some((inode?, Handle { kind: kind?, bytes: bytes? }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn handle(bytes: &str) -> Handle {
        Handle { kind: 1, bytes: hex::decode(bytes).unwrap() }
    }

    /// As a kernel 6.18 wrote it for a rename within a directory.
    fn rename() -> Vec<u8> {
        let information = "0a002000df1952169e97c12808000000010000001ec99e00c0649c7e740000000c002000df1952169e97c12808000000010000001ec99e00c0649c7e74320000";
        let mut bytes = vec![88, 0, 0, 0, 3, 0, 24, 0];
        bytes.extend(RENAME.to_ne_bytes());
        bytes.extend((-1_i32).to_ne_bytes());
        bytes.extend(26027_i32.to_ne_bytes());
        bytes.extend(hex::decode(information).unwrap());
        bytes
    }

    #[test]
    fn a_rename_has_both_its_ends() {
        let twice = [rename(), rename()].concat();
        let events = parse(&twice);
        let entry = |name: &str| Entry { directory: handle("1ec99e00c0649c7e"), name: name.into() };
        let (old, new) = (Some(entry("t")), Some(entry("t2")));
        let expected = Event { mask: RENAME, pid: 26027, old, new, ..Event::default() };
        assert_eq!(events, [expected.clone(), expected]);
    }

    #[test]
    fn marks_are_known_by_inode_and_handle() {
        let text = "pos:\t0\nfanotify flags:e03 event-flags:8000\n\
            fanotify ino:9ec91e sdev:fe00000 mflags:0 mask:58000f0e ignored_mask:0 \
            fhandle-bytes:8 fhandle-type:1 f_handle:1ec99e00c0649c7e\n";
        let marks: Vec<_> = parse_marks(text).collect();
        assert_eq!(marks, [(0x9e_c91e, handle("1ec99e00c0649c7e"))]);
    }

    proptest! {
        #[test]
        fn nothing_that_is_cut_or_changed_is_believed_too_much(at in 0_usize..88, byte: u8, end in 0_usize..=88) {
            let mut bytes = rename();
            bytes[at] = byte;
            prop_assert!(parse(&bytes[..end]).len() <= 1);
        }
    }
}
