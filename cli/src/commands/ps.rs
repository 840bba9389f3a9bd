//! `berth ps`: list containers.

use clap::Args;
use jiff::Zoned;

use super::filters;
use crate::client::{Client, ContainerSummary, Port};
use crate::format::{Column, Format, Listing};
use crate::moment::{ago, created_at};
use crate::outcome::Outcome;
use crate::output::print;
use crate::reference::short_id;
use crate::table::ellipsis;

const COLUMNS: &[Column] = &[
    Column { field: "ID", header: "CONTAINER ID" },
    Column { field: "Image", header: "IMAGE" },
    Column { field: "Command", header: "COMMAND" },
    Column { field: "CreatedAt", header: "CREATED AT" },
    Column { field: "RunningFor", header: "CREATED" },
    Column { field: "Status", header: "STATUS" },
    Column { field: "State", header: "STATE" },
    Column { field: "Ports", header: "PORTS" },
    Column { field: "Names", header: "NAMES" },
    Column { field: "Labels", header: "LABELS" },
    Column { field: "Mounts", header: "MOUNTS" },
    Column { field: "Networks", header: "NETWORKS" },
];
const DEFAULT: &[&str] = &["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"];
const COMMAND_LENGTH: usize = 20;
const MOUNT_LENGTH: usize = 15;

/// List containers
#[derive(Args, Debug)]
#[command(
    visible_alias = "ls",
    after_help = "Examples:
  berth ps -a                                        Stopped ones too
  berth ps -q --filter label=app=web                 Only the ids of some
  berth ps --format 'table {{.Names}}\\t{{.Status}}'
  berth ps --format json"
)]
pub(crate) struct Arguments {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Format output: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, default_value = "table", value_name = "FORMAT")]
    format: String,
    /// Show n last created containers (includes all states)
    #[arg(short = 'n', long, value_name = "COUNT")]
    last: Option<u32>,
    /// Show the latest created container (includes all states)
    #[arg(short, long)]
    latest: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only display container IDs
    #[arg(short, long)]
    quiet: bool,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let format = Format::parse(&arguments.format)?;
    let filters = filters::encode(&arguments.filter)?;
    let limit = if arguments.latest { Some(1) } else { arguments.last };
    let containers =
        client.list_containers(arguments.all || limit.is_some(), limit, filters.as_deref()).await?;
    if arguments.quiet {
        let ids = containers.iter().map(|container| format!("{}\n", id(container, arguments.no_trunc)));
        print(&ids.collect::<String>())?;
        return Ok(0);
    }
    let now = Zoned::now();
    let rows = containers.iter().map(|container| row(container, arguments.no_trunc, &now)).collect();
    print(&Listing { columns: COLUMNS, default: DEFAULT, rows }.render(&format)?)?;
    Ok(0)
}

fn id(container: &ContainerSummary, no_trunc: bool) -> &str {
    if no_trunc { &container.id } else { short_id(&container.id) }
}

/// In the order of [`COLUMNS`].
fn row(container: &ContainerSummary, no_trunc: bool, now: &Zoned) -> Vec<String> {
    let shorten = |text: &str, length| if no_trunc { text.to_owned() } else { ellipsis(text, length) };
    let image = if container.image.starts_with("sha256:") && !no_trunc {
        short_id(&container.image).to_owned()
    } else {
        container.image.clone()
    };
    let names = container.names.iter().map(|name| name.trim_start_matches('/'));
    let labels = container.labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    let mounts = container
        .mounts
        .iter()
        .map(|mount| shorten(if mount.name.is_empty() { &mount.source } else { &mount.name }, MOUNT_LENGTH));
    let networks = container.network_settings.iter().flat_map(|settings| settings.networks.keys().cloned());
    vec![
        id(container, no_trunc).to_owned(),
        image,
        format!("{:?}", shorten(&container.command, COMMAND_LENGTH)),
        created_at(container.created, now),
        ago(container.created, now),
        container.status.clone(),
        container.state.clone(),
        show_ports(&container.ports),
        names.collect::<Vec<_>>().join(","),
        labels.collect::<Vec<_>>().join(","),
        mounts.collect::<Vec<_>>().join(","),
        networks.collect::<Vec<_>>().join(","),
    ]
}

