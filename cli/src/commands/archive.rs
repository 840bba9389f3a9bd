//! Archives on their way between the daemon and the user's files: what `load` and `import` send, and what `save` and
//! `export` receive.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use indicatif::ProgressBar;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::progress::Progress;
use crate::client::{Body, Download};
use crate::outcome::Failure;

/// Read and sent at a time.
const CHUNK_BYTES: usize = 256 * 1024;

/// A file as a request's body, and the bar that moves as it is sent.
pub(super) async fn open_file(path: &Path, progress: &Progress) -> Result<(Body, ProgressBar), Failure> {
    let failed = |source| Failure::File { object: format!("open {}", path.display()), source };
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let length_bytes = file.metadata().await.map_err(failed)?.len();
    let bar = progress.bytes_bar("Sending", length_bytes);
    Ok((body(file, bar.clone()), bar))
}

/// Standard input as a request's body.
pub(super) fn standard_input() -> (Body, ProgressBar) {
    (body(tokio::io::stdin(), ProgressBar::hidden()), ProgressBar::hidden())
}

/// A request body that reads as fast as the daemon takes it.
fn body(source: impl AsyncRead + Send + Unpin + 'static, bar: ProgressBar) -> Body {
    let chunks = stream::try_unfold((source, bar), |(mut source, bar)| async move {
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
        let length = source.read_buf(&mut chunk).await?;
        bar.inc(u64::try_from(length).unwrap_or(u64::MAX));
        let frame = Frame::data(Bytes::from(chunk));
        Ok::<_, io::Error>((length > 0).then_some((frame, (source, bar))))
    });
    BodyExt::boxed_unsync(StreamBody::new(chunks))
}

/// Where a received archive goes.
#[derive(Debug)]
pub(super) enum Destination {
    StandardOutput,
    /// Under another name until it is whole.
    File {
        path: PathBuf,
        unfinished: PathBuf,
    },
    /// A pipe or a device: nothing to rename.
    Special(PathBuf),
}

impl Destination {
    /// Looked at before the daemon is asked. `verb` is for the message to who would get an archive on the screen.
    pub(super) fn new(path: Option<&Path>, verb: &str) -> Result<Self, Failure> {
        let Some(path) = path else {
            if io::stdout().is_terminal() {
                let text = format!("cowardly refusing to {verb} to a terminal. Use the -o flag or redirect");
                return Err(Failure::Usage(text));
            }
            return Ok(Self::StandardOutput);
        };
        if path.is_dir() {
            let text = format!("failed to {verb}: {} is a directory", path.display());
            return Err(Failure::Usage(text));
        }
        if path.exists() && !path.is_file() {
            return Ok(Self::Special(path.to_owned()));
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".unfinished-{}", std::process::id()));
        Ok(Self::File { path: path.to_owned(), unfinished: path.with_file_name(name) })
    }

    /// Writes all of it, or leaves nothing under the name.
    pub(super) async fn receive(&self, mut archive: Download) -> Result<(), Failure> {
        match self {
            Self::StandardOutput => copy(&mut archive, tokio::io::stdout(), "standard output").await,
            Self::Special(path) => {
                let failed = |source| Failure::File { object: format!("open {}", path.display()), source };
                let file = tokio::fs::File::options().write(true).open(path).await.map_err(failed)?;
                copy(&mut archive, file, &path.display().to_string()).await
            }
            Self::File { path, unfinished } => {
                let received = into_file(&mut archive, path, unfinished).await;
                if received.is_err() {
                    // The failure itself is what counts.
                    let _gone = std::fs::remove_file(unfinished);
                }
                received
            }
        }
    }
}

async fn into_file(archive: &mut Download, path: &Path, unfinished: &Path) -> Result<(), Failure> {
    let failed = |source| Failure::File { object: format!("write {}", path.display()), source };
    let file = tokio::fs::File::create(unfinished).await.map_err(failed)?;
    copy(archive, file, &path.display().to_string()).await?;
    tokio::fs::rename(unfinished, path).await.map_err(failed)
}

async fn copy(
    archive: &mut Download,
    mut target: impl AsyncWrite + Unpin,
    name: &str,
) -> Result<(), Failure> {
    let failed = |source: io::Error| match name {
        "standard output" => Failure::Output(source),
        _ => Failure::File { object: format!("write {name}"), source },
    };
    while let Some(piece) = archive.next().await? {
        target.write_all(&piece).await.map_err(failed)?;
    }
    target.flush().await.map_err(failed)
}
