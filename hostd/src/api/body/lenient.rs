//! JSON as Docker's decoder takes it, since clients are written against that: null is the zero value of whatever is expected, at
//! any depth, and the names of fields fit in any case. What does not fit is said with the name of its field.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{
    self, DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

/// The member of that name; one that is spelled exactly so comes before others.
pub(in crate::api) fn member<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let other_case = || object.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
    object.get(name).or_else(|| other_case().map(|(_, value)| value))
}

/// Where a value does not fit, and why.
#[derive(Debug)]
pub(super) struct Misfit {
    /// "HostConfig.Ulimits.0.Soft", or nothing for the whole.
    path: String,
    problem: String,
}

impl Misfit {
    pub(super) fn inside(mut self, name: &str) -> Self {
        self.path = if self.path.is_empty() { name.to_owned() } else { format!("{name}.{}", self.path) };
        self
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            write!(f, "{}", self.problem)
        } else {
            write!(f, "{}: {}", self.path, self.problem)
        }
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    fn custom<T: fmt::Display>(problem: T) -> Self {
        Self { path: String::new(), problem: problem.to_string() }
    }
}

impl From<serde_json::Error> for Misfit {
    fn from(error: serde_json::Error) -> Self {
        Self::custom(error)
    }
}

/// Reads `value`, leniently.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lenient<'de>(pub(super) &'de Value);

impl<'de> IntoDeserializer<'de, Misfit> for Lenient<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Null is zero, anything else must fit.
macro_rules! scalars {
    ($($method:ident => $zero:expr),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
            match self.0 {
                Value::Null => $zero(visitor),
                value => Ok(value.$method(visitor)?),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Lenient<'de> {
    type Error = Misfit;

    scalars! {
        deserialize_bool => |visitor: V| visitor.visit_bool(false),
        deserialize_i32 => |visitor: V| visitor.visit_i32(0),
        deserialize_i64 => |visitor: V| visitor.visit_i64(0),
        deserialize_u64 => |visitor: V| visitor.visit_u64(0),
        deserialize_u32 => |visitor: V| visitor.visit_u32(0),
        deserialize_u16 => |visitor: V| visitor.visit_u16(0),
        deserialize_str => |visitor: V| visitor.visit_borrowed_str(""),
        deserialize_string => |visitor: V| visitor.visit_borrowed_str(""),
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        Ok(self.0.deserialize_any(visitor)?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::Null => visitor.visit_seq(SeqDeserializer::new(std::iter::empty::<Self>())),
            Value::Array(elements) => visitor.visit_seq(Elements { elements: elements.iter(), next: 0 }),
            other => Ok(other.deserialize_seq(visitor)?),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::Array(elements) if elements.len() != length => {
                Err(Misfit::invalid_length(elements.len(), &visitor))
            }
            _ => self.deserialize_seq(visitor),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::Null => visitor.visit_map(MapDeserializer::new(std::iter::empty::<(&str, Self)>())),
            Value::Object(object) => visitor.visit_map(Members::new(object.iter().map(borrowed))),
            other => Ok(other.deserialize_map(visitor)?),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::Null => visitor.visit_map(MapDeserializer::new(std::iter::empty::<(&str, Self)>())),
            Value::Object(object) => {
                let known = fields.iter().filter_map(|field| Some((*field, member(object, field)?)));
                visitor.visit_map(Members::new(known))
            }
            // Not as a struct, which a list of its fields' values could be, too.
            other => Ok(other.deserialize_map(visitor)?),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i128 u8 u128 f32 f64 char bytes byte_buf unit unit_struct newtype_struct tuple_struct enum identifier
        ignored_any
    }
}

fn borrowed<'a>((name, value): (&'a String, &'a Value)) -> (&'a str, &'a Value) {
    (name, value)
}

/// The elements of a list, each with its number.
struct Elements<'de> {
    elements: std::slice::Iter<'de, Value>,
    next: usize,
}

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Misfit> {
        let Some(element) = self.elements.next() else { return Ok(None) };
        let number = self.next;
        self.next += 1;
        seed.deserialize(Lenient(element)).map(Some).map_err(|misfit| misfit.inside(&number.to_string()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.elements.len())
    }
}

/// The members of an object, each with its name.
struct Members<'de, I> {
    members: I,
    current: Option<(&'de str, &'de Value)>,
}

