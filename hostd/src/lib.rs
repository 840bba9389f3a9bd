//! The host daemon.

pub mod database;
