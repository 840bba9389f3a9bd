//! Mistakes one by one, with what they are answered.

use axum::http::Method;

use super::{CONTAINER, daemon, failure, remains};

const JSON: Option<&str> = Some("application/json");

/// Bodies of `POST /containers/create`: status and beginning of the message.
const CREATE: &[(&str, u16, &str)] = &[
    ("", 400, "invalid JSON: got EOF while reading request body"),
    ("  ", 400, "invalid JSON: got EOF while reading request body"),
    ("{}", 400, "config cannot be empty in order to create a container"),
    ("null", 400, "config cannot be empty in order to create a container"),
    (r#"{"HostConfig":{}}"#, 400, "config cannot be empty in order to create a container"),
    ("[]", 400, "invalid JSON: "),
    ("5", 400, "invalid JSON: "),
    ("{", 400, "invalid JSON: unexpected EOF"),
    (r#"{"Image":"one"} x"#, 400, "unexpected content after JSON"),
    (r#"{"Image":"one"}{}"#, 400, "unexpected content after JSON"),
    (r#"{"Image":5}"#, 400, "invalid JSON: Image: "),
    (r#"{"Image":"one","Env":"A=1"}"#, 400, "invalid JSON: Env: "),
    (r#"{"Image":"one","Env":[1]}"#, 400, "invalid JSON: Env.0: "),
    (r#"{"Image":"one","Tty":"yes"}"#, 400, "invalid JSON: Tty: "),
    (r#"{"Image":"one","Labels":{"a":1}}"#, 400, "invalid JSON: Labels.a: "),
    (r#"{"Image":"one","Cmd":{"a":1}}"#, 400, "invalid JSON: Cmd: "),
    (r#"{"Image":"one","HostConfig":[]}"#, 400, "invalid JSON: HostConfig"),
    (r#"{"Image":"one","HostConfig":{"Memory":"1g"}}"#, 400, "invalid JSON: HostConfig.Memory: "),
    (r#"{"Image":"one","HostConfig":{"Memory":1.5}}"#, 400, "invalid JSON: HostConfig.Memory: "),
    (r#"{"Image":"one","HostConfig":{"Memory":1e30}}"#, 400, "invalid JSON: HostConfig.Memory: "),
    (r#"{"Image":"one","HostConfig":{"Memory":-1}}"#, 400, "Minimum memory limit allowed is 6MB"),
    (r#"{"Image":"one","HostConfig":{"BlkioWeight":-5}}"#, 400, "invalid JSON: HostConfig.BlkioWeight: "),
    (r#"{"Image":"one","HostConfig":{"BlkioWeight":70000}}"#, 400, "invalid JSON: HostConfig.BlkioWeight: "),
    (r#"{"Image":"one","HostConfig":{"CpuPeriod":-5}}"#, 400, "CPU cfs period can not be less than 1ms"),
    (r#"{"Image":"one","HostConfig":{"ShmSize":-5}}"#, 400, "SHM size can not be less than 0"),
    (
        r#"{"Image":"one","HostConfig":{"OomScoreAdj":2000}}"#,
        400,
        "Invalid value 2000, range for oom score adj",
    ),
    (
        r#"{"Image":"one","HostConfig":{"ConsoleSize":[-1,5]}}"#,
        400,
        "invalid JSON: HostConfig.ConsoleSize.0: ",
    ),
    (
        r#"{"Image":"one","HostConfig":{"RestartPolicy":{"Name":"x"}}}"#,
        400,
        "invalid restart policy: unknown policy 'x'",
    ),
    (
        r#"{"Image":"one","HostConfig":{"RestartPolicy":{"Name":"always"},"AutoRemove":true}}"#,
        400,
        "can't create 'AutoRemove' container with restart policy",
    ),
    (
        r#"{"Image":"one","HostConfig":{"CapAdd":["FOO"]}}"#,
        400,
        "invalid CapAdd: unknown capability: \"CAP_FOO\"",
    ),
    (
        r#"{"Image":"one","HostConfig":{"Tmpfs":{"x":""}}}"#,
        400,
        "invalid mount config for type \"tmpfs\": invalid mount path: 'x'",
    ),
    (r#"{"Image":"one","HostConfig":{"Binds":["a:b:c:d"]}}"#, 400, "invalid volume specification: 'a:b:c:d'"),
    (
        r#"{"Image":"one","HostConfig":{"Tmpfs":{"/x":""},"Mounts":[{"Type":"tmpfs","Target":"/x"}]}}"#,
        400,
        "Duplicate mount point: /x",
    ),
    (
        r#"{"Image":"one","HostConfig":{"Mounts":[{"Type":"foo","Target":"/x"}]}}"#,
        400,
        "invalid mount config for type \"foo\": mount type unknown",
    ),
    (r#"{"Image":"one","HostConfig":{"SecurityOpt":["foo"]}}"#, 400, "invalid --security-opt 1: \"foo\""),
    (r#"{"Image":"one","HostConfig":{"SecurityOpt":["seccomp={"]}}"#, 400, ""),
    (r#"{"Image":"one","HostConfig":{"Ulimits":[{"Name":"foo"}]}}"#, 400, "invalid ulimit type: foo"),
    (r#"{"Image":"one","HostConfig":{"UTSMode":"foo"}}"#, 400, "invalid UTS mode: foo"),
    (r#"{"Image":"one","HostConfig":{"PidMode":"foo"}}"#, 400, "invalid PID mode: foo"),
    (r#"{"Image":"one","HostConfig":{"IpcMode":"foo"}}"#, 400, "invalid IPC mode: foo"),
    (
        r#"{"Image":"one","Hostname":"x","HostConfig":{"UTSMode":"host"}}"#,
        400,
        "conflicting options: hostname and the UTS mode",
    ),
    (
        r#"{"Image":"one","Healthcheck":{"Test":["CMD","x"],"Interval":-1}}"#,
        400,
        "Interval in Healthcheck cannot be less than 1ms",
    ),
    (
        r#"{"Image":"one","Healthcheck":{"Test":["CMD","x"],"Retries":-1}}"#,
        400,
        "Retries in Healthcheck cannot be negative",
    ),
    (r#"{"Image":"one","WorkingDir":"rel"}"#, 400, "the working directory 'rel' is invalid"),
    (r#"{"Image":"one","Env":["=x"]}"#, 400, "invalid environment variable: =x"),
    (r#"{"Image":"one","StopSignal":"FOO"}"#, 400, "invalid signal: FOO"),
    (r#"{"Image":"UPPER"}"#, 400, "invalid reference format"),
    (r#"{"Image":"one:no:no"}"#, 400, "invalid reference format"),
    (r#"{"Image":"../../etc"}"#, 400, "invalid reference format"),
    (r#"{"Image":"nope"}"#, 404, "No such image: nope:latest"),
    (r#"{"Cmd":["true"]}"#, 400, ""),
];

/// Queries of `POST /containers/create` with a body that is right.
const CREATE_QUERIES: &[(&str, u16, &str)] = &[
    ("name=a", 400, "Invalid container name (a), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
    ("name=-x", 400, "Invalid container name (-x), only"),
    ("name=/", 400, "Invalid container name (/), only"),
    ("name=//ab", 400, "Invalid container name (//ab), only"),
    ("name=a/b", 400, "Invalid container name (a/b), only"),
    ("name=..%2f..%2fab", 400, "Invalid container name (../../ab), only"),
    ("name=%ff%fe", 400, "Invalid container name (\u{fffd}\u{fffd}), only"),
    ("name=%zz", 400, "invalid URL escape \"%zz\""),
    ("name=ab;x=y", 400, "invalid semicolon separator in query"),
    ("name=web", 409, "Conflict. The container name \"/web\" is already in use by container \""),
    ("name=/web", 409, "Conflict. The container name \"/web\" is already in use by container \""),
    ("platform=x/y/z/w", 400, ""),
];

/// Everything else: method, path, status, beginning of the message. `{}` is the container's name.
#[rustfmt::skip]
const OTHERS: &[(&str, &str, u16, &str)] = &[
    ("GET", "/containers/json?limit=x", 400, "invalid value for limit: \"x\""),
    ("GET", "/containers/json?filters={", 400, "invalid filter"),
    ("GET", "/containers/json?filters=[]", 400, "invalid filter"),
    ("GET", "/containers/json?filters={\"status\":5}", 400, "invalid filter"),
    ("GET", "/containers/json?filters={\"status\":{\"running\":\"x\"}}", 400, "invalid filter"),
    ("GET", "/containers/json?filters={\"status\":[\"nope\"]}", 400, "invalid filter 'status=nope'"),
    ("GET", "/containers/json?filters={\"nope\":[\"x\"]}", 400, "invalid filter 'nope'"),
    ("GET", "/containers/json?filters={\"exited\":[\"x\"]}", 400, "invalid filter 'exited=x'"),
    ("GET", "/containers/json?filters={\"is-task\":[\"x\"]}", 400, "invalid filter 'is-task=[x]'"),
    ("GET", "/containers/json?a;b", 400, "invalid semicolon separator in query"),
    ("GET", "/containers/nope/json", 404, "No such container: nope"),
    ("GET", "/containers/%20/json", 404, "No such container:  "),
    ("GET", "/containers/%2e%2e/json", 404, "No such container: .."),
    ("GET", "/containers/web%2fx/json", 404, "No such container: web/x"),
    ("GET", "/containers/%00/json", 404, "No such container: \0"),
    ("GET", "/containers/%ff/json", 400, "invalid request path: /containers/%ff/json"),
    ("GET", "/containers/%zz/json", 400, "invalid URL escape \"%zz\""),
    ("GET", "/containers//json", 404, "No such container: "),
    ("GET", "/containers/web/json/", 404, "page not found"),
    ("GET", "/", 404, "page not found"),
    ("GET", "/v1.43/", 404, "page not found"),
    ("GET", "/v1.x/containers/json", 404, "page not found"),
    ("GET", "/v1.99/containers/json", 400, "client version 1.99 is too new. Maximum supported API version is 1.51"),
    ("GET", "/v1.1/containers/json", 400, "client version 1.1 is too old. Minimum supported API version is 1.24"),
    ("GET", "/v0/containers/json", 400, "client version 0 is too old."),
    ("PUT", "/containers/json", 404, "page not found"),
    ("POST", "/_ping", 404, "page not found"),
    ("FOO", "/containers/json", 404, "page not found"),
    ("DELETE", "/containers/json", 404, "No such container: json"),
    ("DELETE", "/images/prune", 404, "No such image: prune:latest"),
    ("POST", "/containers/{}/kill?signal=FOO", 400, "cannot kill container: web: invalid signal: FOO"),
    ("POST", "/containers/{}/kill?signal=-1", 400, "cannot kill container: web: invalid signal: -1"),
    ("POST", "/containers/{}/kill?signal=0", 400, "cannot kill container: web: invalid signal: 0"),
    ("POST", "/containers/{}/kill?signal=99", 400, "cannot kill container: web: invalid signal: 99"),
    ("POST", "/containers/{}/kill", 409, ""),
    ("POST", "/containers/{}/stop?t=abc", 400, "invalid value for t: \"abc\""),
    ("POST", "/containers/{}/stop?t=1.5", 400, "invalid value for t: \"1.5\""),
    ("POST", "/containers/{}/stop?signal=FOO", 400, "invalid signal: FOO"),
    ("POST", "/containers/{}/restart?t=abc", 400, "invalid value for t: \"abc\""),
    ("POST", "/containers/{}/start?checkpoint=x", 501, "starting from a checkpoint is not supported by berth yet"),
    ("POST", "/containers/{}/pause", 409, ""),
    ("POST", "/containers/{}/unpause", 409, ""),
    ("POST", "/containers/{}/rename", 400, "Neither old nor new names may be empty"),
    ("POST", "/containers/{}/rename?name=-x", 400, "Error when allocating new name: Invalid container name (/-x), only"),
    ("POST", "/containers/{}/rename?name=web", 400, "Renaming a container with the same name as its current name"),
    ("POST", "/containers/nope/rename?name=xy", 404, "No such container: nope"),
    ("POST", "/containers/{}/resize?h=-1&w=5", 400, "invalid resize height \"-1\": invalid syntax"),
    ("POST", "/containers/{}/resize?h=5", 400, "invalid resize width \"\": invalid syntax"),
    ("POST", "/containers/{}/resize?h=5&w=5", 409, ""),
    ("POST", "/containers/{}/wait?condition=foo", 400, "invalid condition: \"foo\""),
    ("GET", "/containers/{}/logs", 400, "Bad parameters: you must choose at least one stream"),
    ("GET", "/containers/{}/logs?stdout=1&since=x", 400, "invalid value for since: \"x\""),
    ("GET", "/containers/{}/logs?stdout=1&until=x", 400, "invalid value for until: \"x\""),
    ("GET", "/containers/{}/top", 409, ""),
    ("GET", "/containers/{}/stats?one-shot=1", 400, "cannot have stream=true and one-shot=true"),
    ("POST", "/containers/{}/attach?detachKeys=foo", 400, "Invalid detach keys (foo) provided"),
    ("GET", "/containers/nope/attach/ws", 404, "No such container: nope"),
    ("GET", "/containers/{}/attach/ws", 400, "not websocket protocol: "),
    ("POST", "/containers/{}/exec", 400, "No exec command specified"),
    ("GET", "/containers/{}/checkpoints", 501, "GET /containers/{id}/checkpoints is not supported by berth yet"),
    ("DELETE", "/containers/{}/checkpoints/x", 501, "DELETE /containers/{id}/checkpoints/{checkpoint} is not supported"),
    ("POST", "/exec/nope/start", 404, "No such exec instance: nope"),
    ("POST", "/exec/nope/resize?h=1&w=1", 404, "No such exec instance: nope"),
    ("GET", "/exec/nope/json", 404, "No such exec instance: nope"),
    ("DELETE", "/containers/nope", 404, "No such container: nope"),
    ("DELETE", "/containers/nope?link=1", 404, "No such container: nope"),
    ("DELETE", "/containers/{}?link=1", 409, "Conflict, cannot remove the default link name of the container"),
    ("POST", "/containers/prune?filters={", 400, "invalid filter"),
    ("POST", "/containers/prune?filters={\"nope\":[\"x\"]}", 400, "invalid filter 'nope'"),
    ("POST", "/containers/prune?filters={\"until\":[\"x\"]}", 400, ""),
    ("GET", "/events?since=x", 400, "invalid value for since: \"x\""),
    ("GET", "/events?until=x", 400, "invalid value for until: \"x\""),
    ("GET", "/events?filters={", 400, "invalid filter"),
    ("GET", "/images/json?filters={", 400, "invalid filter"),
    ("GET", "/images/json?filters={\"dangling\":[\"x\"]}", 400, "invalid filter 'dangling=[x]'"),
    ("GET", "/images/UPPER/json", 400, "invalid reference format"),
    ("GET", "/images/nope/json", 404, "No such image: nope"),
    ("POST", "/images/one/tag", 400, "invalid reference format"),
    ("POST", "/images/one/tag?repo=UPPER", 400, "invalid reference format"),
    ("POST", "/images/nope/tag?repo=a", 404, "No such image: nope"),
    ("GET", "/images/search?term=x&limit=x", 400, "invalid value for limit: \"x\""),
    ("GET", "/images/get?names=nope", 404, "No such image: nope"),
    ("GET", "/distribution/UPPER/json", 400, "invalid reference format"),
    ("GET", "/plugins?filters={", 400, "invalid filter"),
    ("GET", "/plugins/a/b/json", 404, "plugin \"a/b\" not found"),
    ("POST", "/plugins/nope/enable", 404, "plugin \"nope\" not found"),
    ("GET", "/swarm", 503, "This node is not a swarm manager."),
    ("GET", "/nodes/x", 503, "This node is not a swarm manager."),
    ("POST", "/services/create", 503, "This node is not a swarm manager."),
    ("POST", "/swarm/leave", 503, "This node is not part of a swarm"),
    ("POST", "/swarm/init", 501, "POST /swarm/init is not supported by berth yet"),
];

/// Bodies of other endpoints.
#[rustfmt::skip]
const BODIES: &[(&str, &str, u16, &str)] = &[
    ("/containers/web/update", r#"{"Memory":5}"#, 400, "Minimum memory limit allowed is 6MB"),
    ("/containers/web/update", r#"{"Memory":"x"}"#, 400, "invalid JSON: Memory: "),
    ("/containers/web/update", r#"{"RestartPolicy":5}"#, 400, "invalid JSON: RestartPolicy: "),
    ("/containers/web/update", r#"{"RestartPolicy":{"Name":"x"}}"#, 400, "invalid restart policy: unknown policy 'x'"),
    ("/containers/web/update", "[]", 400, "invalid JSON: "),
    ("/containers/nope/update", "{}", 404, "No such container: nope"),
    ("/containers/web/exec", "{}", 400, "No exec command specified"),
    ("/containers/web/exec", r#"{"Cmd":"true"}"#, 400, "invalid JSON: Cmd: "),
    ("/containers/web/exec", r#"{"Cmd":["true"],"Env":["=x"]}"#, 400, "invalid environment variable: =x"),
    ("/containers/web/exec", r#"{"Cmd":["true"],"DetachKeys":"foo"}"#, 400, "Invalid detach keys (foo) provided"),
    ("/containers/web/exec", r#"{"Cmd":["true"]}"#, 409, ""),
    ("/containers/nope/exec", r#"{"Cmd":["true"]}"#, 404, "No such container: nope"),
    ("/exec/nope/start", r#"{"Detach":"x"}"#, 400, "invalid JSON: Detach: "),
    ("/auth", "5", 400, "invalid JSON: "),
    ("/auth", r#"{"username":5}"#, 400, "invalid JSON: username: "),
];

fn escaped(target: &str) -> String {
    target
        .chars()
        .map(|c| if "{}\"[]".contains(c) { format!("%{:02X}", u32::from(c)) } else { c.to_string() })
        .collect()
}

/// What of an answer is not as expected.
fn difference(found: &(u16, Option<String>), status: u16, text: &str, what: &str) -> Option<String> {
    let fits = found.0 == status && found.1.as_deref().unwrap_or_default().starts_with(text);
    (!fits).then(|| format!("{what:.100}: {found:?} instead of {status} {text}"))
}

#[tokio::test]
async fn each_mistake_has_its_answer_and_leaves_nothing() {
    let daemon = daemon().await;
    let before = remains(&daemon).await;
    let post = Method::POST;
    let mut differences = Vec::new();
    for (body, status, text) in CREATE {
        let found = failure(&daemon, &post, "/containers/create?name=taken", JSON, *body).await;
        differences.extend(difference(&found, *status, text, body));
    }
    for (query, status, text) in CREATE_QUERIES {
        let target = format!("/containers/create?{query}");
        let found = failure(&daemon, &post, &target, JSON, r#"{"Image":"one"}"#).await;
        differences.extend(difference(&found, *status, text, query));
    }
    for (method, target, status, text) in OTHERS {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let target = target.replace("{}", CONTAINER);
        let found = failure(&daemon, &method, &escaped(&target), None, "").await;
        differences.extend(difference(&found, *status, text, &target));
    }
    for (target, body, status, text) in BODIES {
        let found = failure(&daemon, &post, target, JSON, *body).await;
        differences.extend(difference(&found, *status, text, &format!("{target} {body}")));
    }
    assert!(differences.is_empty(), "{differences:#?}");
    assert_eq!(remains(&daemon).await, before);
    // The name that every failed creation asked for is free.
    let created = failure(&daemon, &post, "/containers/create?name=taken", JSON, r#"{"Image":"one"}"#).await;
    assert_eq!(created, (201, None));
}

#[tokio::test]
async fn a_body_that_is_no_json_is_refused_whatever_it_is_for() {
    let daemon = daemon().await;
    let nested = "[".repeat(20_000);
    let with_key = r#"{"a":"#.repeat(20_000);
    let huge = format!(r#"{{"Image":"one","Env":["{}"]}}"#, "x".repeat(5 << 20));
    let mut differences = Vec::new();
    for target in
        ["/containers/create", "/containers/web/update", "/containers/web/exec", "/exec/x/start", "/auth"]
    {
        for (content_type, body, status, text) in [
            (JSON, nested.as_bytes(), 400, "invalid JSON: recursion limit exceeded"),
            (JSON, with_key.as_bytes(), 400, "invalid JSON: recursion limit exceeded"),
            (JSON, huge.as_bytes(), 413, "the request body is larger than 4 MiB"),
            (JSON, b"{\"Image\":\"\xff\"}", 400, "invalid JSON: "),
            (
                Some("text/plain"),
                b"{}",
                400,
                "unsupported Content-Type header (text/plain): must be 'application/json'",
            ),
            (
                Some("text/plain"),
                b"",
                400,
                "unsupported Content-Type header (text/plain): must be 'application/json'",
            ),
            (Some("application/"), b"{}", 400, "malformed Content-Type header (application/): mime: "),
            (None, b"{}", 400, "malformed Content-Type header (): mime: no media type"),
        ] {
            let found = failure(&daemon, &Method::POST, target, content_type, body.to_vec()).await;
            differences.extend(difference(&found, status, text, target));
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
}

#[tokio::test]
async fn only_ping_and_archives_have_heads_and_options_are_always_fine() {
    let daemon = daemon().await;
    for (method, target, status) in [
        (Method::HEAD, "/_ping", 200),
        (Method::HEAD, "/containers/json", 404),
        (Method::HEAD, "/containers/web/json", 404),
        (Method::HEAD, "/containers/web/export", 404),
        (Method::OPTIONS, "/containers/json", 200),
        (Method::OPTIONS, "/nowhere", 200),
    ] {
        assert_eq!(failure(&daemon, &method, target, None, "").await, (status, None), "{method} {target}");
    }
}

#[tokio::test]
async fn a_container_may_be_called_as_a_verb() {
    let daemon = daemon().await;
    let body = r#"{"Image":"one"}"#;
    for name in ["json", "create", "prune"] {
        let target = format!("/containers/create?name={name}");
        assert_eq!(failure(&daemon, &Method::POST, &target, JSON, body).await.0, 201);
        assert_eq!(
            failure(&daemon, &Method::DELETE, &format!("/containers/{name}"), None, "").await,
            (204, None)
        );
    }
}

#[tokio::test]
async fn the_beginning_of_two_ids_means_neither() {
    let daemon = daemon().await;
    // Of 17 ids, two begin with the same digit.
    for _ in 0..16 {
        let created = failure(&daemon, &Method::POST, "/containers/create", JSON, r#"{"Image":"one"}"#).await;
        assert_eq!(created.0, 201);
    }
    let digits = ('0'..='9').chain('a'..='f');
    let mut messages = Vec::new();
    for digit in digits {
        messages.push((
            digit,
            failure(&daemon, &Method::GET, &format!("/containers/{digit}/json"), None, "").await,
        ));
    }
    let ambiguous = |digit| (400, Some(format!("multiple IDs found with provided prefix: {digit}")));
    assert!(messages.iter().any(|(digit, found)| *found == ambiguous(digit)), "{messages:?}");
}

#[tokio::test]
async fn a_start_takes_no_body() {
    let daemon = daemon().await;
    let request = axum::http::Request::post("/containers/web/start").header("content-length", "20");
    let response = daemon.api.answer(request.body(axum::body::Body::from("x".repeat(20))).unwrap()).await;
    assert_eq!(response.status(), 400);
}
