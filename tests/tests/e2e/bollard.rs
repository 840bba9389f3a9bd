//! bollard: a client of somebody else's, whose types say what every reply has to be made of.

use std::collections::HashMap;
use std::time::Duration;

use berth_tests::Host;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::models::{ContainerCreateBody, ContainerStateStatusEnum, EventMessage, HostConfig};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, EventsOptionsBuilder,
    InspectContainerOptions, ListContainersOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    StartContainerOptions, StatsOptionsBuilder, WaitContainerOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::{Stream, StreamExt, TryStreamExt};
use tokio::io::AsyncWriteExt;

const TIMEOUT_S: u64 = 600;

fn connect(host: &Host) -> Docker {
    let socket = host.path("berthd.sock");
    Docker::connect_with_unix(&socket.to_string_lossy(), TIMEOUT_S, API_DEFAULT_VERSION)
        .expect("a client can be made")
}

fn words(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(ToString::to_string).collect())
}

/// A container of busybox, not started.
async fn create(docker: &Docker, name: &str, body: ContainerCreateBody) -> String {
    let named = CreateContainerOptionsBuilder::default().name(name).build();
    let body = ContainerCreateBody { image: Some("busybox".to_owned()), ..body };
    docker.create_container(Some(named), body).await.expect("it can be created").id
}

async fn remove(docker: &Docker, name: &str) {
    let forced = RemoveContainerOptionsBuilder::default().force(true).build();
    docker.remove_container(name, Some(forced)).await.expect("it can be removed");
}

/// What came on stdout and on stderr.
async fn spoken(output: impl Stream<Item = Result<LogOutput, Error>>) -> (String, String) {
    let (mut stdout, mut stderr) = (String::new(), String::new());
    for chunk in output.try_collect::<Vec<_>>().await.expect("whole frames") {
        match &chunk {
            LogOutput::StdErr { .. } => stderr += &chunk.to_string(),
            LogOutput::StdOut { .. } | LogOutput::Console { .. } => stdout += &chunk.to_string(),
            LogOutput::StdIn { .. } => panic!("stdin came back"),
        }
    }
    (stdout, stderr)
}

fn status(error: &Error) -> u16 {
    match error {
        Error::DockerResponseServerError { status_code, .. } => *status_code,
        other => panic!("no answer of the daemon's: {other:?}"),
    }
}

#[tokio::test]
async fn a_container_that_runs_is_read_counted_and_worked_in() {
    let Some(host) = Host::start() else { return };
    let docker = connect(&host);
    let script = "echo first; echo second >&2; trap 'exit 3' TERM; while true; do sleep 0.1; done";
    let body = ContainerCreateBody {
        cmd: words(&["sh", "-c", script]),
        labels: Some(HashMap::from([("tier".to_owned(), "web".to_owned())])),
        host_config: Some(HostConfig { memory: Some(64 << 20), ..HostConfig::default() }),
        ..ContainerCreateBody::default()
    };
    let id = create(&docker, "speaker", body).await;
    let waiting = tokio::spawn({
        let condition = WaitContainerOptionsBuilder::default().condition("next-exit").build();
        docker.wait_container("speaker", Some(condition)).try_collect::<Vec<_>>()
    });
    docker.start_container("speaker", None::<StartContainerOptions>).await.unwrap();

    let logs = LogsOptionsBuilder::default().stdout(true).stderr(true).follow(true).build();
    let lines: Vec<LogOutput> = docker.logs("speaker", Some(logs)).take(2).try_collect().await.unwrap();
    let mut lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
    lines.sort();
    assert_eq!(lines, ["first\n", "second\n"]);

    let inspected = docker.inspect_container("speaker", None::<InspectContainerOptions>).await.unwrap();
    assert_eq!(inspected.id.as_deref(), Some(id.as_str()));
    assert_eq!(inspected.state.unwrap().status, Some(ContainerStateStatusEnum::RUNNING));
    assert_eq!(inspected.host_config.unwrap().memory, Some(64 << 20));

    counts(&docker).await;
    executes(&docker).await;

    let top = docker.top_processes("speaker", None::<bollard::query_parameters::TopOptions>).await.unwrap();
    assert_eq!(top.titles.unwrap().last().map(String::as_str), Some("CMD"));
    docker.stop_container("speaker", None::<bollard::query_parameters::StopContainerOptions>).await.unwrap();
    match waiting.await.unwrap() {
        Err(Error::DockerContainerWaitError { code, .. }) => assert_eq!(code, 3),
        other => panic!("{other:?}"),
    }
    remove(&docker, "speaker").await;
}

