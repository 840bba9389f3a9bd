//! The host's side of networks: ranges of addresses, and the links, routes and rules that carry their traffic.
//!
//! Knows neither containers nor the names that clients give to networks. Everything that is made here can be found again
//! by a daemon that starts after a crash, and nothing is touched that another program made.

pub mod addresses;
pub mod firewall;
pub mod host;
#[cfg(test)]
mod lan;
pub mod links;
pub mod names;
#[cfg(test)]
mod namespace;
pub mod parameters;
pub mod pools;
pub mod ports;
pub mod resolv_conf;
