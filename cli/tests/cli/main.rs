//! The real `berth` against a fake daemon: one test binary, one file per side of it.

#![cfg(unix)]

mod images;
mod networks;
mod registries;
mod run;
mod support;
mod terminal;
mod verbs;
mod volumes;