async fn counts(docker: &Docker) {
    let stream = StatsOptionsBuilder::default().stream(true).build();
    let counted: Vec<_> =
        docker.stats("speaker", Some(stream)).take(2).try_collect().await.expect("statistics");
    let memory = counted[1].memory_stats.clone().expect("memory");
    assert!(memory.usage > Some(0) && memory.limit == Some(64 << 20), "{memory:?}");
    assert_eq!(counted[1].precpu_stats, counted[0].cpu_stats);
    assert!(counted[1].pids_stats.clone().is_some_and(|pids| pids.current > Some(0)));
}

async fn executes(docker: &Docker) {
    let command = CreateExecOptions {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(vec!["sh", "-c", "cat; echo done >&2; exit 5"]),
        ..CreateExecOptions::default()
    };
    let exec = docker.create_exec("speaker", command).await.expect("an exec").id;
    let StartExecResults::Attached { output, mut input } =
        docker.start_exec(&exec, None).await.expect("a start")
    else {
        panic!("not attached");
    };
    input.write_all(b"typed\n").await.expect("it reads");
    input.shutdown().await.expect("half a connection closes");
    assert_eq!(spoken(output).await, ("typed\n".to_owned(), "done\n".to_owned()));
    let inspected = docker.inspect_exec(&exec).await.expect("an exec");
    assert_eq!((inspected.running, inspected.exit_code), (Some(false), Some(5)));
    assert_eq!(status(&docker.inspect_exec("nosuch").await.expect_err("there is none")), 404);
}

#[tokio::test]
async fn a_client_is_attached_to_a_pipe_and_to_a_terminal() {
    let Some(host) = Host::start() else { return };
    let docker = connect(&host);
    for (name, tty, heard) in
        [("pipe", false, ("heard you\n", "over\n")), ("terminal", true, ("you\r\nheard you\r\nover\r\n", ""))]
    {
        let body = ContainerCreateBody {
            cmd: words(&["sh", "-c", "read line; echo heard $line; echo over >&2; exit 4"]),
            tty: Some(tty),
            open_stdin: Some(true),
            stdin_once: Some(true),
            ..ContainerCreateBody::default()
        };
        create(&docker, name, body).await;
        let all = AttachContainerOptionsBuilder::default().stdin(true).stdout(true).stderr(true).stream(true);
        let mut attached = docker.attach_container(name, Some(all.build())).await.unwrap();
        docker.start_container(name, None::<StartContainerOptions>).await.unwrap();
        attached.input.write_all(b"you\n").await.unwrap();
        let (stdout, stderr) = spoken(attached.output).await;
        assert_eq!((stdout.as_str(), stderr.as_str()), heard, "{name}");
        remove(&docker, name).await;
    }
}

#[tokio::test]
async fn containers_are_found_by_filters_and_leave_events_behind() {
    let Some(host) = Host::start() else { return };
    let docker = connect(&host);
    for name in ["one", "two"] {
        let labels = Some(HashMap::from([("name".to_owned(), name.to_owned())]));
        create(&docker, name, ContainerCreateBody { labels, cmd: words(&["true"]), ..Default::default() })
            .await;
    }
    let info = docker.info().await.unwrap();
    assert_eq!((info.containers, info.containers_running, info.images), (Some(2), Some(0), Some(2)));
    assert_eq!(docker.version().await.unwrap().os.as_deref(), Some("linux"));
    assert_eq!(docker.ping().await.unwrap(), "OK");

    let filters = HashMap::from([("label", vec!["name=two"]), ("status", vec!["created"])]);
    let wanted = ListContainersOptionsBuilder::default().all(true).size(true).filters(&filters).build();
    let [two] = &docker.list_containers(Some(wanted)).await.unwrap()[..] else { panic!("not one") };
    assert_eq!((two.names.clone().unwrap(), two.size_rw), (vec!["/two".to_owned()], Some(0)));

    let again = CreateContainerOptionsBuilder::default().name("two").build();
    let body = ContainerCreateBody { image: Some("busybox".to_owned()), ..ContainerCreateBody::default() };
    assert_eq!(status(&docker.create_container(Some(again), body).await.unwrap_err()), 409);
    let missing = docker.inspect_container("nosuch", None::<InspectContainerOptions>).await.unwrap_err();
    assert_eq!(status(&missing), 404);

    remove(&docker, "one").await;
    remove(&docker, "two").await;
    // "until" is a whole second, and what happened in it comes after it.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let filters = HashMap::from([("type", vec!["container"]), ("container", vec!["two"])]);
    let until = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let past = EventsOptionsBuilder::default().since("1").until(&until.to_string()).filters(&filters).build();
    let events: Vec<EventMessage> = docker.events(Some(past)).try_collect().await.unwrap();
    let actions: Vec<_> = events.iter().filter_map(|event| event.action.as_deref()).collect();
    assert_eq!(actions, ["create", "destroy"]);
}
