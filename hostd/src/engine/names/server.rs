//! A container's name server, as far as it is the host's: questions come from its machine, and are answered as that
//! container may know.
//!
//! A container has a connection of its own: it can ask as itself only. It asks as much as this file says: what is more
//! waits in its machine, and is refused there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use berth_protocol::agent::{NameAnswer, NameQuery};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::super::Shared;
use super::super::container::Container;
use super::super::identity::ContainerId;
use super::super::networks::{DnsSpec, Networks};
use crate::agent_client::{AgentClient, CallError, NameConnection};
use crate::network::names::question::{Question, Refusal, Transport, Wanted};
use crate::network::names::upstream;
use crate::network::pools::IpVersion;

/// The port of name servers (RFC 1035, section 4.2).
const PORT: u16 = 53;
/// Of one container, at a time; each may hold a socket to another server.
const MAX_QUESTIONS: usize = 64;
/// Of one container; the next one waits until the second is over.
const MAX_QUESTIONS_PER_SECOND: u32 = 2000;
/// Before the machine is dialled again.
const PAUSE: Duration = Duration::from_secs(1);

/// Ends with this.
#[derive(Debug)]
pub(in crate::engine) struct NameServer {
    _task: AbortOnDropHandle<()>,
}

/// Answers what is asked at the container's name server, if its machine has one.
pub(in crate::engine) fn serve(
    shared: &Arc<Shared>,
    container: &Arc<Container>,
    agent: Arc<AgentClient>,
) -> NameServer {
    let asker = Asker {
        networks: Arc::clone(&shared.networks),
        id: container.id.clone(),
        container: Arc::clone(container),
    };
    NameServer { _task: AbortOnDropHandle::new(tokio::spawn(serve_all(Arc::new(asker), agent))) }
}

async fn serve_all(asker: Arc<Asker>, agent: Arc<AgentClient>) {
    loop {
        match agent.serve_names(asker.id.as_str()).await {
            Ok(connection) => serve_connection(&asker, connection).await,
            // It has none, or its agent is older than name servers are.
            Err(CallError::Agent { message, .. }) => {
                return tracing::debug!(container = %asker.id, message, "no name server");
            }
            Err(error) => tracing::debug!(container = %asker.id, %error, "a name server is not reached"),
        }
        sleep(PAUSE).await;
    }
}

/// Until the machine hangs up.
async fn serve_connection(asker: &Arc<Asker>, connection: NameConnection) {
    let (mut questions, mut answers) = connection.split();
    let turns = Arc::new(Semaphore::new(MAX_QUESTIONS));
    let (sender, mut answered) = mpsc::channel::<NameAnswer>(MAX_QUESTIONS);
    let (answering, mut pace) = (TaskTracker::new(), Pace::new());
    let reading = async {
        while let Ok(query) = questions.next().await {
            pace.wait().await;
            let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
            let (asker, sender) = (Arc::clone(asker), sender.clone());
            answering.spawn(async move {
                let answer = NameAnswer { id: query.id, message: asker.answer(&query).await };
                // The machine may be gone.
                let _gone = sender.send(answer).await;
                drop(turn);
            });
        }
    };
    let writing = async {
        while let Some(answer) = answered.recv().await {
            if answers.send(&answer).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
}

/// So many questions a second.
struct Pace {
    second: Instant,
    asked: u32,
}

impl Pace {
    fn new() -> Self {
        Self { second: Instant::now(), asked: 0 }
    }

    async fn wait(&mut self) {
        let end = self.second + Duration::from_secs(1);
        if self.asked >= MAX_QUESTIONS_PER_SECOND {
            sleep_until(end).await;
        }
        if Instant::now() >= end {
            *self = Self::new();
        }
        self.asked += 1;
    }
}

/// Whoever asks.
struct Asker {
    networks: Arc<Networks>,
    id: ContainerId,
    container: Arc<Container>,
}

impl Asker {
    /// Empty if there is no answer to that.
    async fn answer(&self, query: &NameQuery) -> Vec<u8> {
        let transport = if query.by_tcp { Transport::Stream } else { Transport::Datagram };
        match Question::read(&query.message, transport) {
            Err(Refusal::Answer(answer)) => answer,
            Err(Refusal::Silence) => Vec::new(),
            Ok(question) => match self.known(&question) {
                Some(answer) => answer,
                None => self.ask_others(&question, &query.message, transport).await,
            },
        }
    }

    /// What this host knows by itself.
    fn known(&self, question: &Question) -> Option<Vec<u8>> {
        let name = question.name();
        match question.wanted() {
            Wanted::Addresses(version) => {
                let found = self.networks.addresses_of(&self.id, name);
                let only_with_domain = || (!name.contains('.') && self.wants_dots()).then(Vec::new);
                let mut addresses = found.or_else(only_with_domain)?;
                addresses.retain(|address| address.is_ipv4() == (*version == IpVersion::V4));
                Some(question.addresses(&addresses))
            }
            Wanted::NameOf(address) => Some(question.pointer(&self.networks.name_of(&self.id, *address)?)),
            Wanted::MailServers => {
                self.networks.addresses_of(&self.id, name).map(|_| question.addresses(&[]))
            }
            Wanted::Other => None,
        }
    }

    /// Whoever asks for `ndots` wants names without a dot to be tried with their domains, and not elsewhere.
    fn wants_dots(&self) -> bool {
        let spec = self.container.spec();
        let mut ndots = spec.network.dns.options.iter().filter_map(|option| option.strip_prefix("ndots:"));
        ndots.next_back().and_then(|number| number.parse::<u32>().ok()).is_some_and(|dots| dots > 0)
    }

    async fn ask_others(&self, question: &Question, bytes: &[u8], transport: Transport) -> Vec<u8> {
        if !self.networks.reaches_others(&self.id) {
            return question.failure();
        }
        let servers = self.servers();
        match upstream::ask(&servers, bytes, transport).await {
            Some(answer) => question.passed_on(answer),
            None => question.failure(),
        }
    }

    /// Those that were asked for, or the daemon's, or the host's: also what only the host reaches.
    fn servers(&self) -> Vec<SocketAddr> {
        let host = self.networks.host_resolution();
        let asked = &self.container.spec().network.dns;
        let default = &self.networks.policy().dns;
        let chosen = [asked, default].into_iter().find(|dns| !dns.servers.is_empty());
        let servers = match chosen {
            // A container's own loopback is not ours: it finds those in its resolv.conf.
            Some(DnsSpec { servers, .. }) => servers.iter().filter(|server| !server.is_loopback()).collect(),
            None => host.servers.iter().collect::<Vec<_>>(),
        };
        servers.into_iter().map(|server| SocketAddr::new(*server, PORT)).collect()
    }
}
