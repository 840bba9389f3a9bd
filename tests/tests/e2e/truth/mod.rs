//! Many clients, hurried clients and clients that go away; machines that hang: nothing is lost, nothing is left, and
//! whatever is said is so.

mod crowds;
mod ends;
mod flood;
mod frozen;
mod memory;
mod storm;
mod vanishing;

use std::time::Duration;

use serde_json::Value;

/// How long `cargo xtask soak` lets each of its tests run.
fn soak_time() -> Duration {
    let seconds = std::env::var("BERTH_TEST_SOAK_S").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(300))
}

/// A string of an answer's.
#[track_caller]
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string")).to_owned()
}
