//! Whatever a client sends: no panic, no failure of the daemon's own, always a message, nothing left behind.

use axum::http::Method;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{daemon, failure, remains};
use crate::api::tests::TestDaemon;

/// Requests per property: each is a fraction of a millisecond.
const CASES: u32 = 400;

/// Fields that the specification knows, so that most of a request is looked at.
fn known_fields() -> Vec<String> {
    let specification: Value =
        serde_json::from_str(include_str!("../coverage/specification_1.51.json")).unwrap();
    let requests = specification["requests"].as_array().unwrap().iter();
    requests.map(|request| request["field"].as_str().unwrap().to_owned()).collect()
}

/// Values that the specification's examples have.
fn likely_values() -> Vec<Value> {
    let specification: Value =
        serde_json::from_str(include_str!("../coverage/specification_1.51.json")).unwrap();
    let requests = specification["requests"].as_array().unwrap().iter();
    requests.map(|request| request["value"].clone()).collect()
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-3_i64..3).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        "[a-z/:=,0-9.-]{0,12}".prop_map(Value::from),
        prop::sample::select(likely_values()),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[A-Za-z/]{0,8}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// A create request with some fields set to anything.
fn create_request() -> impl Strategy<Value = Value> {
    prop::collection::vec((prop::sample::select(known_fields()), value()), 1..4).prop_map(|fields| {
        let mut request = json!({ "Image": "one" });
        for (field, value) in fields {
            match field.split_once('.') {
                Some((object, name)) => {
                    if !request[object].is_object() {
                        request[object] = json!({});
                    }
                    request[object][name] = value;
                }
                None => request[&field] = value,
            }
        }
        request
    })
}

/// What stands in `HostConfig`, for an update; and what an exec knows.
fn flat_request() -> impl Strategy<Value = Value> {
    let exec =
        ["Cmd", "Env", "User", "Tty", "WorkingDir", "ConsoleSize", "DetachKeys", "AttachStdin", "Detach"];
    let names =
        known_fields().into_iter().filter_map(|field| Some(field.strip_prefix("HostConfig.")?.to_owned()));
    let names: Vec<String> = names.chain(exec.map(str::to_owned)).collect();
    prop::collection::vec((prop::sample::select(names), value()), 0..5)
        .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>()))
}

/// Endpoints without a machine, a registry or a body of any length behind them.
fn endpoint() -> impl Strategy<Value = (Method, String)> {
    let specification: Value =
        serde_json::from_str(include_str!("../coverage/specification_1.51.json")).unwrap();
    let endpoints =
        specification["endpoints"].as_array().unwrap().iter().map(|endpoint| endpoint.as_str().unwrap());
    let heavy = [
        "/start",
        "/restart",
        "/export",
        "/archive",
        "/changes",
        "/commit",
        "/images/",
        "/distribution",
        "/auth",
    ];
    let light = endpoints.filter(|endpoint| !heavy.iter().any(|heavy| endpoint.contains(heavy)));
    let split = light.map(|endpoint| {
        let (method, path) = endpoint.split_once(' ').unwrap();
        (method.parse().unwrap(), path.to_owned())
    });
    prop::sample::select(split.collect::<Vec<(Method, String)>>())
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("nope".to_owned()),
        Just("%2e%2e".to_owned()),
        "[a-z0-9%/_.-]{0,6}",
        prop::collection::vec(any::<u8>(), 1..6)
            .prop_map(|bytes| bytes.iter().map(|byte| format!("%{byte:02x}")).collect()),
    ]
}

#[rustfmt::skip]
const PARAMETERS: &[&str] = &[
    "all", "limit", "filters", "t", "signal", "h", "w", "tail", "since", "until", "condition", "name", "force", "v",
    "stdout", "follow", "ps_args", "stream", "one-shot", "detachKeys", "size", "type", "platform", "logs",
];

fn query() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        Just("1".to_owned()),
        "[0-9.-]{1,20}",
        "[ -~]{0,8}".prop_map(|text| text.bytes().map(|byte| format!("%{byte:02x}")).collect()),
        value().prop_map(|value| value.to_string().bytes().map(|byte| format!("%{byte:02x}")).collect()),
        "[a-z%=]{0,5}",
    ];
    prop::collection::vec((prop::sample::select(PARAMETERS), text), 0..4).prop_map(|pairs| {
        pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
    })
}

/// Not the daemon's fault: "not yet" and "not here" are answers.
fn is_no_failure(status: u16) -> bool {
    status < 500 || status == 501 || status == 503
}

/// Runs `ask` for many values on one daemon, and looks at what is left at the end.
fn for_many<T: std::fmt::Debug>(values: &impl Strategy<Value = T>, ask: &impl AsyncFn(&TestDaemon, T)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let daemon = runtime.block_on(daemon());
    let before = runtime.block_on(remains(&daemon));
    let config = ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
    let ran = proptest::test_runner::TestRunner::new(config).run(values, |value| {
        runtime.block_on(ask(&daemon, value));
        Ok(())
    });
    ran.unwrap();
    runtime.block_on(async {
        daemon.engine.finish_endings().await;
        assert_eq!(remains(&daemon).await, before);
    });
}

#[test]
fn no_create_request_breaks_the_daemon() {
    for_many(&create_request(), &async |daemon, request| {
        let target = "/containers/create?name=made";
        let (status, message) =
            failure(daemon, &Method::POST, target, Some("application/json"), request.to_string()).await;
        assert!(is_no_failure(status), "{status} {message:?} to {request}");
        // Whether it was made shows by whether there is something to remove.
        let removed = failure(daemon, &Method::DELETE, "/containers/made", None, "").await.0;
        assert_eq!(removed, if status == 201 { 204 } else { 404 }, "{request}");
    });
}

#[test]
fn no_update_or_exec_request_breaks_the_daemon() {
    for_many(&flat_request(), &async |daemon, request| {
        for target in ["/containers/web/update", "/containers/web/exec", "/exec/nope/start"] {
            let body = request.to_string();
            let (status, message) =
                failure(daemon, &Method::POST, target, Some("application/json"), body).await;
            assert!(is_no_failure(status), "{status} {message:?} to {target} {request}");
        }
    });
}

#[test]
fn no_path_or_query_breaks_the_daemon() {
    for_many(&(endpoint(), name(), query()), &async |daemon, ((method, path), name, query)| {
        let path = path.replace("{id}", &name).replace("{name}", &name);
        let target = format!("/v1.51{path}?{query}");
        if target.parse::<axum::http::Uri>().is_err() {
            return;
        }
        // A prune of all and a rename are what they are asked for; this container stays as it is.
        let changes = path.ends_with("/prune") || path.ends_with("/create");
        if changes || name.starts_with("web") {
            return;
        }
        let (status, message) = failure(daemon, &method, &target, None, "").await;
        assert!(is_no_failure(status), "{status} {message:?} to {method} {target}");
    });
}
