//! What is asked for, what it becomes, and Docker's words for what it cannot be.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::engine::{IfMissing, MountRequest, MountSource, MountsBelow, Written};

fn asked(host: Value) -> Result<(Mounts, Vec<String>), (u16, String)> {
    let host: HostConfig = serde_json::from_value(host).unwrap();
    let mut warnings = Vec::new();
    let mounts = mounts(&Config::default(), &host, &mut warnings)
        .map_err(|error| (error.status.as_u16(), error.message))?;
    Ok((mounts, warnings))
}

fn refusal(host: Value) -> (u16, String) {
    asked(host).unwrap_err()
}

fn line(text: &str) -> Result<MountRequest, (u16, String)> {
    let (mounts, _) = asked(json!({ "Binds": [text] }))?;
    Ok(mounts.requests.requests.into_iter().next().unwrap())
}

fn fields(mount: &Value) -> Result<MountRequest, (u16, String)> {
    let (mounts, _) = asked(json!({ "Mounts": [mount] }))?;
    Ok(mounts.requests.requests.into_iter().next().unwrap())
}

#[test]
fn a_line_that_is_none_is_refused_in_dockers_words() {
    for (text, message) in [
        (":/b", "invalid volume specification: ':/b'"),
        ("/a:/b:ro:x", "invalid volume specification: '/a:/b:ro:x'"),
        ("/a:ro", "invalid volume specification: '/a:ro'"),
        ("/a:/b:fast", "invalid mode: fast"),
        ("/a:/b:ro,rw", "invalid mode: ro,rw"),
        ("/a:/b:z,Z", "invalid mode: z,Z"),
        ("/a:/b:ro,", "invalid mode: ro,"),
        (
            "/a:/",
            "invalid volume specification: '/a:/': invalid mount config for type \"bind\": \
             invalid specification: destination can't be '/'",
        ),
        (
            "/a:/b/..",
            "invalid volume specification: '/a:/b/..': invalid mount config for type \"bind\": \
             invalid specification: destination can't be '/'",
        ),
        (
            "/a:b",
            "invalid volume specification: '/a:b': invalid mount config for type \"bind\": \
             invalid mount path: 'b' mount path must be absolute",
        ),
        (
            "name:/b:rslave",
            "invalid volume specification: 'name:/b:rslave': invalid mount config for type \"volume\": \
             field BindOptions must not be specified",
        ),
        (
            "/a:/b:nocopy",
            "invalid volume specification: '/a:/b:nocopy': invalid mount config for type \"bind\": \
             field VolumeOptions must not be specified",
        ),
        ("a:/b", "create a: volume name is too short, names should be at least two alphanumeric characters"),
    ] {
        assert_eq!(line(text).unwrap_err(), (400, message.to_owned()), "{text}");
    }
    assert!(line("a b:/c").unwrap_err().1.contains("includes invalid characters"));
    assert!(line("./a:/c").unwrap_err().1.contains("use absolute path"));
}

#[test]
fn a_line_says_what_is_mounted_where_and_how() {
    let bind = line("/src/x:/b:ro,Z,cached").unwrap();
    assert_eq!((bind.target.as_str(), bind.read_only), ("/b", true));
    let MountSource::Host(host) = &bind.source else { panic!("{bind:?}") };
    assert_eq!((host.path.as_str(), host.if_missing), ("/src/x", IfMissing::Make));
    assert_eq!(
        bind.written,
        Written::Line { text: "/src/x:/b:ro,Z,cached".into(), mode: "ro,Z,cached".into() }
    );
    let volume = |text: &str| match line(text).unwrap().source {
        MountSource::Volume(volume) => volume,
        other => panic!("{other:?}"),
    };
    assert_eq!((volume("data:/b").name.as_deref(), volume("data:/b").no_copy), (Some("data"), false));
    assert_eq!((volume("/b").name, volume("data:/b:nocopy").no_copy), (None, true));
}

