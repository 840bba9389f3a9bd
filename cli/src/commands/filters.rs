//! `--filter KEY=VALUE`, as the API wants it.

use std::collections::BTreeMap;

use crate::outcome::Failure;

/// `{"key":{"value":true}}`, or nothing without filters. Which keys there are is the daemon's to say.
pub(super) fn encode(filters: &[String]) -> Result<Option<String>, Failure> {
    let mut sets: BTreeMap<&str, BTreeMap<&str, bool>> = BTreeMap::new();
    for filter in filters {
        let (key, value) = filter.split_once('=').ok_or_else(|| {
            Failure::Usage(format!("invalid argument \"{filter}\" for --filter: expected KEY=VALUE"))
        })?;
        sets.entry(key.trim()).or_default().insert(value.trim(), true);
    }
    let json = || serde_json::to_string(&sets).expect("strings and true are JSON");
    Ok((!sets.is_empty()).then(json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_one_key_join() {
        let filters = ["status=running", "label=a=b", "status=exited"].map(str::to_owned);
        let json = encode(&filters).unwrap().unwrap();
        assert_eq!(json, r#"{"label":{"a=b":true},"status":{"exited":true,"running":true}}"#);
        assert_eq!(encode(&[]).unwrap(), None);
        assert!(encode(&["status".to_owned()]).is_err());
    }
}