/// `0.0.0.0:8080->80/tcp, 443/tcp`; neighbours that differ by one in both numbers join into a range.
fn show_ports(ports: &[Port]) -> String {
    let mut ports = ports.to_vec();
    ports.sort_by(|a, b| (&a.protocol, &a.ip, a.private_port).cmp(&(&b.protocol, &b.ip, b.private_port)));
    let mut ranges: Vec<(Port, Port)> = Vec::new();
    for port in ports {
        match ranges.last_mut() {
            Some((_, last)) if follows(last, &port) => *last = port,
            _ => ranges.push((port.clone(), port)),
        }
    }
    ranges.sort_by_key(|(first, _)| first.private_port);
    ranges.iter().map(|(first, last)| show_range(first, last)).collect::<Vec<_>>().join(", ")
}

fn follows(last: &Port, next: &Port) -> bool {
    let same = |port: &Port| port.public_port == 0 || port.public_port == port.private_port;
    last.ip == next.ip
        && last.protocol == next.protocol
        && last.private_port.checked_add(1) == Some(next.private_port)
        && (last.public_port == 0) == (next.public_port == 0)
        && same(last)
        && same(next)
}

fn show_range(first: &Port, last: &Port) -> String {
    let numbers = |first: u16, last: u16| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    let private = format!("{}/{}", numbers(first.private_port, last.private_port), first.protocol);
    if first.public_port == 0 {
        return private;
    }
    let public = numbers(first.public_port, last.public_port);
    let address = if first.ip.contains(':') { format!("[{}]", first.ip) } else { first.ip.clone() };
    format!("{address}:{public}->{private}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, public_port: u16, private_port: u16) -> Port {
        Port { ip: ip.to_owned(), private_port, public_port, protocol: "tcp".to_owned() }
    }

    #[test]
    fn ports_show_as_dockers_do() {
        let any = "0.0.0.0";
        for (ports, text) in [
            (vec![port(any, 8080, 80), port("::", 8080, 80)], "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"),
            (vec![port("", 0, 443), port("", 0, 80)], "80/tcp, 443/tcp"),
            (vec![port("", 0, 81), port("", 0, 80), port("", 0, 82)], "80-82/tcp"),
            (vec![port(any, 80, 80), port(any, 81, 81)], "0.0.0.0:80-81->80-81/tcp"),
            (vec![port(any, 80, 80), port(any, 9, 81)], "0.0.0.0:80->80/tcp, 0.0.0.0:9->81/tcp"),
            (vec![port("", 0, 65535)], "65535/tcp"),
            (vec![], ""),
        ] {
            assert_eq!(show_ports(&ports), text);
        }
    }

    #[test]
    fn a_row_is_cut_unless_told_otherwise() {
        let now = Zoned::now();
        let container = ContainerSummary {
            id: "0123456789abcdef".to_owned(),
            names: vec!["/web".to_owned()],
            image: "sha256:fedcba9876543210".to_owned(),
            command: "sh -c 'sleep 1000000000'".to_owned(),
            created: now.timestamp().as_second() - 5,
            status: "Up 3 seconds".to_owned(),
            ..ContainerSummary::default()
        };
        let short = row(&container, false, &now);
        assert_eq!(short[..3], ["0123456789ab", "fedcba987654", "\"sh -c 'sleep 100000…\""]);
        assert_eq!((short[4].as_str(), short[8].as_str()), ("5 seconds ago", "web"));
        assert_eq!(row(&container, true, &now)[2], "\"sh -c 'sleep 1000000000'\"");
        assert_eq!(short.len(), COLUMNS.len());
    }
}