impl<'de, I: Iterator<Item = (&'de str, &'de Value)>> Members<'de, I> {
    fn new(members: I) -> Self {
        Self { members, current: None }
    }
}

impl<'de, I: Iterator<Item = (&'de str, &'de Value)>> MapAccess<'de> for Members<'de, I> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Misfit> {
        self.current = self.members.next();
        let Some((name, _)) = self.current else { return Ok(None) };
        seed.deserialize(de::value::BorrowedStrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Misfit> {
        let (name, value) = self.current.take().ok_or_else(|| Misfit::custom("a value without a name"))?;
        seed.deserialize(Lenient(value)).map_err(|misfit| misfit.inside(name))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(rename_all = "PascalCase", default)]
    struct Outer {
        text: String,
        count: i64,
        small: u16,
        flag: bool,
        maybe: Option<i64>,
        size: Option<[u16; 2]>,
        list: Vec<Inner>,
        labels: BTreeMap<String, String>,
        anything: BTreeMap<String, Value>,
        inner: Inner,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(rename_all = "PascalCase", default)]
    struct Inner {
        name: String,
    }

    fn read(value: &Value) -> Result<Outer, String> {
        Outer::deserialize(Lenient(value)).map_err(|misfit| misfit.to_string())
    }

    #[test]
    fn null_is_zero_at_any_depth() {
        let nulls = json!({
            "Text": null, "Count": null, "Small": null, "Flag": null, "Maybe": null, "Size": null,
            "List": null, "Labels": null, "Anything": null, "Inner": null,
        });
        assert_eq!(read(&nulls).unwrap(), Outer::default());
        let deep =
            json!({ "List": [{ "Name": null }, null], "Labels": { "a": null }, "Inner": { "Name": null } });
        let read = read(&deep).unwrap();
        assert_eq!(read.list, [Inner::default(), Inner::default()]);
        assert_eq!(read.labels, BTreeMap::from([("a".to_owned(), String::new())]));
    }

    #[test]
    fn names_fit_in_any_case_and_the_exact_one_wins() {
        let value = json!({ "text": "a", "COUNT": 7, "inner": { "NAME": "n" }, "List": [{ "name": "m" }] });
        let outer = read(&value).unwrap();
        assert_eq!((outer.text.as_str(), outer.count, outer.inner.name.as_str()), ("a", 7, "n"));
        assert_eq!(outer.list[0].name, "m");
        assert_eq!(
            read(&json!({ "Text": "exact", "TEXT": "other", "text": "third" })).unwrap().text,
            "exact"
        );
        // Keys of maps are data.
        let labels = json!({ "Labels": { "a": "1", "A": "2" } });
        assert_eq!(read(&labels).unwrap().labels.len(), 2);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (value, path) in [
            (json!({ "Text": 5 }), "Text: "),
            (json!({ "Count": 1.5 }), "Count: "),
            (json!({ "Count": 1e30 }), "Count: "),
            (json!({ "Small": -1 }), "Small: "),
            (json!({ "Small": 70_000 }), "Small: "),
            (json!({ "Flag": "yes" }), "Flag: "),
            (json!({ "Size": [1] }), "Size: "),
            (json!({ "Size": [1, 2, 3] }), "Size: "),
            (json!({ "Size": [1, "x"] }), "Size.1: "),
            (json!({ "List": {} }), "List: "),
            (json!({ "List": [{}, { "Name": [] }] }), "List.1.Name: "),
            (json!({ "labels": { "a": 1 } }), "Labels.a: "),
            (json!({ "Inner": "x" }), "Inner: "),
        ] {
            let error = read(&value).unwrap_err();
            assert!(error.starts_with(path), "{value}: {error}");
        }
        assert!(read(&json!([])).is_err());
    }
}
