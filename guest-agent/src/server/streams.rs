//! A stream connection: one header, one answer, then the bytes of one stream of one process, or an archive.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use berth_protocol::agent::archive_piece::Piece;
use berth_protocol::agent::{ArchivePiece, Done, StreamHeader, StreamKind, StreamReply, WritePiece};
use tokio_vsock::VsockStream;

use super::{frames, names, sockets};
use crate::agent::Agent;
use crate::container::read_archive::{self, Archive};
use crate::container::read_changes;
use crate::container::write_files::{self, Writing};
use crate::failure::Failure;
use crate::processes::Process;

/// A connection that says nothing is not kept. Generous: the host may be busy starting machines.
const HEADER_DEADLINE: Duration = Duration::from_secs(60);

/// Serves one connection to its end.
pub(super) async fn serve(agent: Rc<Agent>, mut connection: VsockStream) {
    let header = tokio::time::timeout(HEADER_DEADLINE, frames::read::<StreamHeader>(&mut connection)).await;
    let Ok(Ok(Some(header))) = header else {
        return;
    };
    if let Some(request) = header.read_archive {
        let archive = read_archive::open(&agent, &request).await;
        if let Err(error) = serve_pieces(archive, connection).await {
            eprintln!("berth-agent: an archive of {} broke off: {error}", request.container_id);
        }
        return;
    }
    if let Some(request) = header.read_changes {
        let changes = read_changes::open(&agent, &request).await;
        if let Err(error) = serve_pieces(changes, connection).await {
            eprintln!("berth-agent: the changes of {} broke off: {error}", request.container_id);
        }
        return;
    }
    if let Some(request) = header.serve_names {
        // The host hangs up when it has nothing more to say.
        let _hung_up = names::serve(&agent, &request, connection).await;
        return;
    }
    if let Some(request) = header.serve_sockets {
        // As well.
        let _hung_up = sockets::serve(&agent, &request, connection).await;
        return;
    }
    if let Some(request) = header.carry_connection {
        // The host knows it by itself.
        let _broken = sockets::carry(&agent, &request, connection).await;
        return;
    }
    if let Some(request) = header.write_files {
        let writing = write_files::open(&agent, request).await;
        if let Err(error) = serve_writing(writing, connection).await {
            eprintln!("berth-agent: files for a container broke off: {error}");
        }
        return;
    }
    if header.watch_shares.is_some() {
        if let Err(error) = serve_watches(&agent, connection).await {
            eprintln!("berth-agent: what is watched of shares broke off: {error}");
        }
        return;
    }
    let served = match agent.processes.get(&header.process_id) {
        Ok(process) => serve_process(&agent, &process, &header, connection).await,
        Err(failure) => refuse(connection, failure).await,
    };
    if let Err(error) = served {
        eprintln!("berth-agent: a stream of {} broke off: {error}", header.process_id);
    }
}

/// A failure after the first piece is the last piece.
async fn serve_pieces(opened: Result<Archive, Failure>, mut connection: VsockStream) -> io::Result<()> {
    let mut archive = match opened {
        Ok(archive) => archive,
        Err(failure) => return refuse(connection, failure).await,
    };
    let reply = StreamReply { path_stat: archive.stat.take(), ..StreamReply::default() };
    frames::write(&mut connection, &reply).await?;
    loop {
        let piece = match archive.next().await {
            Ok(Some(content)) => Piece::Content(content),
            Ok(None) => Piece::End(Done {}),
            Err(failure) => Piece::Error(failure.into()),
        };
        let is_last = !matches!(piece, Piece::Content(_));
        frames::write(&mut connection, &ArchivePiece { piece: Some(piece) }).await?;
        if is_last {
            return Ok(());
        }
    }
}

/// A failure is told at once, and what still comes is thrown away: the host may be in the middle of sending.
async fn serve_writing(opened: Result<Writing, Failure>, mut connection: VsockStream) -> io::Result<()> {
    let writing = match opened {
        Ok(writing) => writing,
        Err(failure) => return refuse(connection, failure).await,
    };
    frames::write(&mut connection, &StreamReply::default()).await?;
    loop {
        let piece = frames::read::<WritePiece>(&mut connection).await?;
        let piece = piece.and_then(|piece| piece.piece).ok_or(io::ErrorKind::UnexpectedEof)?;
        if !writing.push(piece).await {
            break;
        }
    }
    let error = writing.outcome().await.err().map(Into::into);
    frames::write(&mut connection, &StreamReply { error, ..StreamReply::default() }).await?;
    let rest = async { while let Ok(Some(_)) = frames::read::<WritePiece>(&mut connection).await {} };
    // The host closes once it has read the answer.
    let _elapsed = tokio::time::timeout(HEADER_DEADLINE, rest).await;
    Ok(())
}

/// Until the host, or a later connection, ends it.
async fn serve_watches(agent: &Agent, mut connection: VsockStream) -> io::Result<()> {
    frames::write(&mut connection, &StreamReply::default()).await?;
    let (mut reader, mut writer) = tokio::io::split(connection);
    let (first, mut later) = agent.watches.subscribe();
    let tell = async {
        for watch in first {
            frames::write(&mut writer, &watch).await?;
        }
        while let Some(watch) = later.recv().await {
            frames::write(&mut writer, &watch).await?;
        }
        Ok(())
    };
    let hear = async {
        while let Some(change) = frames::read(&mut reader).await? {
            agent.watches.changed(change).await;
        }
        Ok(())
    };
    tokio::select! {
        ended = tell => ended,
        ended = hear => ended,
    }
}

async fn serve_process(
    agent: &Agent,
    process: &Process,
    header: &StreamHeader,
    connection: VsockStream,
) -> io::Result<()> {
    let streams = &process.streams;
    match header.kind() {
        StreamKind::Stdin => match &streams.stdin {
            Some(input) => serve_input(input, connection).await,
            None => refuse(connection, has_no(process, "stdin")).await,
        },
        kind @ (StreamKind::Stdout | StreamKind::Stderr) => {
            let output = if kind == StreamKind::Stdout { &streams.stdout } else { &streams.stderr };
            match output {
                Some(output) => serve_output(output, header.offset, connection).await?,
                None => refuse(connection, has_no(process, "such output")).await?,
            }
            agent.processes.forget_if_delivered(process);
            Ok(())
        }
        StreamKind::Unset => refuse(connection, Failure::invalid("the stream's kind is missing")).await,
    }
}

async fn serve_input(input: &crate::streams::Input, mut connection: VsockStream) -> io::Result<()> {
    if let Err(failure) = input.check_open() {
        return refuse(connection, failure).await;
    }
    frames::write(&mut connection, &StreamReply::default()).await?;
    input.serve(connection).await;
    Ok(())
}

async fn serve_output(
    output: &crate::streams::Output,
    offset: u64,
    mut connection: VsockStream,
) -> io::Result<()> {
    match output.connect(offset) {
        Ok(turn) => {
            frames::write(&mut connection, &StreamReply { offset: turn.offset, ..StreamReply::default() })
                .await?;
            output.serve(turn, connection).await;
            Ok(())
        }
        Err(failure) => refuse(connection, failure).await,
    }
}

pub(super) async fn refuse(mut connection: VsockStream, failure: Failure) -> io::Result<()> {
    frames::write(&mut connection, &StreamReply { error: Some(failure.into()), ..StreamReply::default() })
        .await
}

fn has_no(process: &Process, what: &str) -> Failure {
    Failure::invalid(format!("process {} has no {what}", process.id))
}
