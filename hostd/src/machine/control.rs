//! One connection to a machine's control socket: requests out, replies in, in order; its end is the machine's end.
//!
//! Each request goes out whole, with the descriptors that belong to it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use berth_vmm::control::{MAX_LINE_BYTES, Reply, Request};
use berth_vmm::handover::send_with_descriptors;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{oneshot, watch};

type Waiting = Arc<Mutex<VecDeque<oneshot::Sender<Reply>>>>;

#[derive(Debug)]
pub(super) struct ControlClient {
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    waiting: Waiting,
    open: watch::Receiver<()>,
    /// The process that listens, as the kernel says; it cannot say another.
    peer: Option<i32>,
}

impl ControlClient {
    pub(super) async fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path).await?;
        let peer = stream.peer_cred()?.pid();
        let (reader, writer) = stream.into_split();
        let waiting = Waiting::default();
        let (alive, open) = watch::channel(());
        tokio::spawn(read_replies(reader, Arc::clone(&waiting), alive));
        Ok(Self { writer: tokio::sync::Mutex::new(writer), waiting, open, peer })
    }

    /// The reply, or `None` if the machine is gone.
    pub(super) async fn request(&self, request: Request) -> Option<Reply> {
        let mut line = serde_json::to_vec(&request).expect("plain data is always JSON");
        line.push(b'\n');
        let (sender, reply) = oneshot::channel();
        {
            // Held over the write so that replies are matched in the order in which requests go out.
            let mut writer = self.writer.lock().await;
            lock(&self.waiting).push_back(sender);
            writer.write_all(&line).await.ok()?;
        }
        reply.await.ok()
    }

    /// Hands over open files, which later requests mean by these paths. The reply, or `None` if the machine is gone.
    pub(super) async fn hand_over(&self, files: &[(&Path, BorrowedFd<'_>)]) -> Option<Reply> {
        let (paths, descriptors): (Vec<_>, Vec<_>) =
            files.iter().map(|(path, descriptor)| (path.to_path_buf(), *descriptor)).unzip();
        let mut line = serde_json::to_vec(&Request::TakeFiles { paths }).expect("plain data is always JSON");
        line.push(b'\n');
        let (sender, reply) = oneshot::channel();
        {
            let writer = self.writer.lock().await;
            lock(&self.waiting).push_back(sender);
            let stream = writer.as_ref();
            let sent =
                stream.async_io(Interest::WRITABLE, || send_with_descriptors(stream, &line, &descriptors));
            sent.await.ok()?;
        }
        reply.await.ok()
    }

    /// The other end's process id.
    pub(super) fn peer(&self) -> Option<i32> {
        self.peer
    }

    /// Completes when the other end is gone.
    pub(super) async fn closed(&self) {
        let mut open = self.open.clone();
        while open.changed().await.is_ok() {}
    }
}

/// Runs until the connection ends; dropping `_alive` is what tells the others.
async fn read_replies(reader: OwnedReadHalf, waiting: Waiting, _alive: watch::Sender<()>) {
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let read = (&mut reader).take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut line).await;
        let Ok(reply) = read.and_then(|_count| Ok(serde_json::from_slice::<Reply>(&line)?)) else { break };
        if let Some(sender) = lock(&waiting).pop_front() {
            // Whoever asked may have stopped waiting.
            let _unwanted: Result<(), Reply> = sender.send(reply);
        }
    }
    lock(&waiting).clear();
}

fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, VecDeque<oneshot::Sender<Reply>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
