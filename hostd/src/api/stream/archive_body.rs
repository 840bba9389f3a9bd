//! An archive of a container's files as the body of an answer.

use axum::body::Body;
use futures_util::stream;

use crate::engine::OutgoingArchive;

/// When the archive breaks off, the body ends as broken, not as complete; the headers are long gone.
pub(in crate::api) fn archive_body(archive: OutgoingArchive) -> Body {
    Body::from_stream(stream::try_unfold(archive, async |mut archive: OutgoingArchive| {
        match archive.next().await {
            Ok(piece) => Ok(piece.map(|piece| (piece, archive))),
            Err(error) => {
                tracing::warn!(error = error.message, "an archive was not sent to its end");
                Err(error)
            }
        }
    }))
}