#[test]
fn mounts_of_the_host_reach_no_machine_that_runs_nor_the_other_way() {
    for word in ["shared", "rshared"] {
        let (status, message) = line(&format!("/a:/b:{word}")).unwrap_err();
        assert!(status == 501 && message.contains(word), "{message}");
    }
    let (_, warnings) = asked(json!({ "Binds": ["/a:/b:ro,rslave", "/a:/c:rprivate"] })).unwrap();
    assert!(warnings.len() == 1 && warnings[0].contains("rslave of /b has no effect"), "{warnings:?}");
}

#[test]
fn a_mount_that_is_none_is_refused_in_dockers_words() {
    let bind =
        |options: Value| json!({ "Type": "bind", "Source": "/", "Target": "/b", "BindOptions": options });
    let volume = |source: &str, options: Value| json!({ "Type": "volume", "Source": source, "Target": "/b", "VolumeOptions": options });
    for (mount, kind, text) in [
        (
            json!({ "Type": "bind", "Source": "/nowhere/at/all", "Target": "/b" }),
            "bind",
            "bind source path does not exist: /nowhere/at/all",
        ),
        (json!({ "Type": "bind", "Target": "/b" }), "bind", "field Source must not be empty"),
        (
            json!({ "Type": "bind", "Source": "a", "Target": "/b" }),
            "bind",
            "invalid mount path: 'a' mount path must be absolute",
        ),
        (
            json!({ "Type": "bind", "Source": "/", "Target": "b" }),
            "bind",
            "invalid mount path: 'b' mount path must be absolute",
        ),
        (json!({ "Type": "bind", "Source": "/" }), "bind", "field Target must not be empty"),
        (
            json!({ "Type": "bind", "Source": "/", "Target": "/b", "VolumeOptions": {} }),
            "bind",
            "field VolumeOptions must not be specified",
        ),
        (bind(json!({ "Propagation": "wild" })), "bind", "invalid propagation mode: wild"),
        (
            bind(json!({ "ReadOnlyNonRecursive": true })),
            "bind",
            "mount options conflict: !ReadOnly && BindOptions.ReadOnlyNonRecursive",
        ),
        (
            json!({ "Type": "tmpfs", "Source": "/", "Target": "/b" }),
            "tmpfs",
            "field Source must not be specified",
        ),
        (json!({ "Type": "nope", "Target": "/b" }), "nope", "mount type unknown"),
        (
            volume("", json!({ "Subpath": "a" })),
            "volume",
            "must not set Subpath when using anonymous volumes",
        ),
        (
            volume("data", json!({ "Subpath": "a/../../b" })),
            "volume",
            "subpath must be a relative path within the volume",
        ),
        (
            volume("data", json!({ "Subpath": "/a" })),
            "volume",
            "subpath must be a relative path within the volume",
        ),
        (json!({ "Type": "image", "Target": "/b" }), "image", "field Source must not be empty"),
        (
            json!({ "Type": "image", "Source": "busybox", "Target": "/b", "ImageOptions": { "Subpath": "../a" } }),
            "image",
            "subpath must be a relative path within the volume",
        ),
        (
            json!({ "Type": "image", "Source": "busybox", "Target": "/b", "BindOptions": {} }),
            "image",
            "field BindOptions must not be specified",
        ),
        (
            json!({ "Type": "volume", "Target": "/b", "ReadOnly": true }),
            "volume",
            "must not set ReadOnly mode when using anonymous volumes",
        ),
    ] {
        let expected = format!("invalid mount config for type \"{kind}\": {text}");
        assert_eq!(fields(&mount).unwrap_err(), (400, expected));
    }
    for mount in [
        json!({ "Type": "bind", "Source": "/", "Target": "/b", "Consistency": "strong" }),
        bind(json!({ "Propagation": "rshared" })),
    ] {
        assert_eq!(fields(&mount).unwrap_err().0, 501, "{mount}");
    }
}

