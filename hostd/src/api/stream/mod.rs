//! The byte streams of attach, exec and logs: framing, the raw connection, the keys that detach from it; the progress of
//! what takes long; and archives.

mod archive_body;
pub(super) mod detach_keys;
mod download;
pub(super) mod hijack;
pub(super) mod progress;
pub(super) mod stdcopy;
pub(super) mod websocket;

/// Bytes as they are: of a terminal, or of any stream for clients before API 1.42.
pub(super) const RAW_STREAM: &str = "application/vnd.docker.raw-stream";
/// Bytes in [`stdcopy`] frames.
pub(super) const MULTIPLEXED_STREAM: &str = "application/vnd.docker.multiplexed-stream";

pub(super) use self::archive_body::archive_body;
pub(super) use self::download::download;
use super::version::ApiVersion;

/// The content type of a stream that is framed unless it is a terminal's.
pub(super) fn content_type(terminal: bool, version: ApiVersion) -> &'static str {
    if !terminal && version >= ApiVersion::MULTIPLEXED_TYPE { MULTIPLEXED_STREAM } else { RAW_STREAM }
}
