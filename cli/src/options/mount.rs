//! `--mount`: one mount, as fields between commas. What makes sense with what is the daemon's to say, but for fields of
//! another type's.

use std::path::Path;

use crate::client::{BindOptions, Mount, TmpfsOptions, VolumeOptions};
use crate::quantity::parse_bytes;

/// # Errors
/// Why it is none, in Docker's words.
pub(super) fn parse_mount(text: &str) -> Result<Mount, String> {
    let mut mount = Mount { kind: "volume".to_owned(), ..Mount::default() };
    for field in fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        let key = key.trim().to_ascii_lowercase();
        match (key.as_str(), value) {
            ("readonly" | "ro", None) => mount.read_only = true,
            ("volume-nocopy", None) => volume(&mut mount).no_copy = true,
            ("bind-nonrecursive", None) => bind(&mut mount).non_recursive = true,
            (_, None) => return Err(format!("invalid field '{field}' must be a key=value pair")),
            (key, Some(value)) => set(&mut mount, key, value, &field)?,
        }
    }
    if mount.target.is_empty() {
        return Err("target is required".to_owned());
    }
    for (prefix, is_set) in [
        ("volume", mount.volume_options.is_some()),
        ("bind", mount.bind_options.is_some()),
        ("tmpfs", mount.tmpfs_options.is_some()),
        ("image", mount.image_options.is_some()),
    ] {
        if is_set && mount.kind != prefix {
            return Err(format!("cannot mix '{prefix}-*' options with mount type '{}'", mount.kind));
        }
    }
    Ok(mount)
}

fn set(mount: &mut Mount, key: &str, value: &str, field: &str) -> Result<(), String> {
    match key {
        "type" => mount.kind = value.to_ascii_lowercase(),
        "source" | "src" => mount.source = absolute(value)?,
        "target" | "dst" | "destination" => value.clone_into(&mut mount.target),
        "readonly" | "ro" => mount.read_only = boolean(key, value)?,
        "consistency" => mount.consistency = value.to_ascii_lowercase(),
        "bind-propagation" => bind(mount).propagation = value.to_ascii_lowercase(),
        "bind-nonrecursive" => bind(mount).non_recursive = boolean(key, value)?,
        "bind-recursive" => recursive(bind(mount), value)?,
        "bind-create-src" => bind(mount).create_mountpoint = boolean(key, value)?,
        "volume-subpath" => value.clone_into(&mut volume(mount).subpath),
        "volume-nocopy" => volume(mount).no_copy = boolean(key, value)?,
        "volume-label" => pair(&mut volume(mount).labels, value),
        "volume-driver" => value.clone_into(&mut volume(mount).driver_config.get_or_insert_default().name),
        "volume-opt" => pair(&mut volume(mount).driver_config.get_or_insert_default().options, value),
        "image-subpath" => value.clone_into(&mut mount.image_options.get_or_insert_default().subpath),
        "tmpfs-size" => {
            let bytes = parse_bytes(value).map_err(|_| format!("invalid value for {key}: {value}"))?;
            tmpfs(mount).size_bytes = bytes;
        }
        "tmpfs-mode" => {
            let mode =
                u32::from_str_radix(value, 8).map_err(|_| format!("invalid value for {key}: {value}"))?;
            tmpfs(mount).mode = mode;
        }
        _ => return Err(format!("unexpected key '{key}' in '{field}'")),
    }
    Ok(())
}

fn recursive(bind: &mut BindOptions, value: &str) -> Result<(), String> {
    match value {
        "enabled" => {}
        "disabled" => bind.non_recursive = true,
        "writable" => bind.read_only_non_recursive = true,
        "readonly" => bind.read_only_force_recursive = true,
        _ => {
            return Err(format!(
                "invalid value for bind-recursive: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
            ));
        }
    }
    Ok(())
}

fn bind(mount: &mut Mount) -> &mut BindOptions {
    mount.bind_options.get_or_insert_default()
}

