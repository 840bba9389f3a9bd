//! `berth port`: where a container's ports are published.

use std::collections::BTreeMap;

use clap::Args;

use crate::client::{Client, PublishedPort};
use crate::outcome::{Failure, Outcome};
use crate::output::print;

/// List port mappings or a specific mapping for the container
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth port web
  berth port web 80/tcp")]
pub(crate) struct Arguments {
    container: String,
    /// One port of the container's, tcp unless it says otherwise
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<String>,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let ports = client.container(&arguments.container).await?.network_settings.ports;
    let lines = match &arguments.port {
        None => all(&ports),
        Some(port) => one(&ports, port).ok_or_else(|| {
            Failure::Usage(format!("no public port '{port}' published for {}", arguments.container))
        })?,
    };
    print(&lines)?;
    Ok(0)
}

type Ports = BTreeMap<String, Option<Vec<PublishedPort>>>;

fn all(ports: &Ports) -> String {
    let published = ports.iter().flat_map(|(port, bindings)| {
        bindings.iter().flatten().map(move |binding| format!("{port} -> {}\n", address(binding)))
    });
    published.collect()
}

fn one(ports: &Ports, port: &str) -> Option<String> {
    let port = if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") };
    let bindings = ports.get(&port)?.as_ref().filter(|bindings| !bindings.is_empty())?;
    Some(bindings.iter().map(|binding| format!("{}\n", address(binding))).collect())
}

fn address(binding: &PublishedPort) -> String {
    let PublishedPort { host_ip, host_port } = binding;
    if host_ip.contains(':') { format!("[{host_ip}]:{host_port}") } else { format!("{host_ip}:{host_port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_show_as_dockers_do() {
        let binding = |ip: &str| PublishedPort { host_ip: ip.to_owned(), host_port: "8080".to_owned() };
        let ports = BTreeMap::from([
            ("80/tcp".to_owned(), Some(vec![binding("0.0.0.0"), binding("::")])),
            ("443/tcp".to_owned(), None),
        ]);
        assert_eq!(all(&ports), "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n");
        assert_eq!(one(&ports, "80").as_deref(), Some("0.0.0.0:8080\n[::]:8080\n"));
        assert_eq!((one(&ports, "443"), one(&ports, "80/udp")), (None, None));
    }
}
