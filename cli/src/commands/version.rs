//! `berth version`: our version and the daemon's.

use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::{API_VERSION, Client};
use crate::format::ObjectFormat;
use crate::host::HostError;
use crate::outcome::{Failure, Outcome};
use crate::output::print;

/// Show the version information of client and daemon
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth version
  berth version -f '{{.Server.Version}}'")]
pub(crate) struct Arguments {
    /// Format output: 'json' or a template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

/// What is shown of the daemon's answer.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Server {
    platform: Platform,
    version: String,
    api_version: String,
    #[serde(rename = "MinAPIVersion")]
    min_api_version: String,
    git_commit: String,
    os: String,
    arch: String,
    kernel_version: String,
    build_time: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Platform {
    name: String,
}

/// The client's half is shown even when there is no daemon to ask; that the daemon is missing is still a failure.
pub(super) async fn execute(arguments: &Arguments, client: Result<Client, HostError>) -> Outcome {
    let format = arguments.format.as_deref().map(ObjectFormat::parse).transpose()?;
    let (server, failure) = match ask(client).await {
        Ok(server) => (server, None),
        Err(failure) => (Value::Null, Some(failure)),
    };
    let text = match format {
        Some(format) => format.render(&json!({ "Client": client_facts(), "Server": server }))?,
        None => show(&server)?,
    };
    print(&text)?;
    failure.map_or(Ok(0), Err)
}

async fn ask(client: Result<Client, HostError>) -> Result<Value, Failure> {
    let bytes = client?.daemon_version().await?;
    serde_json::from_slice(&bytes).map_err(|error| nonsense(&error))
}

fn nonsense(error: &serde_json::Error) -> Failure {
    Failure::Usage(format!("the daemon's answer to version makes no sense: {error}"))
}

fn client_facts() -> Value {
    json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": API_VERSION,
        "Os": os(),
        "Arch": architecture(),
    })
}

/// This system's name as images and Docker spell it.
fn os() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        os => os,
    }
}

/// This processor's name as images and Docker spell it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        architecture => architecture,
    }
}

fn show(server: &Value) -> Result<String, Failure> {
    let platform = format!("{}/{}", os(), architecture());
    let version = env!("CARGO_PKG_VERSION");
    let client = section(
        "Client: Berth",
        &[("Version", version), ("API version", API_VERSION), ("OS/Arch", &platform)],
    );
    if server.is_null() {
        return Ok(client);
    }
    let server: Server = serde_json::from_value(server.clone()).map_err(|error| nonsense(&error))?;
    let name = if server.platform.name.is_empty() {
        "Server:".to_owned()
    } else {
        format!("Server: {}", server.platform.name)
    };
    let api_version = format!("{} (minimum version {})", server.api_version, server.min_api_version);
    let platform = format!("{}/{}", server.os, server.arch);
    let facts = [
        ("Version", server.version.as_str()),
        ("API version", &api_version),
        ("Git commit", &server.git_commit),
        ("Built", &server.build_time),
        ("OS/Arch", &platform),
        ("Kernel version", &server.kernel_version),
    ];
    Ok(format!("{client}\n{}", section(&name, &facts)))
}

/// A heading and its facts under each other; what is unknown is left out.
fn section(heading: &str, facts: &[(&str, &str)]) -> String {
    let lines = facts.iter().filter(|(_, value)| !value.is_empty());
    let lines = lines.map(|(name, value)| format!(" {:<18} {value}\n", format!("{name}:")));
    format!("{heading}\n{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_are_shown_and_the_unknown_is_left_out() {
        let text = show(&json!({"Version": "9", "ApiVersion": "1.51", "MinAPIVersion": "1.24", "Os": "linux", "Arch": "amd64"})).unwrap();
        assert!(text.starts_with("Client: Berth\n Version:           "), "{text}");
        assert!(
            text.contains(
                "\n\nServer:\n Version:           9\n API version:       1.51 (minimum version 1.24)\n"
            ),
            "{text}"
        );
        assert!(!text.contains("Built"), "{text}");
    }

    #[test]
    fn without_a_daemon_there_is_only_the_client() {
        assert!(!show(&Value::Null).unwrap().contains("Server"));
    }
}
