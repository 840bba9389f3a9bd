//! Where a process's streams meet the clients attached to them.
//!
//! Output goes to every attached client in order. While the process runs, a client that does not read holds it up
//! (as with Docker, and as with a pipe); once it has ended, what is left is bounded by what the agent keeps, so it is
//! queued for slow clients and the end is not held up. Input of all clients goes to one pump. Clients may attach
//! before the process exists and outlive it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::attach::DetachNotice;
use crate::logs::OutputStream;

/// How much output may be on its way to one client.
const CLIENT_WINDOW_BYTES: u32 = 512 << 10;
/// Messages between the queue and the client's connection.
const CHANNEL_MESSAGES: usize = 8;

/// A piece of a process's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    pub stream: OutputStream,
    pub bytes: Bytes,
}

/// A piece of a client's input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    Bytes(Bytes),
    /// The client half-closed its connection or went away. One that detaches says nothing.
    End,
}

/// A client's connection to a process: output ends when the process has ended and everything was delivered.
#[derive(Debug)]
pub struct Attachment {
    pub terminal: bool,
    pub output: mpsc::Receiver<Output>,
    pub input: Option<mpsc::Sender<Input>>,
    /// For a client that detaches from what goes on without it.
    pub notice: Option<DetachNotice>,
}

/// Which streams a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
}

#[derive(Debug)]
pub(super) struct Hub {
    terminal: bool,
    clients: Mutex<Vec<Client>>,
    stdin: Mutex<StdinChannel>,
    /// The process has ended: nobody holds up the rest.
    ending: AtomicBool,
}

#[derive(Debug)]
struct Client {
    wanted: Wanted,
    queue: mpsc::UnboundedSender<(Output, Option<OwnedSemaphorePermit>)>,
    window: Arc<Semaphore>,
}

#[derive(Debug)]
struct StdinChannel {
    sender: mpsc::Sender<Input>,
    receiver: Option<mpsc::Receiver<Input>>,
}

impl StdinChannel {
    fn new() -> Self {
        let (sender, receiver) = mpsc::channel(CHANNEL_MESSAGES);
        Self { sender, receiver: Some(receiver) }
    }
}

impl Hub {
    pub(super) fn new(terminal: bool) -> Self {
        Self {
            terminal,
            clients: Mutex::default(),
            stdin: Mutex::new(StdinChannel::new()),
            ending: AtomicBool::new(false),
        }
    }

    /// Connects a client, to the process that runs or to the next one.
    pub(super) fn attach(&self, wanted: Wanted) -> Attachment {
        let (sender, output) = mpsc::channel(CHANNEL_MESSAGES);
        let (queue, queued) = mpsc::unbounded_channel();
        let window = Arc::new(Semaphore::new(CLIENT_WINDOW_BYTES as usize));
        tokio::spawn(forward(queued, sender));
        let mut clients = locked(&self.clients);
        // Those who went away while nothing was printed.
        clients.retain(|client| !client.queue.is_closed());
        clients.push(Client { wanted, queue, window });
        drop(clients);
        let input = wanted.stdin.then(|| locked(&self.stdin).sender.clone());
        Attachment { terminal: self.terminal, output, input, notice: None }
    }

    /// The input of all clients, for the pump of the process that starts now.
    pub(super) fn take_stdin(&self) -> Option<mpsc::Receiver<Input>> {
        locked(&self.stdin).receiver.take()
    }

    /// Hands output to every client that wants it; waits for slow ones unless the process has ended.
    pub(super) async fn deliver(&self, stream: OutputStream, bytes: &Bytes) {
        let receivers: Vec<_> = {
            let mut clients = locked(&self.clients);
            clients.retain(|client| !client.queue.is_closed());
            let wanting = clients.iter().filter(|client| client.wants(stream));
            wanting.map(|client| (client.queue.clone(), Arc::clone(&client.window))).collect()
        };
        for (queue, window) in receivers {
            let permit = self.permit(window, &queue, bytes.len()).await;
            // A client that has gone is forgotten at the next delivery.
            let _gone = queue.send((Output { stream, bytes: bytes.clone() }, permit));
        }
    }

    async fn permit(
        &self,
        window: Arc<Semaphore>,
        queue: &mpsc::UnboundedSender<(Output, Option<OwnedSemaphorePermit>)>,
        length: usize,
    ) -> Option<OwnedSemaphorePermit> {
        let length = u32::try_from(length).unwrap_or(u32::MAX).min(CLIENT_WINDOW_BYTES);
        if self.ending.load(Ordering::Acquire) {
            return window.try_acquire_many_owned(length).ok();
        }
        tokio::select! {
            permit = Arc::clone(&window).acquire_many_owned(length) => permit.ok(),
            () = queue.closed() => None,
        }
    }

