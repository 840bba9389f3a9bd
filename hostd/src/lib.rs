//! The host daemon: answers the Docker Engine API, keeps images and containers, runs each container in a machine.
//!
//! The binary is `src/main.rs`. Dependencies go one way: `api` -> `engine` -> `image`, `logs`, `agent_client`,
//! `machine`; only `api` knows of HTTP.

pub mod accelerator;
pub mod api;
pub mod config;
pub mod database;
pub mod engine;
pub mod image;
pub mod roots;

mod agent_client;
mod logs;
mod machine;
