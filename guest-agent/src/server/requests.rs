//! A request connection: frames in, replies out in the order in which work ends.
//!
//! Every request is a task of its own; what a task does is one line of [`perform`].

use std::cell::Cell;
use std::rc::Rc;

use berth_protocol::agent::request::Operation;
use berth_protocol::agent::{
    Configure, Done, ErrorCode, ExitStatus, ProcessList, Reply, Request, WaitProcess, reply,
};
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio_vsock::{OwnedWriteHalf, VsockStream};

use super::frames;
use crate::agent::Agent;
use crate::container::{exec, remove, shutdown, start};
use crate::failure::{During, Failure};
use crate::{clock, sys};

/// Requests of one connection that are being worked on: one wait for every process a machine may have, and some.
const MAX_IN_FLIGHT: usize = 8192;
/// Replies that wait to be written.
const MAX_QUEUED_REPLIES: usize = 64;

/// Serves one connection until the host closes it. Work that has begun goes on.
pub(super) async fn serve(agent: Rc<Agent>, connection: VsockStream) {
    let (mut reader, writer) = connection.into_split();
    let (replies, queue) = mpsc::channel(MAX_QUEUED_REPLIES);
    spawn_local(write_replies(writer, queue));
    let in_flight = Rc::new(Cell::new(0));
    loop {
        match frames::read::<Request>(&mut reader).await {
            Ok(Some(request)) => accept(&agent, request, &in_flight, &replies).await,
            Ok(None) => return,
            Err(error) => {
                eprintln!("berth-agent: a request connection is given up: {error}");
                return;
            }
        }
    }
}

async fn accept(
    agent: &Rc<Agent>,
    request: Request,
    in_flight: &Rc<Cell<usize>>,
    replies: &mpsc::Sender<Reply>,
) {
    let id = request.id;
    if in_flight.get() >= MAX_IN_FLIGHT {
        let message = format!("more than {MAX_IN_FLIGHT} requests at a time");
        // A host that is gone needs no answer; the reader will notice.
        let _gone = replies.send(reply_to(id, Err(Failure::new(ErrorCode::ResourceLimit, message)))).await;
        return;
    }
    in_flight.set(in_flight.get() + 1);
    let (agent, replies, in_flight) = (Rc::clone(agent), replies.clone(), Rc::clone(in_flight));
    spawn_local(async move {
        let result = perform(&agent, request.operation).await;
        in_flight.set(in_flight.get() - 1);
        let _gone = replies.send(reply_to(id, result)).await;
    });
}

async fn write_replies(mut connection: OwnedWriteHalf, mut queue: mpsc::Receiver<Reply>) {
    while let Some(reply) = queue.recv().await {
        if frames::write(&mut connection, &reply).await.is_err() {
            return;
        }
    }
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
        Some(Operation::Signal(request)) => {
            agent.processes.get(&request.process_id)?.signal(request.signal).map(done)
        }
        Some(Operation::ResizeTerminal(request)) => {
            let size = request.size.unwrap_or_default();
            agent.processes.get(&request.process_id)?.resize(size).map(done)
        }
        Some(Operation::WaitProcess(request)) => wait(agent, &request).await.map(reply::Result::ExitStatus),
        Some(Operation::ListProcesses(request)) => {
            let processes = agent.processes.list(&request.container_id);
            Ok(reply::Result::ProcessList(ProcessList { processes }))
        }
        Some(Operation::RemoveContainer(request)) => remove::remove(agent, request).await.map(done),
        Some(Operation::Shutdown(_)) => shutdown::shut_down(agent).await.map(done),
    }
}

/// What a machine cannot know by itself: the time, and randomness that no other machine has.
fn configure(request: &Configure) -> Result<(), Failure> {
    if request.unix_time_ns != 0 {
        clock::set_unix_time(request.unix_time_ns).during(ErrorCode::InvalidRequest, || "set the clock")?;
    }
    if !request.entropy.is_empty() {
        let device = std::fs::File::options().write(true).open("/dev/urandom");
        let credited = device.and_then(|device| sys::credit_entropy(device, &request.entropy));
        credited.during(ErrorCode::InvalidRequest, || "add entropy")?;
    }
    Ok(())
}

async fn wait(agent: &Agent, request: &WaitProcess) -> Result<ExitStatus, Failure> {
    let process = agent.processes.get(&request.process_id)?;
    let status = process.ended().await;
    process.status_delivered.set(true);
    agent.processes.forget_if_delivered(&process);
    Ok(status)
}