    /// The process has ended: what it still has to say is queued, and nobody is waited for.
    pub(super) fn process_ended(&self) {
        self.ending.store(true, Ordering::Release);
        // Lets a delivery that waits for a slow client go on.
        for client in locked(&self.clients).iter() {
            client.window.close();
        }
    }

    /// All output was delivered: the clients' streams end, and the next process finds a fresh hub.
    pub(super) fn finish(&self) {
        locked(&self.clients).clear();
        *locked(&self.stdin) = StdinChannel::new();
        self.ending.store(false, Ordering::Release);
    }
}

impl Client {
    fn wants(&self, stream: OutputStream) -> bool {
        match stream {
            OutputStream::Stdout => self.wanted.stdout,
            OutputStream::Stderr => self.wanted.stderr,
        }
    }
}

/// Moves output from a client's queue to its connection, and gives back its window as it goes.
async fn forward(
    mut queued: mpsc::UnboundedReceiver<(Output, Option<OwnedSemaphorePermit>)>,
    sender: mpsc::Sender<Output>,
) {
    loop {
        let next = tokio::select! {
            next = queued.recv() => next,
            () = sender.closed() => None,
        };
        let Some((output, permit)) = next else { return };
        if sender.send(output).await.is_err() {
            return;
        }
        drop(permit);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const ALL: Wanted = Wanted { stdin: true, stdout: true, stderr: true };

    fn chunk() -> Bytes {
        Bytes::from(vec![b'x'; 64 << 10])
    }

    async fn total(mut output: mpsc::Receiver<Output>) -> usize {
        let mut total = 0;
        while let Some(output) = output.recv().await {
            total += output.bytes.len();
        }
        total
    }

    #[tokio::test]
    async fn every_client_gets_what_it_wants_and_nothing_else() {
        let hub = Hub::new(false);
        let both = hub.attach(ALL);
        let errors = hub.attach(Wanted { stdin: false, stdout: false, stderr: true });
        hub.deliver(OutputStream::Stdout, &Bytes::from_static(b"out")).await;
        hub.deliver(OutputStream::Stderr, &Bytes::from_static(b"err!")).await;
        hub.finish();
        assert_eq!((total(both.output).await, total(errors.output).await), (7, 4));
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_holds_up_a_process_that_runs() {
        let hub = Hub::new(false);
        let _client = hub.attach(ALL);
        let flood = async {
            for _ in 0..100 {
                hub.deliver(OutputStream::Stdout, &chunk()).await;
            }
        };
        assert!(timeout(Duration::from_millis(50), flood).await.is_err());
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_holds_up_no_end_and_loses_nothing() {
        let hub = Hub::new(false);
        let client = hub.attach(ALL);
        let flood = async {
            for _ in 0..100 {
                hub.deliver(OutputStream::Stdout, &chunk()).await;
            }
        };
        let end = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            hub.process_ended();
        };
        tokio::join!(flood, end);
        hub.finish();
        assert_eq!(total(client.output).await, 100 * (64 << 10));
    }

    #[tokio::test]
    async fn a_client_that_goes_away_holds_up_nothing() {
        let hub = Hub::new(false);
        drop(hub.attach(ALL));
        let flood = async {
            for _ in 0..100 {
                hub.deliver(OutputStream::Stdout, &chunk()).await;
            }
        };
        timeout(Duration::from_secs(5), flood).await.unwrap();
    }

    #[tokio::test]
    async fn clients_that_come_and_go_while_nothing_is_printed_are_not_kept() {
        let hub = Hub::new(false);
        for _ in 0..100 {
            drop(hub.attach(ALL));
            tokio::task::yield_now().await;
        }
        assert!(locked(&hub.clients).len() < 10, "{} clients are kept", locked(&hub.clients).len());
    }

    #[tokio::test]
    async fn input_given_before_the_process_starts_reaches_it() {
        let hub = Hub::new(false);
        let client = hub.attach(ALL);
        client.input.unwrap().send(Input::Bytes(Bytes::from_static(b"early"))).await.unwrap();
        let mut stdin = hub.take_stdin().unwrap();
        assert_eq!(stdin.recv().await, Some(Input::Bytes(Bytes::from_static(b"early"))));
    }
}
