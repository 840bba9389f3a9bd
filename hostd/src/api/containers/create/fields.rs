//! Every field of a create request that Berth does not act on, with the values that ask for nothing.
//!
//! A field that asks for something is refused by name or named in `Warnings`: nothing a client sets is dropped in
//! silence. A field that Berth comes to act on moves from this table into [`super::body`].

use serde_json::{Map, Value};

use crate::api::body::member;
use crate::api::error::{ApiError, ApiResult};

/// Where in the request a field stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Object {
    Config,
    HostConfig,
}

impl Object {
    /// What stands before the names of its fields.
    fn prefix(self) -> &'static str {
        match self {
            Self::Config => "",
            Self::HostConfig => "HostConfig.",
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Otherwise {
    /// With what it takes, in words that follow "needs".
    Refuse(&'static str),
    /// With the reason, which follows "has no effect".
    Warn(&'static str),
    /// With Docker's words for what a kernel has not.
    Discard(&'static str),
    /// It can never be honoured on Linux; Docker's words for that.
    Impossible(fn(&Value) -> String),
    /// Every container has it, for this reason.
    Granted(#[cfg_attr(not(test), expect(dead_code, reason = "docs/api-coverage.md says it"))] &'static str),
}

struct Field {
    object: Object,
    name: &'static str,
    asks_for_nothing: fn(&Value) -> bool,
    otherwise: Otherwise,
}

const fn config(name: &'static str, asks_for_nothing: fn(&Value) -> bool, otherwise: Otherwise) -> Field {
    Field { object: Object::Config, name, asks_for_nothing, otherwise }
}

const fn host(name: &'static str, asks_for_nothing: fn(&Value) -> bool, otherwise: Otherwise) -> Field {
    Field { object: Object::HostConfig, name, asks_for_nothing, otherwise }
}

const NAMESPACES: Otherwise = Otherwise::Refuse("namespaces shared between containers");
const REALTIME: Otherwise =
    Otherwise::Impossible(|_| "kernel does not support CPU real-time scheduler".to_owned());
const BUILD_ONLY: Otherwise = Otherwise::Warn("it matters only to builds and was not kept");

#[rustfmt::skip]
const FIELDS: &[Field] = &[
    config("ArgsEscaped", empty, Otherwise::Granted("arguments are passed on as they are")),
    config("OnBuild", empty, BUILD_ONLY),
    config("Shell", empty, BUILD_ONLY),

    host("CpuRealtimePeriod", empty, REALTIME),
    host("CpuRealtimeRuntime", empty, REALTIME),
    host("KernelMemory", empty, Otherwise::Discard(
        "Your kernel does not support kernel memory limit capabilities or the cgroup is not mounted. Limitation discarded.")),
    host("KernelMemoryTCP", empty, Otherwise::Warn("the buffers of TCP count as HostConfig.Memory")),
    // -1 is the client's way to say "as the kernel likes".
    host("MemorySwappiness", |value| *value == -1, Otherwise::Discard(
        "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.")),

    host("CpuCount", empty, Otherwise::Warn("it is a limit of Windows; HostConfig.NanoCpus is one of Linux")),
    host("CpuPercent", empty, Otherwise::Discard("linux does not support CPU percent. Percent discarded.")),
    host("IOMaximumBandwidth", empty, Otherwise::Impossible(|_|
        "invalid option: QoS maximum bandwidth configuration is not supported on linux".to_owned())),
    host("IOMaximumIOps", empty, Otherwise::Impossible(|_|
        "invalid option: QoS maximum IOPs configuration is not supported on linux".to_owned())),

    host("Cgroup", empty, NAMESPACES),

    host("ContainerIDFile", empty, Otherwise::Granted("the client writes the file")),
    host("Isolation", |value| is_one_of(value, &["", "default", "machine"]), Otherwise::Impossible(|value|
        format!("invalid isolation ({}): linux only supports 'default'", value.as_str().unwrap_or_default()))),

];

/// Go's zero values, at any depth.
pub(in crate::api::containers) fn empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

fn is_one_of(value: &Value, harmless: &[&str]) -> bool {
    value.as_str().is_some_and(|text| harmless.contains(&text))
}

/// The two objects of a request, as far as they were sent.
pub(super) struct Objects<'a> {
    pub(super) config: &'a Map<String, Value>,
    pub(super) host_config: &'a Map<String, Value>,
}

/// Goes through the table.
///
/// # Errors
/// The first field that asks for what Berth cannot do. Returns warnings for what it does not have to do.
pub(super) fn check(objects: &Objects<'_>) -> ApiResult<Vec<String>> {
    let mut warnings = Vec::new();
    for field in FIELDS {
        let object = match field.object {
            Object::Config => objects.config,
            Object::HostConfig => objects.host_config,
        };
        let (prefix, name) = (field.object.prefix(), field.name);
        let asks_for_nothing = |value: &Value| value.is_null() || (field.asks_for_nothing)(value);
        if member(object, name).is_none_or(asks_for_nothing) {
            continue;
        }
        match field.otherwise {
            Otherwise::Refuse(needs) => {
                let message = format!("berth cannot honour {prefix}{name} yet: it needs {needs}");
                return Err(ApiError::not_supported(message));
            }
            Otherwise::Impossible(words) => {
                return Err(ApiError::invalid(words(object.get(name).unwrap_or(&Value::Null))));
            }
            Otherwise::Granted(_) => {}
            Otherwise::Discard(words) => warnings.push(words.to_owned()),
            Otherwise::Warn(why) => warnings.push(format!("{prefix}{name} has no effect: {why}")),
        }
    }
    Ok(warnings)
}

/// Why there is nothing to do for the field with this full name.
#[cfg(test)]
pub(super) fn granted(name: &str) -> Option<&'static str> {
    let field = FIELDS.iter().find(|field| name.strip_prefix(field.object.prefix()) == Some(field.name))?;
    match field.otherwise {
        Otherwise::Granted(why) => Some(why),
        Otherwise::Refuse(_) | Otherwise::Warn(_) | Otherwise::Discard(_) | Otherwise::Impossible(_) => None,
    }
}

#[cfg(test)]
pub(super) fn names() -> Vec<String> {
    FIELDS.iter().map(|field| format!("{}{}", field.object.prefix(), field.name)).collect()
}
