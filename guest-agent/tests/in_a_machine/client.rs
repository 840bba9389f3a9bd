//! The daemon's side of the agent's protocol, as plainly as it can be: blocking, one request at a time.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth_protocol::agent::request::Operation;
use berth_protocol::agent::{
    AgentError, ArchivePiece, Change, ChangeList, ChangesForm, Done, ErrorCode, ExitStatus, ListProcesses,
    MountContainer, PathStat, ProcessEntry, ProcessStarted, ReadArchive, ReadChanges, RemoveContainer, Reply,
    Request, Signal, StartContainer, StartExec, StatPath, StreamHeader, StreamKind, StreamReply, WaitProcess,
    WriteFiles, WritePiece, archive_piece, reply, write_piece,
};
use berth_protocol::frame;
use berth_protocol::ports::{REQUEST_PORT, STREAM_PORT};
use prost::Message;

/// No answer of the agent takes longer, not even on software KVM, unless a test waits for something that never comes.
const DEADLINE: Duration = Duration::from_mins(5);

/// A connection for requests.
pub(crate) struct Client {
    socket: PathBuf,
    connection: UnixStream,
    next_id: u64,
}

impl Client {
    pub(crate) fn connect(socket: &Path) -> Self {
        let connection = connect(socket, REQUEST_PORT).expect("the agent accepts requests");
        Self { socket: socket.to_owned(), connection, next_id: 1 }
    }

    /// A connection that is not kept to the rules.
    pub(crate) fn raw(&self, port: u32) -> UnixStream {
        connect(&self.socket, port).expect("the agent accepts connections")
    }

    /// Asks, and waits for the answer to this very request.
    pub(crate) fn ask(&mut self, operation: Operation) -> Result<reply::Result, (ErrorCode, String)> {
        let id = self.send(operation);
        let reply = self.next_reply();
        assert_eq!(reply.id, id, "the only request in flight");
        outcome(reply)
    }

