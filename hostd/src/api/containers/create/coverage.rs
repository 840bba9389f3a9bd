//! What becomes of each field of the specification: the decoder is asked, nothing is retyped. Test code.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{body, decode, fields, network};
use crate::engine::ContainerSpec;

/// Enough for every example.
const CPU_COUNT: usize = 2;

/// A request for one thing.
#[derive(Debug, Deserialize)]
pub(in crate::api) struct Example {
    /// With its object's name in front, unless that is the request itself.
    pub(in crate::api) field: String,
    /// Not the default.
    pub(in crate::api) value: Value,
    /// The value that it is compared with; absent is the default.
    beside: Option<Value>,
    /// Further fields of the same object, which both have.
    #[serde(default)]
    given: Map<String, Value>,
    /// Linux has no such thing, and Docker says so too.
    #[serde(default)]
    impossible: bool,
}

/// What the daemon does about a field.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::api) enum Outcome {
    ActedOn,
    /// There is nothing to do, for this reason.
    Granted(&'static str),
    Warned(String),
    Refused(String),
    /// By Docker as well, and with its words.
    Impossible(String),
    /// The client is not told that nothing follows.
    Dropped,
    /// The example does not even get as far as being refused.
    Invalid(String),
}

impl Example {
    pub(in crate::api) fn outcome(&self) -> Outcome {
        let (without, warnings_without) =
            self.decoded(self.beside.as_ref()).expect("what an example is compared with is valid");
        match self.decoded(Some(&self.value)) {
            Err((501, message)) => Outcome::Refused(message),
            Err((400, message)) if self.impossible => Outcome::Impossible(message),
            Err((_status, message)) => Outcome::Invalid(message),
            Ok((_spec, warnings)) if warnings != warnings_without => Outcome::Warned(warnings.join(" ")),
            Ok((spec, _)) if format!("{spec:?}") != format!("{without:?}") => Outcome::ActedOn,
            Ok(_) => fields::granted(&self.field).map_or(Outcome::Dropped, Outcome::Granted),
        }
    }

    fn decoded(&self, value: Option<&Value>) -> Result<(ContainerSpec, Vec<String>), (u16, String)> {
        let mut fields = self.given.clone();
        let (object, name) = self.field.split_once('.').unwrap_or(("", &self.field));
        fields.extend(value.map(|value| (name.to_owned(), value.clone())));
        let mut request = json!({ "Image": "busybox" });
        let root = request.as_object_mut().expect("it is written as one");
        if object.is_empty() {
            root.extend(fields);
        } else {
            root.insert(object.to_owned(), Value::Object(fields));
        }
        decode(root, CPU_COUNT).map_err(|error| (error.status.as_u16(), error.message))
    }
}

/// The names of all fields that the code knows, those with and those without an effect.
pub(in crate::api) fn known_fields() -> BTreeSet<String> {
    let keys = |prefix: &'static str, value: serde_json::Result<Value>| {
        let object = value.ok().and_then(|value| value.as_object().cloned()).expect("a body is an object");
        object.into_iter().map(move |(name, _)| format!("{prefix}{name}"))
    };
    let acted_on: BTreeSet<String> = keys("", serde_json::to_value(body::Config::default()))
        .chain(keys("HostConfig.", serde_json::to_value(body::HostConfig::default())))
        .chain(keys("NetworkingConfig.", serde_json::to_value(network::NetworkingConfig::default())))
        .collect();
    let in_the_table: BTreeSet<String> = fields::names().into_iter().collect();
    assert!(acted_on.is_disjoint(&in_the_table), "a field is acted on and in the table");
    acted_on.union(&in_the_table).cloned().collect()
}
