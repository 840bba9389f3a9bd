//! `cargo xtask soak`: the tests that take minutes, one after the other: what comes and goes for long, and what it leaves.
//!
//! They are the ignored ones of the end-to-end tests whose names begin with `soak_`; what they say is shown as they go.

use crate::build;
use crate::compose::Compose;
use crate::images;
use crate::program;
use crate::test::{END_TO_END, Environment};
use crate::workspace::Workspace;

pub(crate) fn run(workspace: &Workspace, seconds: u32) -> anyhow::Result<()> {
    let products = build::ensure(workspace)?;
    let images = images::ensure_all(workspace)?;
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--package", END_TO_END, "--test", "e2e", "soak_", "--"]);
    cargo.args(["--ignored", "--nocapture", "--test-threads", "1"]);
    cargo.env("BERTH_TEST_SOAK_S", seconds.to_string());
    let none = || Err("the soak needs none".to_owned());
    let (python, compose) = (none(), Compose { plugin: none(), predecessor: none() });
    Environment { products: &products, images: &images, python: &python, compose: &compose }
        .give_to(&mut cargo);
    program::run(&mut cargo)
}
