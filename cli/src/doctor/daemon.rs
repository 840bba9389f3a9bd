//! Whether a daemon answers, and which.

use serde_json::Value;

use super::report::Check;
use crate::client::{Client, ClientError};
use crate::host::HostError;

const NAME: &str = "daemon";

/// No daemon is no fault of the host: machines can run as soon as somebody starts one.
pub(super) async fn check(client: Result<Client, HostError>) -> Check {
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            return Check::missing(NAME, error.to_string(), "correct -H, BERTH_HOST or DOCKER_HOST");
        }
    };
    match client.daemon_version().await {
        Ok(bytes) => {
            let version: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            let field = |name: &str| version[name].as_str().unwrap_or("unknown").to_owned();
            let name = version["Platform"]["Name"].as_str().unwrap_or("daemon").to_owned();
            let (version, api) = (field("Version"), field("ApiVersion"));
            Check::ok(NAME, format!("{name} {version} (API {api}) at {}", client.host()))
        }
        Err(ClientError::Unreachable { host, source }) => Check::warning(
            NAME,
            format!("none at {host} ({source})"),
            "start berthd, or name another daemon with -H",
        ),
        Err(error) => {
            Check::warning(NAME, error.to_string(), "name another daemon with -H, or repair this one")
        }
    }
}