#[test]
fn a_mount_of_fields_says_all_that_a_line_cannot() {
    let made =
        fields(&json!({ "Type": "bind", "Source": "/nowhere/at/all", "Target": "/b", "ReadOnly": true,
        "BindOptions": { "CreateMountpoint": true, "ReadOnlyNonRecursive": true } }));
    let MountSource::Host(host) = made.unwrap().source else { panic!("a bind is the host's") };
    assert_eq!((host.if_missing, host.below), (IfMissing::Make, MountsBelow::ComeWritable));
    let volume = fields(&json!({ "Type": "volume", "Source": "data", "Target": "/b", "VolumeOptions": {
        "NoCopy": true, "Labels": { "a": "b" }, "Subpath": "x/y", "DriverConfig": { "Name": "local", "Options": { "o": "p" } } } }));
    let MountSource::Volume(volume) = volume.unwrap().source else {
        panic!("a volume is none of the host's")
    };
    assert!(volume.no_copy && volume.labels["a"] == "b" && volume.driver_options["o"] == "p");
    assert_eq!((volume.driver.as_str(), volume.subpath.as_str()), ("local", "x/y"));
}

#[test]
fn volumes_of_others_are_asked_for_by_their_container() {
    let (mounts, _) = asked(json!({ "VolumesFrom": ["db", "web:ro"] })).unwrap();
    let from: Vec<_> =
        mounts.requests.volumes_from.iter().map(|from| (from.container.as_str(), from.read_only)).collect();
    assert_eq!(from, [("db", false), ("web", true)]);
    for (text, message) in [
        ("", "volumes-from specification cannot be an empty string"),
        ("db:fast", "invalid mode: fast"),
        ("db:rslave", "invalid mode: rslave"),
        ("db:nocopy", "invalid mode: nocopy"),
    ] {
        assert_eq!(refusal(json!({ "VolumesFrom": [text] })), (400, message.to_owned()));
    }
}

#[test]
fn each_of_two_ways_to_ask_for_a_tmpfs_is_remembered() {
    let host = json!({ "Tmpfs": { "/a": "size=64m,noexec" }, "Mounts": [
        { "Type": "tmpfs", "Target": "/b", "ReadOnly": true, "TmpfsOptions": { "SizeBytes": 4096, "Mode": 0o1777 } }] });
    let (found, _) = asked(host).unwrap();
    assert_eq!(found.tmpfs["/a"], "size=64m,noexec");
    let [mount] = &found.tmpfs_mounts[..] else { panic!("{found:?}") };
    assert_eq!((mount.target.as_str(), mount.mount_options().as_str()), ("/b", "ro,mode=1777,size=4096"));
    assert_eq!(refusal(json!({ "Tmpfs": { "/a": "bind" } })).1, "invalid tmpfs option [\"bind\"]");
}

proptest! {
    /// Whatever a client writes is refused, or is what its parts say.
    #[test]
    fn a_line_is_its_parts(text in "[/a-c.:,]{0,5}(:[/a-c.]{0,5})?(:(ro|rw|z|nocopy|,){0,3})?") {
        match line(&text) {
            Ok(request) => {
                let parts: Vec<&str> = text.split(':').collect();
                let place = if parts.len() == 1 { parts[0] } else { parts[1] };
                prop_assert!(parts.len() <= 3 && request.target == place && place.starts_with('/'));
                prop_assert_eq!(request.read_only, parts.get(2).is_some_and(|mode| mode.split(',').any(|word| word == "ro")));
                let is_host = matches!(request.source, MountSource::Host(_));
                prop_assert_eq!(is_host, parts.len() > 1 && parts[0].starts_with('/'));
            }
            Err((status, message)) => prop_assert!(status == 400 && !message.is_empty()),
        }
    }

    #[test]
    fn a_local_path_never_leaves(path in "[a./]{0,10}") {
        if places::is_local(&path) {
            let mut depth = 0_i32;
            for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
                depth += if part == ".." { -1 } else { 1 };
                prop_assert!(depth >= 0, "{path}");
            }
        }
    }
}
