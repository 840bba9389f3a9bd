//! `docs/api-coverage.md`: which endpoints and which fields of a create request the daemon knows, compared with the
//! specification's and written down. Test code; what replies look like is for `replies`.

mod page;
mod replies;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use axum::body::Body;
use axum::http::{Method, Request, header};
use serde::Deserialize;

use super::containers::coverage::{Example, Outcome, known_fields};
use super::tests::TestDaemon;
use super::{absent, missing};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/api-coverage.md");
/// Set, the test writes the page instead of comparing it.
const REWRITE: &str = "BERTH_REWRITE_API_COVERAGE";

/// The facts of version 1.51, each with a request that asks for something else than the default.
#[derive(Deserialize)]
struct Specification {
    /// "METHOD /path"
    endpoints: Vec<String>,
    /// Berth's own, and those of Docker that the specification leaves out.
    endpoints_beyond: Vec<String>,
    requests: Vec<Example>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    Answers,
    /// That this host has none of it.
    Absent,
    NotYet,
    /// "page not found"
    Unknown,
}

fn specification() -> Specification {
    serde_json::from_str(include_str!("specification_1.51.json")).unwrap()
}

/// Asks the router; no handler is called.
async fn state(daemon: &TestDaemon, endpoint: &str) -> Endpoint {
    let (method, path) = endpoint.split_once(' ').unwrap();
    let method: Method = method.parse().unwrap();
    if missing::endpoints().any(|(missing, its_path)| missing == method && its_path == path) {
        return Endpoint::NotYet;
    }
    let is_absent = absent::endpoints().any(|(absent, its_path)| absent == method && its_path == path);
    // What no endpoint takes is answered with the methods that the path's endpoints do take.
    let path = path.replace("{id}", "x").replace("{name}", "x").replace("{checkpoint}", "x");
    let nobody = Method::from_bytes(b"NOBODY").unwrap();
    let request = Request::builder().method(nobody).uri(path).body(Body::empty()).unwrap();
    let answer = daemon.api.answer(request).await;
    let allowed = answer.headers().get(header::ALLOW).map(|value| value.to_str().unwrap().to_owned());
    let methods = allowed.unwrap_or_default();
    if methods.split(',').any(|allowed| allowed.trim() == method.as_str()) {
        if is_absent { Endpoint::Absent } else { Endpoint::Answers }
    } else {
        Endpoint::Unknown
    }
}

async fn states(daemon: &TestDaemon, endpoints: Vec<String>) -> Vec<(String, Endpoint)> {
    let mut states = Vec::new();
    for endpoint in endpoints {
        let state = state(daemon, &endpoint).await;
        states.push((endpoint, state));
    }
    states
}

/// Paths as the two tables of routes have them.
fn routed_paths() -> BTreeSet<&'static str> {
    let table = include_str!("../mod.rs").lines();
    let routes = table.filter_map(|line| line.trim().strip_prefix(".route(\""));
    let answering = routes.map(|rest| rest.split('"').next().unwrap());
    answering.chain(missing::endpoints().chain(absent::endpoints()).map(|(_, path)| path)).collect()
}

#[tokio::test]
async fn no_endpoint_is_unknown_and_none_is_unlisted() {
    let specification = specification();
    let mut endpoints = specification.endpoints;
    endpoints.extend(specification.endpoints_beyond);
    let listed: BTreeSet<&str> =
        endpoints.iter().map(|endpoint| endpoint.split_once(' ').unwrap().1).collect();
    assert_eq!(routed_paths(), listed, "hostd/src/api/coverage/specification_1.51.json lists every path");
    for (method, path) in missing::endpoints().chain(absent::endpoints()) {
        assert!(endpoints.contains(&format!("{method} {path}")), "{method} {path} is not listed");
    }
    let daemon = TestDaemon::start().await;
    assert_eq!(state(&daemon, "GET /nowhere").await, Endpoint::Unknown);
    assert_eq!(state(&daemon, "PUT /containers/json").await, Endpoint::Unknown);
    for (endpoint, state) in states(&daemon, endpoints).await {
        assert_ne!(state, Endpoint::Unknown, "{endpoint}");
    }
}

#[test]
fn every_field_is_acted_on_or_refused_or_warned_about() {
    let requests = specification().requests;
    let asked: BTreeSet<String> = requests.iter().map(|example| example.field.clone()).collect();
    assert_eq!(
        known_fields(),
        asked,
        "each field of the specification is known, and each known has an example"
    );
    let silent: BTreeMap<String, Outcome> = requests
        .iter()
        .map(|example| (format!("{} {}", example.field, example.value), example.outcome()))
        .filter(|(_, outcome)| matches!(outcome, Outcome::Dropped | Outcome::Invalid(_)))
        .collect();
    assert!(silent.is_empty(), "{silent:#?}");
}

#[tokio::test]
async fn the_page_is_what_the_code_says() {
    let daemon = TestDaemon::start().await;
    let specification = specification();
    let specified = states(&daemon, specification.endpoints).await;
    let beyond = states(&daemon, specification.endpoints_beyond).await;
    let page = page::page(&specified, &beyond, &specification.requests);
    if std::env::var_os(REWRITE).is_some() {
        std::fs::write(FILE, &page).unwrap();
        return;
    }
    let written = std::fs::read_to_string(Path::new(FILE)).unwrap_or_default();
    assert!(
        written == page,
        "docs/api-coverage.md is not what the code says; \
         `{REWRITE}=1 cargo test -p berthd --lib api::coverage` writes it, `git diff` shows what changed"
    );
}
