//! Streams: connections that begin with a header, and carry the bytes of a process's stream or an archive after it.

use std::io;

use berth_protocol::agent::archive_piece::Piece;
use berth_protocol::agent::{
    ArchivePiece, Change, ChangeList, ChangesForm, Done, ErrorCode, PathStat, ReadArchive, ReadChanges,
    ShareChange, ShareWatch, StreamHeader, StreamKind, StreamReply, WatchShares, WriteFiles, WritePiece,
    write_piece,
};
use berth_protocol::frame;
use berth_protocol::ports::STREAM_PORT;
use bytes::{Bytes, BytesMut};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::task::AbortOnDropHandle;

use super::{AgentClient, CallError, read_frame};
use crate::machine;

/// One read's worth; what a pipe holds by default.
const CHUNK_BYTES: usize = 64 << 10;

impl AgentClient {
    /// Connects to the output of a process, from `offset` on: what came before is on the host for good.
    pub(crate) async fn output(
        &self,
        process_id: &str,
        kind: StreamKind,
        offset: u64,
    ) -> Result<OutputReader, CallError> {
        let (stream, reply) = self.open_stream(process_stream(process_id, kind, offset)).await?;
        let (reader, writer) = stream.into_split();
        Ok(OutputReader { reader, acknowledgements: writer, offset: reply.offset, buffer: BytesMut::new() })
    }

    /// Connects to the stdin of a process.
    pub(crate) async fn input(&self, process_id: &str) -> Result<InputStream, CallError> {
        let (stream, _reply) = self.open_stream(process_stream(process_id, StreamKind::Stdin, 0)).await?;
        Ok(InputStream { stream })
    }

    /// Begins to read a container's files, all of them.
    pub(crate) async fn read_archive(&self, container_id: &str) -> Result<ArchiveReader, CallError> {
        let request = ReadArchive { container_id: container_id.into(), path: "/".into(), name: None };
        let header = StreamHeader { read_archive: Some(request), ..StreamHeader::default() };
        let (stream, _reply) = self.open_stream(header).await?;
        Ok(ArchiveReader { stream })
    }

    /// Begins to read what a container has changed, as a list.
    pub(crate) async fn read_changes(&self, container_id: &str) -> Result<ChangesReader, CallError> {
        let lists = self.read_changes_as(container_id, ChangesForm::List).await?;
        Ok(ChangesReader { lists })
    }

    /// Begins to read what a container has changed, as a layer.
    pub(crate) async fn read_layer(&self, container_id: &str) -> Result<ArchiveReader, CallError> {
        self.read_changes_as(container_id, ChangesForm::Layer).await
    }

    async fn read_changes_as(
        &self,
        container_id: &str,
        form: ChangesForm,
    ) -> Result<ArchiveReader, CallError> {
        let request = ReadChanges { container_id: container_id.into(), form: form.into() };
        let header = StreamHeader { read_changes: Some(request), ..StreamHeader::default() };
        let (stream, _reply) = self.open_stream(header).await?;
        Ok(ArchiveReader { stream })
    }

    /// Begins to read a path of a container, and all below it, by that name.
    pub(crate) async fn read_path(
        &self,
        container_id: &str,
        path: &[u8],
        name: &[u8],
    ) -> Result<(PathStat, ArchiveReader), CallError> {
        let request =
            ReadArchive { container_id: container_id.into(), path: path.into(), name: Some(name.into()) };
        let header = StreamHeader { read_archive: Some(request), ..StreamHeader::default() };
        let (stream, reply) = self.open_stream(header).await?;
        let stat = reply.path_stat.ok_or(CallError::Nonsense("an archive of nothing"))?;
        Ok((stat, ArchiveReader { stream }))
    }

    /// Begins to write files into a container.
    pub(crate) async fn write_files(&self, request: WriteFiles) -> Result<FileWriter, CallError> {
        let header = StreamHeader { write_files: Some(request), ..StreamHeader::default() };
        let (stream, _reply) = self.open_stream(header).await?;
        let (mut reader, writer) = stream.into_split();
        let outcome = tokio::spawn(async move { read_frame::<StreamReply>(&mut reader).await });
        Ok(FileWriter { writer, outcome: AbortOnDropHandle::new(outcome) })
    }

    /// Begins to hear what the machine watches of its shares, and to tell it what happens to that.
    pub(crate) async fn watch_shares(&self) -> Result<(ShareWatchReader, ShareChangeWriter), CallError> {
        let header = StreamHeader { watch_shares: Some(WatchShares {}), ..StreamHeader::default() };
        let (stream, _reply) = self.open_stream(header).await?;
        let (reader, writer) = stream.into_split();
        Ok((ShareWatchReader { reader }, ShareChangeWriter { writer }))
    }

    pub(super) async fn open_stream(
        &self,
        header: StreamHeader,
    ) -> Result<(UnixStream, StreamReply), CallError> {
        let header = frame::encode(&header)?;
        let open = async {
            let mut stream = machine::connect(&self.vsock_path, STREAM_PORT).await?;
            stream.write_all(&header).await?;
            let reply: StreamReply = read_frame(&mut stream).await?;
            Ok((stream, reply))
        };
        let (stream, reply) = open.await.map_err(CallError::Unreachable)?;
        match reply.error {
            Some(error) => {
                let code = error.code();
                Err(CallError::Agent { code, message: error.message })
            }
            None => Ok((stream, reply)),
        }
    }
}

