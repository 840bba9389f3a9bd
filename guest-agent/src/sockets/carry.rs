//! A connection, from the process that makes it to the stream that carries it.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use berth_protocol::agent::SocketConnection;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, copy_buf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_local;
use tokio::time::sleep;

use super::SocketRelay;
use crate::sys;

/// Of a connection, in each direction, on its way.
const BUFFER_BYTES: usize = 64 << 10;
/// After an error that is not one client's: out of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves one socket. Does not end; its connections do when `over` closes.
pub(super) async fn serve(
    number: u32,
    listener: UnixListener,
    relay: Rc<SocketRelay>,
    places: Arc<Semaphore>,
    over: watch::Receiver<()>,
) {
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("it is never closed");
        let Ok((client, _address)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let (relay, mut over) = (Rc::clone(&relay), over.clone());
        spawn_local(async move {
            tokio::select! {
                () = take_up(number, client, &relay) => {}
                _closed = over.changed() => {}
            }
            drop(place);
        });
    }
}

async fn take_up(number: u32, client: UnixStream, relay: &SocketRelay) {
    // Who is gone already wants nothing.
    let Ok(connection) = introduce(number, &client) else { return };
    let asking = relay.ask(|id| SocketConnection { id, ..connection });
    if let Some(Some(stream)) = asking.await {
        carry(client, stream).await;
    }
}

/// Who it is that has connected. The kernel says it; the host may believe it or not.
fn introduce(number: u32, client: &UnixStream) -> io::Result<SocketConnection> {
    let peer = client.peer_cred()?;
    Ok(SocketConnection {
        id: 0,
        socket: number,
        user_id: peer.uid(),
        group_id: peer.gid(),
        further_groups: sys::peer_groups(client)?,
    })
}

/// Until both directions are at their ends. Each comes to its own: what one side has said last arrives, although the other
/// has stopped to listen.
async fn carry(client: impl AsyncRead + AsyncWrite + Unpin, host: impl AsyncRead + AsyncWrite + Unpin) {
    let (from_client, to_client) = tokio::io::split(client);
    let (from_host, to_host) = tokio::io::split(host);
    tokio::join!(one_way(from_client, to_host), one_way(from_host, to_client));
}

async fn one_way(from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut from = BufReader::with_capacity(BUFFER_BYTES, from);
    // Where it broke off is where it ends.
    let _broken: io::Result<u64> = copy_buf(&mut from, &mut to).await;
    let _gone: io::Result<()> = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    fn block_on<T>(story: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(story)
    }

    fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().unwrap()
    }

    #[test]
    fn who_has_said_all_still_hears_the_answer() {
        block_on(async {
            let (mut client, end) = pair();
            let (mut server, host_end) = pair();
            let carrying = carry(end, host_end);
            let talk = async {
                client.write_all(b"question").await.unwrap();
                client.shutdown().await.unwrap();
                let mut heard = String::new();
                server.read_to_string(&mut heard).await.unwrap();
                server.write_all(heard.to_uppercase().as_bytes()).await.unwrap();
                drop(server);
                let mut answer = String::new();
                client.read_to_string(&mut answer).await.unwrap();
                assert_eq!(answer, "QUESTION");
            };
            tokio::join!(carrying, talk);
        });
    }

    #[test]
    fn what_a_server_said_before_it_hung_up_arrives() {
        block_on(async {
            let (mut client, end) = pair();
            let (mut server, host_end) = pair();
            let carrying = carry(end, host_end);
            let talk = async {
                server.write_all(&[7; 200_000]).await.unwrap();
                drop(server);
                // Nobody reads that, and it must not cost what is on its way here.
                let _nobody = client.write_all(b"more").await;
                let mut heard = Vec::new();
                client.read_to_end(&mut heard).await.unwrap();
                assert_eq!(heard.len(), 200_000);
                drop(client);
            };
            tokio::join!(carrying, talk);
        });
    }

    #[test]
    fn a_client_is_introduced_as_the_kernel_knows_it() {
        block_on(async {
            let (_client, end) = pair();
            let said = introduce(3, &end).unwrap();
            let user = rustix::process::getuid().as_raw();
            assert_eq!((said.socket, said.user_id), (3, user));
            let groups: Vec<u32> =
                rustix::process::getgroups().unwrap().iter().map(|group| group.as_raw()).collect();
            assert_eq!(said.further_groups, groups);
        });
    }
}
