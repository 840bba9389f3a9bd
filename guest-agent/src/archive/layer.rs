//! Changes as an archive that makes them again on top of what lies below: a layer as OCI specifies it (layer.md).

use std::io::{self, Write};

use super::changes::{Change, ChangeKind, OVERLAY_ATTRIBUTES, Overlay, Scope, Visit};
use super::entries::Entries;
use super::header::{Entry, Kind, Time};

/// What stands before the name of what was deleted.
const WHITEOUT: &[u8] = b".wh.";
/// In a directory of which nothing below shows through.
const OPAQUE: &[u8] = b".wh..wh..opq";

impl Overlay<'_> {
    /// Writes the layer that makes the upper directory of the lower one. Nothing changed: an archive without entries.
    ///
    /// # Errors
    /// As [`Overlay::changes`]; and a name that would mean a deletion in a layer.
    pub(crate) fn write_layer(&self, target: &mut impl Write) -> io::Result<()> {
        let entries = Entries::new(target).without_attributes(OVERLAY_ATTRIBUTES);
        let mut layer = Layer { entries };
        self.changes(Scope::Written, &mut layer)?;
        layer.entries.finish()
    }
}

struct Layer<'a, W> {
    entries: Entries<'a, W>,
}

impl<W: Write> Visit for Layer<'_, W> {
    fn visit(&mut self, change: &Change<'_>) -> io::Result<()> {
        let (directory, name) = split(change.path);
        match (change.kind, change.file) {
            // The mark in the directory that it was deleted with says it of everything.
            (ChangeKind::Deleted, _) if change.with_all_below => Ok(()),
            (ChangeKind::Deleted, _) | (_, None) => self.mark(&[directory, WHITEOUT, name].concat()),
            (ChangeKind::Modified | ChangeKind::Added, Some((file, stat))) => {
                if name.starts_with(WHITEOUT) {
                    return Err(io::Error::other("no layer can hold a name that begins with .wh."));
                }
                self.entries.write(change.path, file, stat)?;
                if change.with_all_below { self.mark(&[change.path, b"/", OPAQUE].concat()) } else { Ok(()) }
            }
        }
    }
}

impl<W: Write> Layer<'_, W> {
    /// An empty file that is there for its name. Without a time, so that the same changes make the same layer.
    fn mark(&mut self, path: &[u8]) -> io::Result<()> {
        self.entries.write_mark(&Entry {
            path,
            kind: Kind::File,
            mode: 0,
            user_id: 0,
            group_id: 0,
            size_bytes: 0,
            modified: Time::default(),
            attributes: &[],
        })
    }
}

/// What stands before the last name, with its slash, and that name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    path.split_at(path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1))
}
