//! Files are written into a directory, one member after the other, as Docker's extraction does it.
//!
//! ```text
//!  open --member--> a file is open --content--> … --member or finish--> it has its owner, mode, attributes and times
//! ```
//! Nothing that exists is opened for writing: a member is made new, under a name from which what was there has been
//! taken. Directories stay and only get the member's metadata. What was written before a failure stays.

mod place;

mod member;

mod metadata;

mod removal;

use std::fs::File;
use std::os::unix::fs::FileExt;

use berth_protocol::agent::{ErrorCode, FileContent, FileMember, WriteFiles};

use self::metadata::Metadata;
pub(crate) use self::metadata::Owner;
use self::place::{Place, Places};
use super::{View, owner};
use crate::failure::{During, Failure};

/// What remembers the times of directories until all is in them; beyond that they are set early.
const MAX_REMEMBERED_BYTES: usize = 16 << 20;

/// An extraction that has begun.
pub(crate) struct Writer {
    places: Places,
    keep_kinds: bool,
    owner: Option<Owner>,
    /// The regular file whose content comes.
    open: Option<OpenFile>,
    /// Directories that were written, with their times.
    directories: Vec<(Vec<u8>, Metadata)>,
    remembered_bytes: usize,
}

struct OpenFile {
    path: Vec<u8>,
    file: File,
    size_bytes: u64,
    /// The end of what was written.
    end_bytes: u64,
    metadata: Metadata,
}

impl Writer {
    /// Finds the directory.
    ///
    /// # Errors
    /// NO_SUCH_FILE, NOT_A_DIRECTORY, READ_ONLY, NO_SUCH_USER.
    pub(crate) fn open(view: View, request: &WriteFiles) -> Result<Self, Failure> {
        let owner = match request.owner.as_str() {
            "" => None,
            user => Some(owner::find(&view, user)?),
        };
        let places = Places::open(view, &request.path, request.readonly_rootfs)?;
        Ok(Self {
            places,
            keep_kinds: request.keep_kinds,
            owner,
            open: None,
            directories: Vec::new(),
            remembered_bytes: 0,
        })
    }

    /// Begins a member, which ends the one before.
    ///
    /// # Errors
    /// INVALID_REQUEST for one that cannot be written as it is, READ_ONLY, INTERNAL; each names its path.
    pub(crate) fn member(&mut self, member: &FileMember) -> Result<(), Failure> {
        self.end_file()?;
        let metadata = Metadata::of(member, self.owner, self.places.ids())?;
        let Some(place) = self.places.find(&member.path)? else {
            return self.is_the_directory_itself(member);
        };
        member::make_room(&place, member, self.keep_kinds)?;
        match member::create(&self.places, &place, member)? {
            member::Made::File(file) => {
                let size_bytes = member.size_bytes;
                let path = place.path;
                self.open = Some(OpenFile { path, file, size_bytes, end_bytes: 0, metadata });
                Ok(())
            }
            member::Made::Other(file) => {
                metadata.apply(&file).during(ErrorCode::Internal, || place.shown())?;
                metadata.set_times(&file).during(ErrorCode::Internal, || place.shown())
            }
            member::Made::Directory(file) => {
                metadata.apply(&file).during(ErrorCode::Internal, || place.shown())?;
                self.remember(place, metadata)
            }
        }
    }

    /// A part of the open file.
    ///
    /// # Errors
    /// INVALID_REQUEST for one that belongs to no file, INTERNAL.
    pub(crate) fn content(&mut self, content: &FileContent) -> Result<(), Failure> {
        let open = self.open.as_mut().ok_or_else(|| Failure::invalid("content without a file"))?;
        let end_bytes = content.offset.checked_add(content.bytes.len() as u64);
        let end_bytes = end_bytes.filter(|end| *end <= open.size_bytes);
        let end_bytes = end_bytes
            .ok_or_else(|| Failure::invalid(format!("content behind the end of {}", shown(&open.path))))?;
        let written = open.file.write_all_at(&content.bytes, content.offset);
        open.end_bytes = open.end_bytes.max(end_bytes);
        written.during(ErrorCode::Internal, || format!("write {}", shown(&open.path)))
    }

    /// Everything has come.
    ///
    /// # Errors
    /// INTERNAL.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        self.end_file()?;
        self.set_remembered_times()
    }

    fn end_file(&mut self) -> Result<(), Failure> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let end = || {
            if open.end_bytes < open.size_bytes {
                open.file.set_len(open.size_bytes)?;
            }
            open.metadata.apply(&open.file)?;
            open.metadata.set_times(&open.file)
        };
        end().during(ErrorCode::Internal, || format!("write {}", shown(&open.path)))
    }

    /// It is there and stays what it is.
    fn is_the_directory_itself(&self, member: &FileMember) -> Result<(), Failure> {
        if self.keep_kinds && member.kind() != berth_protocol::agent::FileKind::Directory {
            let directory = self.places.shown();
            let message =
                format!("cannot overwrite directory \"{directory}\" with non-directory \"{directory}\"");
            return Err(Failure::invalid(message));
        }
        Ok(())
    }

    /// What is written into a directory later would change its time.
    fn remember(&mut self, place: Place, metadata: Metadata) -> Result<(), Failure> {
        self.remembered_bytes += place.path.len() + size_of::<(Vec<u8>, Metadata)>();
        self.directories.push((place.path, metadata));
        if self.remembered_bytes > MAX_REMEMBERED_BYTES {
            self.set_remembered_times()?;
        }
        Ok(())
    }

    fn set_remembered_times(&mut self) -> Result<(), Failure> {
        self.remembered_bytes = 0;
        for (path, metadata) in std::mem::take(&mut self.directories) {
            // Something else may have come in its place, and has its own time.
            if let Some(directory) = self.places.directory(&path) {
                let step = || format!("set the times of {}", shown(&path));
                metadata.set_times(&directory).during(ErrorCode::Internal, step)?;
            }
        }
        Ok(())
    }
}

/// A path for people.
fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
mod tests;
