//! A request connection: frames in, replies out in the order in which work ends.
//!
//! Every request is a task of its own; what a task does is one line of [`perform`].

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use berth_protocol::agent::request::Operation;
use berth_protocol::agent::{Configure, Done, ErrorCode, ProcessList, Reply, Request, reply};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_local;
use tokio_vsock::{OwnedReadHalf, OwnedWriteHalf, VsockStream};

use super::frames;
use crate::agent::Agent;
use crate::container::{
    connection, control, exec, mount, process_table, remove, shutdown, start, stat_path, update_names,
};
use crate::failure::{During, Failure};
use crate::{clock, entropy, identity};

/// Requests of one connection that are being worked on: one wait for every process a machine may have, and some.
const MAX_IN_FLIGHT: usize = 8192;
/// Replies that wait to be written.
const MAX_QUEUED_REPLIES: usize = 64;

/// A reply on its way to the host.
struct Answer {
    reply: Reply,
    /// The process whose end it tells.
    waited_for: Option<String>,
}

/// Serves one connection until the host closes it. Work that has begun goes on; waits do not.
pub(super) async fn serve(agent: Rc<Agent>, connection: VsockStream) {
    let (reader, writer) = connection.into_split();
    let (answers, queue) = mpsc::channel(MAX_QUEUED_REPLIES);
    let served = tokio::select! {
        read = read_requests(&agent, reader, &answers) => read,
        written = write_answers(&agent, writer, queue) => written,
    };
    if let Err(error) = served {
        eprintln!("berth-agent: a request connection is given up: {error}");
    }
}

async fn read_requests(
    agent: &Rc<Agent>,
    mut connection: OwnedReadHalf,
    answers: &mpsc::Sender<Answer>,
) -> io::Result<()> {
    let in_flight = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    while let Some(Request { id, operation }) = frames::read(&mut connection).await? {
        let Ok(permit) = Arc::clone(&in_flight).try_acquire_owned() else {
            let message = format!("more than {MAX_IN_FLIGHT} requests at a time");
            let refused = reply_to(id, Err(Failure::new(ErrorCode::ResourceLimit, message)));
            let refused = Answer { reply: refused, waited_for: None };
            answers.send(refused).await.map_err(io::Error::other)?;
            continue;
        };
        let (agent, answers) = (Rc::clone(agent), answers.clone());
        spawn_local(async move {
            answer(&agent, id, operation, &answers).await;
            drop(permit);
        });
    }
    Ok(())
}

async fn answer(agent: &Rc<Agent>, id: u64, operation: Option<Operation>, answers: &mpsc::Sender<Answer>) {
    let waited_for = match &operation {
        Some(Operation::WaitProcess(wait)) => Some(wait.process_id.clone()),
        _ => None,
    };
    let result = tokio::select! {
        result = perform(agent, operation) => result,
        // A wait may take as long as a process lives, and is for those who listen.
        () = answers.closed(), if waited_for.is_some() => return,
    };
    // A host that is gone needs no answer.
    let _gone = answers.send(Answer { reply: reply_to(id, result), waited_for }).await;
}

async fn write_answers(
    agent: &Agent,
    mut connection: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Answer>,
) -> io::Result<()> {
    while let Some(Answer { reply, waited_for }) = queue.recv().await {
        frames::write(&mut connection, &reply).await?;
        if let (Some(process_id), Some(reply::Result::ExitStatus(_))) = (waited_for, reply.result) {
            agent.processes.status_delivered(&process_id);
        }
    }
    Ok(())
}

fn reply_to(id: u64, result: Result<reply::Result, Failure>) -> Reply {
    let result = result.unwrap_or_else(|failure| reply::Result::Error(failure.into()));
    Reply { id, result: Some(result) }
}

async fn perform(agent: &Rc<Agent>, operation: Option<Operation>) -> Result<reply::Result, Failure> {
    let done = |()| reply::Result::Done(Done {});
    match operation {
        None => Err(Failure::new(ErrorCode::UnknownOperation, "the agent does not know this operation")),
        Some(Operation::Ping(_)) => Ok(reply::Result::Ready(agent.introduction())),
        Some(Operation::Configure(request)) => configure(&request).map(done),
        Some(Operation::StartContainer(request)) => {
            start::start(agent, request).await.map(reply::Result::ProcessStarted)
        }
        Some(Operation::StartExec(request)) => {
            exec::exec(agent, request).await.map(reply::Result::ProcessStarted)
        }
        Some(Operation::UpdateNames(request)) => update_names::update(agent, request).await.map(done),
        Some(Operation::Signal(request)) => {
            agent.processes.get(&request.process_id)?.signal(request.signal).map(done)
        }
        Some(Operation::ResizeTerminal(request)) => {
            let size = request.size.unwrap_or_default();
            agent.processes.get(&request.process_id)?.resize(size).map(done)
        }
        Some(Operation::WaitProcess(request)) => {
            Ok(reply::Result::ExitStatus(agent.processes.get(&request.process_id)?.ended().await))
        }
        Some(Operation::ListProcesses(request)) => {
            let processes = agent.processes.list(&request.container_id);
            Ok(reply::Result::ProcessList(ProcessList { processes }))
        }
        Some(Operation::Freeze(request)) => control::freeze(agent, request).await.map(done),
        Some(Operation::UpdateResources(request)) => control::update(agent, request).await.map(done),
        Some(Operation::ReadStatistics(request)) => {
            control::statistics(agent, &request.container_id).map(reply::Result::Statistics)
        }
        Some(Operation::ReadProcessTable(request)) => {
            process_table::read(agent, &request.container_id).map(reply::Result::ProcessTable)
        }
        Some(Operation::MountContainer(request)) => mount::mount(agent, request).await.map(done),
        Some(Operation::StatPath(request)) => {
            stat_path::stat_path(agent, request).await.map(reply::Result::PathStat)
        }
        Some(Operation::ConnectInterface(request)) => connection::connect(agent, request).await.map(done),
        Some(Operation::DisconnectInterface(request)) => {
            connection::disconnect(agent, request).await.map(done)
        }
        Some(Operation::RemoveContainer(request)) => remove::remove(agent, request).await.map(done),
        Some(Operation::AssumeIdentity(request)) => identity::assume(agent, &request).map(done),
        Some(Operation::Shutdown(_)) => shutdown::shut_down(agent).await.map(done),
    }
}

/// What a machine cannot know by itself: the time, and randomness that no other machine has.
fn configure(request: &Configure) -> Result<(), Failure> {
    if request.unix_time_ns != 0 {
        clock::set_unix_time(request.unix_time_ns).during(ErrorCode::InvalidRequest, || "set the clock")?;
    }
    if !request.entropy.is_empty() {
        entropy::reseed(&request.entropy).during(ErrorCode::InvalidRequest, || "add entropy")?;
    }
    Ok(())
}
