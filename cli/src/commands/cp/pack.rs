//! Files of ours as an archive, made by a thread while it is sent.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use indicatif::ProgressBar;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::placement::means_directory;
use super::to_container::name_of;
use crate::client::Body;
use crate::outcome::Failure;

const PIECE_BYTES: usize = 256 << 10;
/// Pieces that wait for the daemon.
const WAITING_PIECES: usize = 4;

/// What is to be copied.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    /// "." if only its content is meant.
    pub(super) name: String,
    pub(super) is_directory: bool,
}

impl Source {
    /// # Errors
    /// It is not there.
    pub(super) fn open(path: &str, follow_link: bool) -> Result<Self, Failure> {
        let failed = |source| Failure::File { object: format!("lstat {path}"), source };
        let follow = follow_link || means_directory(path);
        let metadata = if follow { fs::metadata(path) } else { fs::symlink_metadata(path) };
        let is_directory = metadata.map_err(failed)?.is_dir();
        let name = name_of(path).map_err(failed)?;
        let path = if follow { fs::canonicalize(path).map_err(failed)? } else { path.into() };
        Ok(Self { path, name, is_directory })
    }
}

/// An archive that is being made.
pub(super) struct Packing {
    outcome: JoinHandle<Result<u64, Failure>>,
}

impl Packing {
    /// The archive's first entry is called `name`.
    pub(super) fn begin(source: Source, name: String, bar: ProgressBar) -> (Self, Body) {
        let (sender, pieces) = mpsc::channel(WAITING_PIECES);
        let outcome = tokio::task::spawn_blocking(move || {
            let body = BodyWriter { sender: sender.clone(), bar, sent_bytes: 0 };
            let packed = pack(&source, &name, body);
            if packed.is_err() {
                // The request ends as broken: what was sent is half an archive. Nobody may hear it any more.
                sender.blocking_send(Err(io::ErrorKind::Other.into())).unwrap_or_default();
            }
            packed
        });
        let frames = stream::unfold(pieces, |mut pieces| async move {
            let piece: io::Result<Bytes> = pieces.recv().await?;
            Some((piece.map(Frame::data), pieces))
        });
        (Self { outcome }, BodyExt::boxed_unsync(StreamBody::new(frames)))
    }

    /// Its size.
    ///
    /// # Errors
    /// What could not be read; nothing if only the daemon did not take it.
    pub(super) async fn outcome(self) -> Result<u64, Failure> {
        let failed = |source| Failure::File { object: "making an archive".to_owned(), source };
        self.outcome.await.map_err(|panicked| failed(io::Error::other(panicked)))?
    }
}

fn pack(source: &Source, name: &str, body: BodyWriter) -> Result<u64, Failure> {
    let mut packer = Packer {
        builder: tar::Builder::new(BufWriter::with_capacity(PIECE_BYTES, body)),
        links: HashMap::new(),
    };
    packer.builder.follow_symlinks(false);
    packer.add_all(source, name)?;
    let failed = |source| Failure::File { object: "sending an archive".to_owned(), source };
    let body = packer.builder.into_inner().map_err(failed)?;
    let body = body.into_inner().map_err(|error| failed(error.into_error()))?;
    Ok(body.sent_bytes)
}

struct Packer {
    builder: tar::Builder<BufWriter<BodyWriter>>,
    /// Names in the archive of files that have several.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Packer {
    fn add_all(&mut self, source: &Source, name: &str) -> Result<(), Failure> {
        let mut waiting = vec![(source.path.clone(), PathBuf::from(if name == "." { "" } else { name }))];
        while let Some((path, name)) = waiting.pop() {
            let failed = |source| Failure::File { object: path.display().to_string(), source };
            let metadata = fs::symlink_metadata(&path).map_err(failed)?;
            // The destination itself needs no entry: it is there.
            if !name.as_os_str().is_empty() {
                self.add(&path, &name, &metadata).map_err(failed)?;
            }
            if metadata.is_dir() {
                let mut names = Vec::new();
                for entry in fs::read_dir(&path).map_err(failed)? {
                    names.push(entry.map_err(failed)?.file_name());
                }
                names.sort_unstable();
                waiting.extend(names.into_iter().rev().map(|inner| (path.join(&inner), name.join(&inner))));
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &Path, name: &Path, metadata: &Metadata) -> io::Result<()> {
        if is_socket(metadata) {
            return Ok(());
        }
        match file_id(metadata) {
            Some(id) if metadata.is_file() => match self.links.get(&id) {
                Some(first) => {
                    let mut header = tar::Header::new_gnu();
                    header.set_metadata(metadata);
                    header.set_entry_type(tar::EntryType::Link);
                    header.set_size(0);
                    return self.builder.append_link(&mut header, name, first);
                }
                None => drop(self.links.insert(id, name.to_owned())),
            },
            _ => {}
        }
        self.builder.append_path_with_name(path, name)
    }
}

/// Of a file that has further names.
#[cfg(unix)]
fn file_id(metadata: &Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    (metadata.nlink() > 1).then(|| (metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn file_id(_metadata: &Metadata) -> Option<(u64, u64)> {
    None
}

/// No archive can hold one.
#[cfg(unix)]
fn is_socket(metadata: &Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_socket(&metadata.file_type())
}

#[cfg(not(unix))]
fn is_socket(_metadata: &Metadata) -> bool {
    false
}

/// Passes pieces on as fast as the daemon takes them.
struct BodyWriter {
    sender: mpsc::Sender<io::Result<Bytes>>,
    bar: ProgressBar,
    sent_bytes: u64,
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(bytes);
        self.sender.blocking_send(Ok(piece)).map_err(|_gone| io::Error::from(io::ErrorKind::BrokenPipe))?;
        self.sent_bytes += bytes.len() as u64;
        self.bar.set_position(self.sent_bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