fn process_stream(process_id: &str, kind: StreamKind, offset: u64) -> StreamHeader {
    StreamHeader { process_id: process_id.into(), kind: kind.into(), offset, ..StreamHeader::default() }
}

/// The host's end of an archive.
#[derive(Debug)]
pub(crate) struct ArchiveReader {
    stream: UnixStream,
}

impl ArchiveReader {
    /// The next bytes of the archive; `None` once the agent has said that it is whole.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        let ArchivePiece { piece } =
            read_frame(&mut self.stream).await.map_err(|_broken_off| CallError::Lost)?;
        match piece {
            Some(Piece::Content(content)) => Ok(Some(content.into())),
            Some(Piece::End(_)) => Ok(None),
            Some(Piece::Error(error)) => {
                let code = ErrorCode::try_from(error.code).unwrap_or(ErrorCode::Internal);
                Err(CallError::Agent { code, message: error.message })
            }
            None => Err(CallError::Nonsense("an empty piece of an archive")),
        }
    }
}

/// The host's end of a list of changes.
#[derive(Debug)]
pub(crate) struct ChangesReader {
    lists: ArchiveReader,
}

impl ChangesReader {
    /// More changes; `None` once the agent has said that these were all.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Change>>, CallError> {
        let Some(list) = self.lists.next().await? else { return Ok(None) };
        let list = ChangeList::decode(list).map_err(|_error| CallError::Nonsense("a list of changes"))?;
        Ok(Some(list.changes))
    }
}

/// The host's end of files that are written. Dropped before it is finished, it leaves what was written.
#[derive(Debug)]
pub(crate) struct FileWriter {
    writer: OwnedWriteHalf,
    /// The agent's answer, which comes early if something fails.
    outcome: AbortOnDropHandle<io::Result<StreamReply>>,
}

impl FileWriter {
    /// Sends a piece. Not to be called again after an error.
    pub(crate) async fn send(&mut self, piece: write_piece::Piece) -> Result<(), CallError> {
        let frame = frame::encode(&WritePiece { piece: Some(piece) })?;
        tokio::select! {
            outcome = &mut self.outcome => match written(outcome) {
                Ok(()) => Err(CallError::Nonsense("an end before the end")),
                Err(error) => Err(error),
            },
            // When it cannot be sent, the agent has gone, or has said why.
            Ok(()) = self.writer.write_all(&frame) => Ok(()),
        }
    }

    /// Everything was sent: waits until it is written.
    pub(crate) async fn finish(mut self) -> Result<(), CallError> {
        let frame = frame::encode(&WritePiece { piece: Some(write_piece::Piece::End(Done {})) })?;
        // If it cannot be sent, the outcome says why.
        let _told = self.writer.write_all(&frame).await;
        written((&mut self.outcome).await)
    }
}

fn written(outcome: Result<io::Result<StreamReply>, tokio::task::JoinError>) -> Result<(), CallError> {
    let reply = outcome.map_err(|_panicked| CallError::Lost)?.map_err(|_gone| CallError::Lost)?;
    match reply.error {
        Some(error) => Err(CallError::Agent { code: error.code(), message: error.message }),
        None => Ok(()),
    }
}

/// What a machine watches.
#[derive(Debug)]
pub(crate) struct ShareWatchReader {
    reader: OwnedReadHalf,
}

impl ShareWatchReader {
    /// The next that begins or ends. Not cancel-safe.
    pub(crate) async fn next(&mut self) -> io::Result<ShareWatch> {
        read_frame(&mut self.reader).await
    }
}

/// What happens to it.
#[derive(Debug)]
pub(crate) struct ShareChangeWriter {
    writer: OwnedWriteHalf,
}

impl ShareChangeWriter {
    pub(crate) async fn send(&mut self, change: &ShareChange) -> io::Result<()> {
        let frame = frame::encode(change).map_err(io::Error::other)?;
        self.writer.write_all(&frame).await
    }
}

/// The host's end of a process's stdout or stderr. The agent keeps every byte until it is acknowledged.
#[derive(Debug)]
pub(crate) struct OutputReader {
    reader: OwnedReadHalf,
    acknowledgements: OwnedWriteHalf,
    /// How many bytes of the stream were read.
    offset: u64,
    buffer: BytesMut,
}

impl OutputReader {
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next bytes; `None` at the end of the stream.
    pub(crate) async fn read(&mut self) -> io::Result<Option<Bytes>> {
        self.buffer.reserve(CHUNK_BYTES);
        let count = self.reader.read_buf(&mut self.buffer).await?;
        self.offset += count as u64;
        Ok(Some(self.buffer.split().freeze()).filter(|_| count > 0))
    }

    /// Says that the stream's first `offset` bytes are on the host for good.
    pub(crate) async fn acknowledge(&mut self, offset: u64) -> io::Result<()> {
        self.acknowledgements.write_all(&offset.to_le_bytes()).await
    }
}

/// The host's end of a process's stdin.
#[derive(Debug)]
pub(crate) struct InputStream {
    stream: UnixStream,
}

impl InputStream {
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        for chunk in bytes.chunks(CHUNK_BYTES) {
            let length = u32::try_from(chunk.len()).expect("a chunk is smaller than 4 GiB");
            self.stream.write_all(&length.to_le_bytes()).await?;
            self.stream.write_all(chunk).await?;
        }
        Ok(())
    }

    /// The process's stdin is at its end.
    pub(crate) async fn end(&mut self) -> io::Result<()> {
        self.stream.write_all(&0_u32.to_le_bytes()).await
    }
}
