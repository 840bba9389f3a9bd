//! Health of a container: what is asked of it, what is known of it, and who asks.

mod check;
mod known;
mod monitor;

pub use self::check::{Healthcheck, RESTART_UNHEALTHY_LABEL};
pub use self::known::{Health, HealthStatus, Probe};
pub(super) use self::monitor::{Checked, Monitor};
