//! `berth info`: what the daemon says of itself and its host.

use clap::Args;
use serde_json::Value;

use crate::client::Client;
use crate::format::ObjectFormat;
use crate::outcome::{Failure, Outcome};
use crate::output::print;
use crate::quantity::binary_size;

/// Display system-wide information
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth info
  berth info -f '{{.Driver}} {{.NCPU}}'")]
pub(crate) struct Arguments {
    /// Format output: 'json' or a template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

/// What is shown, in this order; a daemon that does not say a thing loses its line.
const FACTS: &[(&str, &str)] = &[
    ("Containers", "Containers"),
    (" Running", "ContainersRunning"),
    (" Paused", "ContainersPaused"),
    (" Stopped", "ContainersStopped"),
    ("Images", "Images"),
    ("Server Version", "ServerVersion"),
    ("Storage Driver", "Driver"),
    ("Logging Driver", "LoggingDriver"),
    ("Cgroup Driver", "CgroupDriver"),
    ("Cgroup Version", "CgroupVersion"),
    ("Default Runtime", "DefaultRuntime"),
    ("Kernel Version", "KernelVersion"),
    ("Operating System", "OperatingSystem"),
    ("OSType", "OSType"),
    ("Architecture", "Architecture"),
    ("CPUs", "NCPU"),
    ("Total Memory", "MemTotal"),
    ("Name", "Name"),
    ("ID", "ID"),
    ("Data Root Dir", "DockerRootDir"),
    ("Debug Mode", "Debug"),
];

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let format = arguments.format.as_deref().map(ObjectFormat::parse).transpose()?;
    let bytes = client.info().await?;
    let info: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::Usage(format!("the daemon's answer to info makes no sense: {error}")))?;
    let text = match format {
        Some(format) => format.render(&info)?,
        None => show(client, &info),
    };
    print(&text)?;
    Ok(0)
}

fn show(client: &Client, info: &Value) -> String {
    let client =
        format!("Client: Berth\n Version: {}\n Host:    {}\n", env!("CARGO_PKG_VERSION"), client.host());
    [client, "\nServer:\n".into(), facts(info), security(info), driver_status(info), warnings(info)].concat()
}

fn facts(info: &Value) -> String {
    let lines = FACTS.iter().filter_map(|(name, field)| {
        let text = match &info[field] {
            Value::Null => return None,
            Value::String(text) if text.is_empty() => return None,
            Value::String(text) => text.clone(),
            Value::Number(number) if *field == "MemTotal" => binary_size(number.as_u64()?),
            value => value.to_string(),
        };
        Some(format!(" {name}: {text}\n"))
    });
    lines.collect()
}

/// Each "name=NAME,KEY=VALUE": the name, and under it the rest.
fn security(info: &Value) -> String {
    let mut text = String::new();
    for option in info["SecurityOptions"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let (name, rest) = option.split_once(',').unwrap_or((option, ""));
        let name = name.strip_prefix("name=").unwrap_or(name);
        let heading = if text.is_empty() { " Security Options:\n" } else { "" };
        text.push_str(&format!("{heading}  {name}\n"));
        for (key, value) in rest.split(',').filter_map(|pair| pair.split_once('=')) {
            text.push_str(&format!("   {key}: {value}\n"));
        }
    }
    text
}

/// Pairs of words that a storage driver (here: the machines too) says of itself.
fn driver_status(info: &Value) -> String {
    let pairs = info["DriverStatus"].as_array().into_iter().flatten();
    let lines = pairs.filter_map(|pair| Some(format!(" {}: {}\n", pair[0].as_str()?, pair[1].as_str()?)));
    lines.collect()
}

fn warnings(info: &Value) -> String {
    let warnings = info["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str);
    warnings.map(|warning| format!("{warning}\n")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn facts_come_in_our_order_and_missing_ones_not_at_all() {
        let info = json!({"MemTotal": 1_073_741_824, "Images": 3, "Containers": 0, "Driver": "", "Warnings": ["W"],
            "DriverStatus": [["Accelerator", "tcg"]], "SecurityOptions": ["name=seccomp,profile=builtin", "name=userns"]});
        assert_eq!(security(&info), " Security Options:\n  seccomp\n   profile: builtin\n  userns\n");
        assert_eq!(facts(&info), " Containers: 0\n Images: 3\n Total Memory: 1GiB\n");
        assert_eq!(driver_status(&info), " Accelerator: tcg\n");
        assert_eq!(warnings(&info), "W\n");
    }

    #[test]
    fn an_answer_of_another_shape_shows_nothing_and_does_not_panic() {
        for info in [
            json!(null),
            json!([1]),
            json!({"DriverStatus": [1, [], ["a"]], "Warnings": {}, "SecurityOptions": [1]}),
        ] {
            assert_eq!(facts(&info) + &security(&info) + &driver_status(&info) + &warnings(&info), "");
        }
    }
}
