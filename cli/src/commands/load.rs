//! `berth load`: give the daemon an image from an archive.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use clap::Args;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use indicatif::ProgressBar;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::progress::{Lines, Progress};
use crate::client::{Body, Client};
use crate::outcome::{Failure, Outcome};

/// Read and sent at a time.
const CHUNK_BYTES: usize = 256 * 1024;

/// Load an image from a tar archive or STDIN
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth load -i busybox.tar
  docker save busybox | berth load")]
pub(crate) struct Arguments {
    /// Read from tar archive file, instead of STDIN
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Suppress the load output
    #[arg(short, long)]
    quiet: bool,
    /// Load only the given platform variant
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let progress = Progress::new(if arguments.quiet { Lines::Nowhere } else { Lines::Stdout });
    let (archive, bar) = match &arguments.input {
        Some(path) => open_file(path, &progress).await?,
        None if io::stdin().is_terminal() => {
            return Err(Failure::Usage("requested load from stdin, but stdin is empty".to_owned()));
        }
        None => (body(tokio::io::stdin(), ProgressBar::hidden()), ProgressBar::hidden()),
    };
    let reports = client.load(archive, arguments.quiet, arguments.platform.as_deref()).await?;
    let shown = progress.show(reports).await;
    bar.finish_and_clear();
    shown.map(|()| 0)
}

async fn open_file(path: &PathBuf, progress: &Progress) -> Result<(Body, ProgressBar), Failure> {
    let failed = |source| Failure::File { object: format!("open {}", path.display()), source };
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let length_bytes = file.metadata().await.map_err(failed)?.len();
    let bar = progress.bytes_bar("Sending", length_bytes);
    Ok((body(file, bar.clone()), bar))
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