    /// Asks without waiting.
    pub(crate) fn send(&mut self, operation: Operation) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let request = Request { id, operation: Some(operation) };
        self.connection.write_all(&frame::encode(&request).unwrap()).unwrap();
        id
    }

    pub(crate) fn next_reply(&mut self) -> Reply {
        read_frame(&mut self.connection).expect("a reply")
    }

    pub(crate) fn start(&mut self, container: StartContainer) -> Result<ProcessStarted, (ErrorCode, String)> {
        match self.ask(Operation::StartContainer(container))? {
            reply::Result::ProcessStarted(started) => Ok(started),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn exec(&mut self, exec: StartExec) -> Result<ProcessStarted, (ErrorCode, String)> {
        match self.ask(Operation::StartExec(exec))? {
            reply::Result::ProcessStarted(started) => Ok(started),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn wait(&mut self, process_id: &str) -> ExitStatus {
        match self.ask(Operation::WaitProcess(WaitProcess { process_id: process_id.into() })) {
            Ok(reply::Result::ExitStatus(status)) => status,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn signal(&mut self, process_id: &str, signal: u32) -> Result<(), (ErrorCode, String)> {
        self.ask(Operation::Signal(Signal { process_id: process_id.into(), signal }))
            .map(|result| expect_done(&result))
    }

    pub(crate) fn remove(&mut self, container_id: &str) -> Result<(), (ErrorCode, String)> {
        self.ask(Operation::RemoveContainer(RemoveContainer { container_id: container_id.into() }))
            .map(|result| expect_done(&result))
    }

    /// Mounts the disks of a container on the first scratch disk.
    pub(crate) fn mount(&mut self, container_id: &str) -> Result<(), (ErrorCode, String)> {
        let (image_disk, scratch_disk) = ("vda".into(), "vdb".into());
        let container_id = container_id.into();
        let mount = MountContainer { container_id, image_disk, scratch_disk, ..MountContainer::default() };
        self.ask(Operation::MountContainer(mount)).map(|result| expect_done(&result))
    }

    pub(crate) fn processes(&mut self, container_id: &str) -> Vec<ProcessEntry> {
        match self.ask(Operation::ListProcesses(ListProcesses { container_id: container_id.into() })) {
            Ok(reply::Result::ProcessList(list)) => list.processes,
            other => panic!("{other:?}"),
        }
    }

    /// Opens a stream of a process.
    pub(crate) fn stream(
        &self,
        process_id: &str,
        kind: StreamKind,
        offset: u64,
    ) -> Result<Stream, AgentError> {
        let mut connection = connect(&self.socket, STREAM_PORT).expect("the agent accepts streams");
        let header =
            StreamHeader { process_id: process_id.into(), kind: kind.into(), offset, ..Default::default() };
        connection.write_all(&frame::encode(&header).unwrap()).unwrap();
        let reply: StreamReply = read_frame(&mut connection).expect("an answer to the header");
        match reply.error {
            Some(error) => Err(error),
            None => Ok(Stream { connection, offset: reply.offset }),
        }
    }

    /// Asks for a container's files; what follows are pieces.
    pub(crate) fn begin_archive(&self, container_id: &str, path: &str) -> Result<UnixStream, AgentError> {
        let request = ReadArchive { container_id: container_id.into(), path: path.into(), name: None };
        self.begin_pieces(&StreamHeader { read_archive: Some(request), ..StreamHeader::default() })
    }

    pub(crate) fn begin_pieces(&self, header: &StreamHeader) -> Result<UnixStream, AgentError> {
        let mut connection = connect(&self.socket, STREAM_PORT).expect("the agent accepts streams");
        connection.write_all(&frame::encode(header).unwrap()).unwrap();
        let reply: StreamReply = read_frame(&mut connection).expect("an answer to the header");
        reply.error.map_or(Ok(connection), Err)
    }

    /// A path of a container and all below it, to its end; with what is said of it first.
    pub(crate) fn named_archive(
        &self,
        container_id: &str,
        path: &str,
        name: &str,
    ) -> Result<(PathStat, Vec<u8>), AgentError> {
        let mut connection = connect(&self.socket, STREAM_PORT).expect("the agent accepts streams");
        let request =
            ReadArchive { container_id: container_id.into(), path: path.into(), name: Some(name.into()) };
        let header = StreamHeader { read_archive: Some(request), ..StreamHeader::default() };
        connection.write_all(&frame::encode(&header).unwrap()).unwrap();
        let reply: StreamReply = read_frame(&mut connection).expect("an answer to the header");
        if let Some(error) = reply.error {
            return Err(error);
        }
        let archive = read_pieces(connection)?;
        Ok((reply.path_stat.expect("something is said of a path"), archive))
    }

    pub(crate) fn stat(&mut self, container_id: &str, path: &str) -> Result<PathStat, (ErrorCode, String)> {
        let stat = StatPath { container_id: container_id.into(), path: path.into() };
        match self.ask(Operation::StatPath(stat))? {
            reply::Result::PathStat(stat) => Ok(stat),
            other => panic!("{other:?}"),
        }
    }

    /// Writes files into a container: an error at the begin or at the end.
    pub(crate) fn write(
        &self,
        request: WriteFiles,
        pieces: Vec<write_piece::Piece>,
    ) -> Result<(), AgentError> {
        end_write(self.begin_write(request)?, pieces)
    }

    /// Once the agent has found the directory.
    pub(crate) fn begin_write(&self, request: WriteFiles) -> Result<UnixStream, AgentError> {
        self.begin_pieces(&StreamHeader { write_files: Some(request), ..StreamHeader::default() })
    }

    /// A container's files as an archive, to its end.
    pub(crate) fn archive(&self, container_id: &str, path: &str) -> Result<Vec<u8>, AgentError> {
        read_pieces(self.begin_archive(container_id, path)?)
    }

    /// What a container has changed, to its end: lines as `docker diff` prints them.
    pub(crate) fn changes(&self, container_id: &str) -> Result<Vec<String>, AgentError> {
        let list = self.read_changes(container_id, ChangesForm::List)?;
        let list = ChangeList::decode(list.as_slice()).expect("lists that follow each other");
        let line = |change: &Change| {
            let letter = ["C", "A", "D"][change.kind() as usize];
            format!("{letter} {}", String::from_utf8_lossy(&change.path))
        };
        Ok(list.changes.iter().map(line).collect())
    }

    /// The same as a layer's archive.
    pub(crate) fn layer(&self, container_id: &str) -> Result<Vec<u8>, AgentError> {
        self.read_changes(container_id, ChangesForm::Layer)
    }

    pub(crate) fn read_changes(&self, container_id: &str, form: ChangesForm) -> Result<Vec<u8>, AgentError> {
        let request = ReadChanges { container_id: container_id.into(), form: form.into() };
        let header = StreamHeader { read_changes: Some(request), ..StreamHeader::default() };
        read_pieces(self.begin_pieces(&header)?)
    }

    /// All of a process's output, acknowledged as it comes.
    pub(crate) fn output(&self, process_id: &str, kind: StreamKind) -> String {
        let bytes = self.stream(process_id, kind, 0).expect("the stream is there").read_to_end();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(crate) fn stdout(&self, process_id: &str) -> String {
        self.output(process_id, StreamKind::Stdout)
    }
}

pub(crate) fn end_write(
    mut connection: UnixStream,
    pieces: Vec<write_piece::Piece>,
) -> Result<(), AgentError> {
    for piece in pieces.into_iter().chain([write_piece::Piece::End(Done {})]) {
        connection.write_all(&frame::encode(&WritePiece { piece: Some(piece) }).unwrap()).unwrap();
    }
    let reply: StreamReply = read_frame(&mut connection).expect("an answer at the end");
    reply.error.map_or(Ok(()), Err)
}

fn read_pieces(mut connection: UnixStream) -> Result<Vec<u8>, AgentError> {
    let mut archive = Vec::new();
    loop {
        match read_frame::<ArchivePiece>(&mut connection).expect("pieces up to the end").piece {
            Some(archive_piece::Piece::Content(content)) => archive.extend(content),
            Some(archive_piece::Piece::End(_)) => return Ok(archive),
            Some(archive_piece::Piece::Error(error)) => return Err(error),
            None => panic!("an empty piece"),
        }
    }
}

/// A connected stream.
pub(crate) struct Stream {
    pub(crate) connection: UnixStream,
    /// Of the next byte.
    pub(crate) offset: u64,
}

impl Stream {
    pub(crate) fn read_to_end(mut self) -> Vec<u8> {
        let (mut all, mut piece) = (Vec::new(), [0; 65536]);
        loop {
            match self.connection.read(&mut piece).unwrap() {
                0 => return all,
                length => {
                    all.extend_from_slice(&piece[..length]);
                    self.offset += length as u64;
                    // An agent that has sent everything may forget the process before it reads this.
                    let _gone = self.acknowledge(self.offset);
                }
            }
        }
    }

    /// Reads until the text has come.
    pub(crate) fn read_until(&mut self, text: &str) -> String {
        let (mut all, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            let seen = String::from_utf8_lossy(&all).into_owned();
            if seen.contains(text) {
                return seen;
            }
            let length =
                self.connection.read(&mut piece).unwrap_or_else(|error| panic!("{error} after {seen:?}"));
            assert!(length > 0, "the stream ended before {text:?}: {seen:?}");
            all.extend_from_slice(&piece[..length]);
            self.offset += length as u64;
        }
    }

    pub(crate) fn read_exactly(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.connection.read_exact(&mut bytes).unwrap();
        self.offset += length as u64;
        bytes
    }

    pub(crate) fn acknowledge(&mut self, count: u64) -> io::Result<()> {
        self.connection.write_all(&count.to_le_bytes())
    }

    /// A chunk of stdin; an empty one ends it.
    pub(crate) fn send_chunk(&mut self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap();
        self.connection.write_all(&length.to_le_bytes()).unwrap();
        self.connection.write_all(bytes).unwrap();
    }

    pub(crate) fn break_off(self) {
        self.connection.shutdown(Shutdown::Both).unwrap();
    }
}

fn connect(socket: &Path, port: u32) -> io::Result<UnixStream> {
    let mut connection = UnixStream::connect(socket)?;
    connection.set_read_timeout(Some(DEADLINE))?;
    connection.write_all(format!("CONNECT {port}\n").as_bytes())?;
    let mut answer = String::new();
    // One byte at a time, so that nothing behind the line is swallowed.
    BufReader::with_capacity(1, &connection).read_line(&mut answer)?;
    if answer.starts_with("OK ") { Ok(connection) } else { Err(io::Error::other(answer)) }
}

pub(crate) fn read_frame<M: Message + Default>(connection: &mut impl Read) -> io::Result<M> {
    let mut header = [0; frame::HEADER_BYTES];
    connection.read_exact(&mut header)?;
    let mut payload = vec![0; frame::payload_length(header).map_err(io::Error::other)?];
    connection.read_exact(&mut payload)?;
    frame::decode(&payload).map_err(io::Error::other)
}

fn outcome(reply: Reply) -> Result<reply::Result, (ErrorCode, String)> {
    match reply.result.expect("every reply has a result") {
        reply::Result::Error(error) => Err((error.code(), error.message)),
        result => Ok(result),
    }
}

fn expect_done(result: &reply::Result) {
    assert!(matches!(result, reply::Result::Done(_)), "{result:?}");
}
