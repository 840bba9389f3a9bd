//! `berth events`: what happens at the daemon, as it happens.

use std::collections::BTreeMap;

use clap::Args;
use jiff::{Timestamp, Zoned};
use serde::Deserialize;
use serde_json::Value;

use super::filters;
use crate::client::{Client, EventsQuery};
use crate::format::ObjectFormat;
use crate::moment::parse_time;
use crate::outcome::{Failure, Outcome};
use crate::output::print;

/// Get real time events from the server
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth events
  berth events --since 1h --until 0s --filter event=die
  berth events --format json")]
pub(crate) struct Arguments {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Format output: 'json' or a template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show all events created since timestamp
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Stream events until this timestamp
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Event {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "Action")]
    action: String,
    #[serde(rename = "Actor")]
    actor: Actor,
    #[serde(rename = "timeNano")]
    time_ns: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Attributes")]
    attributes: BTreeMap<String, String>,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let format = arguments.format.as_deref().map(ObjectFormat::parse).transpose()?;
    let now = Zoned::now();
    let time =
        |flag, text: &Option<String>| text.as_deref().map(|text| parse_time(flag, text, &now)).transpose();
    let query = EventsQuery {
        since: time("since", &arguments.since)?,
        until: time("until", &arguments.until)?,
        filters: filters::encode(&arguments.filter)?,
    };
    let mut events = client.events(&query).await?;
    while let Some(value) = events.next::<Value>().await? {
        let line = match &format {
            Some(format) => format.render(&value)?,
            None => {
                let event = serde_json::from_value(value);
                let event =
                    event.map_err(|error| Failure::Usage(format!("an event makes no sense: {error}")))?;
                show(&event, &now)
            }
        };
        print(&line)?;
    }
    Ok(0)
}

/// `2026-11-20T12:00:00.000000000Z container start 0123… (image=busybox, name=web)`
fn show(event: &Event, now: &Zoned) -> String {
    let time = Timestamp::from_nanosecond(i128::from(event.time_ns)).unwrap_or_default();
    let time = time.to_zoned(now.time_zone().clone()).strftime("%Y-%m-%dT%H:%M:%S.%9f%:z");
    let attributes = event.actor.attributes.iter().map(|(key, value)| format!("{key}={value}"));
    let attributes = attributes.collect::<Vec<_>>().join(", ");
    let attributes = if attributes.is_empty() { attributes } else { format!(" ({attributes})") };
    format!("{time} {} {} {}{attributes}\n", event.kind, event.action, event.actor.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let event: Event = serde_json::from_str(
            r#"{"Type":"container","Action":"start","time":1,"timeNano":1700000000000000001,
                "Actor":{"ID":"abc","Attributes":{"name":"web","image":"busybox"}}}"#,
        )
        .unwrap();
        assert_eq!(
            show(&event, &Zoned::now().with_time_zone(jiff::tz::TimeZone::UTC)),
            "2023-11-14T22:13:20.000000001+00:00 container start abc (image=busybox, name=web)\n"
        );
    }
}
