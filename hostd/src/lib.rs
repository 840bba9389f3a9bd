//! The host daemon: answers the Docker Engine API, keeps images and containers, runs each container in a machine.
//!
//! The binary is `src/main.rs`. Dependencies go one way: `api` -> `engine` -> `image`, `logs`, `agent_client`,
//! `machine`; only `api` answers HTTP, and only `registry` asks by it.

pub mod accelerator;
pub mod api;
pub mod config;
pub mod database;
pub mod engine;
pub mod image;
pub mod registry;
pub mod roots;
pub mod seccomp;

mod agent_client;
mod logs;
mod machine;
pub mod network;
mod size;
