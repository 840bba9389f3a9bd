//! An archive's files on disk: found by their names in the archive, stored under numbers.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::de::DeserializeOwned;

use super::{ArchiveError, MAX_DOCUMENT_BYTES, MAX_DOCUMENTS_BYTES, SpooledFile};
use crate::image::digest::{Digest, HashingReader};
use crate::image::tar_stream::{Member, MemberKind, TarError, TarStream, lossy};

/// An archive of five hundred images of a hundred layers has fewer.
const MAX_ENTRIES: usize = 1 << 16;
const MAX_NAME_BYTES: usize = 1024;
/// Links in an archive name files directly; some older writers chained two.
const MAX_LINKS_FOLLOWED: usize = 8;
const BLOBS: &str = "blobs/sha256/";

/// What a name in the archive stands for.
enum Entry {
    File(SpooledFile),
    /// Another name: layers that several images share are links in older archives. Never a link on the host.
    Alias(String),
}

pub(super) struct Spool {
    entries: HashMap<String, Entry>,
    /// How many bytes of documents may still be read into memory.
    documents_left_bytes: Cell<u64>,
}

impl Spool {
    /// Reads the archive to its end. Everything under `blobs/sha256/` must have the digest that its name says.
    pub(super) fn fill(archive: impl Read, directory: &Path) -> Result<Self, ArchiveError> {
        let mut archive = TarStream::new(archive);
        let mut spool =
            Self { entries: HashMap::new(), documents_left_bytes: Cell::new(MAX_DOCUMENTS_BYTES) };
        let mut seen = 0;
        while let Some(member) = archive.next_member()? {
            seen += 1;
            if seen > MAX_ENTRIES {
                return Err(ArchiveError::Contents(format!("more than {MAX_ENTRIES} entries")));
            }
            spool.add(member, &mut archive, &directory.join(seen.to_string()))?;
        }
        // The rest, so that a compressed stream's own checksum is verified.
        io::copy(&mut archive.into_source(), &mut io::sink()).map_err(TarError::Read)?;
        Ok(spool)
    }

    fn add(&mut self, member: Member, data: &mut impl Read, target: &Path) -> Result<(), ArchiveError> {
        let shown = lossy(&member.path);
        let named = |problem| ArchiveError::Entry { path: shown.clone(), problem };
        let name = resolve("", &member.path).map_err(named)?;
        let entry = match member.kind {
            MemberKind::Directory => return Ok(()),
            MemberKind::File { size_bytes, segments } => {
                let dense = segments.iter().map(|segment| segment.length_bytes).sum::<u64>() == size_bytes;
                if !dense {
                    return Err(named("a sparse file"));
                }
                Entry::File(spool_file(data, target)?)
            }
            MemberKind::Symlink { target } => {
                let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
                Entry::Alias(resolve(parent, &target).map_err(named)?)
            }
            MemberKind::HardLink { target } => Entry::Alias(resolve("", &target).map_err(named)?),
            _ => return Err(named("a device or a pipe")),
        };
        if name.is_empty() {
            return Err(named("a file without a name"));
        }
        if let (Some(digits), Entry::File(file)) = (name.strip_prefix(BLOBS), &entry)
            && Digest::from_hex(digits) != Ok(file.digest)
        {
            return Err(ArchiveError::Digest { path: shown, actual: file.digest });
        }
        if self.entries.insert(name, entry).is_some() {
            return Err(named("it occurs twice"));
        }
        Ok(())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The file of this name, which `referrer` asks for.
    pub(super) fn file(&self, name: &str, referrer: &str) -> Result<&SpooledFile, ArchiveError> {
        let missing = || ArchiveError::Missing { path: name.to_owned(), referrer: referrer.to_owned() };
        let mut name = resolve("", name.as_bytes()).map_err(|_| missing())?;
        for _ in 0..=MAX_LINKS_FOLLOWED {
            match self.entries.get(&name) {
                Some(Entry::File(file)) => return Ok(file),
                Some(Entry::Alias(target)) => name.clone_from(target),
                None => return Err(missing()),
            }
        }
        Err(ArchiveError::Entry { path: name, problem: "a loop of links" })
    }

    pub(super) fn blob(&self, digest: Digest, referrer: &str) -> Result<&SpooledFile, ArchiveError> {
        self.file(&format!("{BLOBS}{}", digest.hex()), referrer)
    }

    /// A document's bytes, bounded.
    pub(super) fn document(&self, name: &str, referrer: &str) -> Result<Vec<u8>, ArchiveError> {
        let file = self.file(name, referrer)?;
        if file.size_bytes > MAX_DOCUMENT_BYTES {
            return Err(ArchiveError::Entry {
                path: name.to_owned(),
                problem: "a document of more than 4 MiB",
            });
        }
        let left = self.documents_left_bytes.get().checked_sub(file.size_bytes);
        let too_much =
            || ArchiveError::Contents("more than 64 MiB of manifests and configurations".to_owned());
        self.documents_left_bytes.set(left.ok_or_else(too_much)?);
        std::fs::read(&file.path).map_err(|source| ArchiveError::Spool { path: file.path.clone(), source })
    }

    pub(super) fn json<T: DeserializeOwned>(&self, name: &str, referrer: &str) -> Result<T, ArchiveError> {
        let bytes = self.document(name, referrer)?;
        serde_json::from_slice(&bytes)
            .map_err(|source| ArchiveError::Document { path: name.to_owned(), source })
    }
}

pub(super) fn blob_name(digest: Digest) -> String {
    format!("{BLOBS}{}", digest.hex())
}

/// A name inside the archive, seen from one of its directories; refuses what leads out.
fn resolve(directory: &str, path: &[u8]) -> Result<String, &'static str> {
    let path = std::str::from_utf8(path).map_err(|_| "a name that is not UTF-8")?;
    if path.starts_with('/') {
        return Err("an absolute path");
    }
    if path.len() > MAX_NAME_BYTES {
        return Err("a name of more than 1024 bytes");
    }
    let mut components: Vec<&str> = directory.split('/').filter(|component| !component.is_empty()).collect();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => drop(components.pop().ok_or("a path that leads out of the archive")?),
            name => components.push(name),
        }
    }
    Ok(components.join("/"))
}

/// Copies the current member to a new file. Read and write errors have different culprits.
fn spool_file(data: &mut impl Read, path: &Path) -> Result<SpooledFile, ArchiveError> {
    let failed = |source| ArchiveError::Spool { path: path.to_owned(), source };
    let mut target = File::create_new(path).map_err(failed)?;
    let mut source = HashingReader::new(data);
    let mut buffer = vec![0; 128 << 10];
    loop {
        let count = source.read(&mut buffer).map_err(TarError::Read)?;
        if count == 0 {
            break;
        }
        io::Write::write_all(&mut target, &buffer[..count]).map_err(failed)?;
    }
    let (digest, size_bytes) = source.finish().map_err(TarError::Read)?;
    Ok(SpooledFile { path: path.to_owned(), digest, size_bytes })
}