fn volume(mount: &mut Mount) -> &mut VolumeOptions {
    mount.volume_options.get_or_insert_default()
}

fn tmpfs(mount: &mut Mount) -> &mut TmpfsOptions {
    mount.tmpfs_options.get_or_insert_default()
}

fn pair(pairs: &mut std::collections::BTreeMap<String, String>, text: &str) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    pairs.insert(name.to_owned(), value.to_owned());
}

fn boolean(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("invalid value for {key}: {value}")),
    }
}

/// A source that begins with a point is a path from here.
fn absolute(source: &str) -> Result<String, String> {
    if source != "." && !source.starts_with("./") && !source.starts_with("../") {
        return Ok(source.to_owned());
    }
    let path = std::path::absolute(Path::new(source)).map_err(|reason| reason.to_string())?;
    path.into_os_string().into_string().map_err(|path| format!("{} is not UTF-8", path.display()))
}

/// What stands between commas; a field in double quotes may hold some, and a doubled quote is one.
pub(super) fn fields(text: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut characters = text.chars().peekable();
    let mut is_quoted = false;
    while let Some(character) = characters.next() {
        let field = fields.last_mut().expect("there is one from the beginning");
        match character {
            '"' if is_quoted && characters.peek() == Some(&'"') => field.extend(characters.next()),
            '"' if is_quoted => is_quoted = false,
            '"' if field.is_empty() => is_quoted = true,
            ',' if !is_quoted => fields.push(String::new()),
            other => field.push(other),
        }
    }
    if is_quoted { Err(format!("a quote is not closed in {text}")) } else { Ok(fields) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(text: &str) -> Result<serde_json::Value, String> {
        parse_mount(text).map(|mount| serde_json::to_value(mount).unwrap())
    }

    #[test]
    fn fields_go_where_the_api_has_them() {
        for (text, expected) in [
            ("src=data,dst=/d", json!({ "Type": "volume", "Source": "data", "Target": "/d" })),
            (
                "type=bind,source=/a,target=/b,ro,bind-propagation=rslave,bind-recursive=writable",
                json!({ "Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true,
                    "BindOptions": { "Propagation": "rslave", "ReadOnlyNonRecursive": true } }),
            ),
            (
                "type=volume,destination=/d,volume-nocopy,volume-label=a=b,volume-driver=local,\"volume-opt=o=size=1g,ro\"",
                json!({ "Type": "volume", "Target": "/d", "VolumeOptions": { "NoCopy": true, "Labels": { "a": "b" },
                    "DriverConfig": { "Name": "local", "Options": { "o": "size=1g,ro" } } } }),
            ),
            (
                "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770",
                json!({ "Type": "tmpfs", "Target": "/t", "TmpfsOptions": { "SizeBytes": 1 << 20, "Mode": 0o1770 } }),
            ),
            (
                "type=image,src=busybox,dst=/i,image-subpath=bin",
                json!({ "Type": "image", "Source": "busybox", "Target": "/i", "ImageOptions": { "Subpath": "bin" } }),
            ),
        ] {
            assert_eq!(parsed(text).unwrap(), expected, "{text}");
        }
        let here = parsed("type=bind,src=./x,dst=/b").unwrap();
        assert!(here["Source"].as_str().unwrap().starts_with('/'));
    }

    #[test]
    fn what_is_none_is_said_in_dockers_words() {
        for (text, message) in [
            ("type=bind,src=/a", "target is required"),
            ("dst=/a,colour=red", "unexpected key 'colour' in 'colour=red'"),
            ("dst=/a,colour", "invalid field 'colour' must be a key=value pair"),
            ("dst=/a,ro=maybe", "invalid value for ro: maybe"),
            ("type=bind,src=/,dst=/a,volume-nocopy", "cannot mix 'volume-*' options with mount type 'bind'"),
            ("dst=/a,\"src=b", "a quote is not closed in dst=/a,\"src=b"),
        ] {
            assert_eq!(parsed(text).unwrap_err(), message);
        }
    }
}
