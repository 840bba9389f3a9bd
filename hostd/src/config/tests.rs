//! Flags and file together.

use clap::Parser;

use super::*;

/// A directory with everything a daemon needs, and the flags that name it.
fn flags(directory: &Path, more: &[&str]) -> Flags {
    for name in ["vmlinux", "initramfs.cpio", "berth-vmm"] {
        std::fs::write(directory.join(name), "").unwrap();
    }
    let named = |flag: &str, name: &str| format!("--{flag}={}", directory.join(name).display());
    let mut words = vec![
        "berthd".to_owned(),
        named("kernel", "vmlinux"),
        named("initramfs", "initramfs.cpio"),
        named("vmm", "berth-vmm"),
    ];
    words.extend(more.iter().map(ToString::to_string));
    Flags::try_parse_from(words).unwrap()
}

fn with_file(json: &str, more: &[&str]) -> Result<Settings, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("daemon.json");
    std::fs::write(&path, json).unwrap();
    let mut flags = flags(directory.path(), more);
    flags.config_file = Some(path);
    Settings::resolve(flags)
}

#[test]
fn without_flags_everything_lives_in_the_two_roots() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings::resolve(flags(directory.path(), &["--exec-root=/x/run"])).unwrap();
    assert_eq!(settings.hosts, [Host::Unix("/x/run/berthd.sock".into())]);
    assert_eq!(settings.pidfile, Path::new("/x/run/berthd.pid"));
    assert_eq!(settings.data_root, Path::new("/var/lib/berth"));
    assert_eq!(settings.machine_memory_mib, 512);
    assert_eq!(settings.accelerator, Request::Auto);
}

#[test]
fn the_file_sets_what_flags_do_not() {
    let json = r#"{"hosts": ["tcp://127.0.0.1:1"], "debug": true, "accelerator": "tcg", "machine-memory": "1g",
        "registry-mirrors": ["https://mirror"], "log-level": "warn"}"#;
    let settings = with_file(json, &["--data-root=/d"]).unwrap();
    assert_eq!(settings.hosts, [Host::Tcp("127.0.0.1:1".parse().unwrap())]);
    assert!(settings.debug);
    assert_eq!(settings.accelerator, Request::Tcg);
    assert_eq!(settings.machine_memory_mib, 1024);
    assert_eq!(settings.log_level, LogLevel::Warn);
    assert_eq!(settings.data_root, Path::new("/d"));
    assert_eq!(settings.registries.mirrors, ["https://mirror/"]);
}

#[test]
fn a_setting_in_both_places_is_refused_by_name() {
    let error =
        with_file(r#"{"hosts": ["unix:///a"], "debug": false}"#, &["-H", "unix:///b", "-D"]).unwrap_err();
    assert!(error.to_string().ends_with(": hosts, debug"), "{error}");
    let json = r#"{"proxies": {"https-proxy": "http://p"}, "max-concurrent-uploads": 2}"#;
    let error = with_file(json, &["--https-proxy=http://q", "--max-concurrent-uploads=3"]).unwrap_err();
    assert!(error.to_string().ends_with(": max-concurrent-uploads, https-proxy"), "{error}");
}

#[test]
fn an_unknown_key_is_refused_by_name() {
    let error = with_file(r#"{"live-restore": true}"#, &[]).unwrap_err();
    assert!(error.to_string().contains("live-restore"), "{error}");
}

#[test]
fn an_emulated_or_interpreted_machine_has_one_cpu_unless_more_are_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    for (accelerator, pace) in [(Accelerator::Tcg, Pace::Ordinary), (Accelerator::Kvm, Pace::Interpreted)] {
        let choice = Choice { accelerator, pace, reason: "for the test" };
        let vcpus = |more: &[&str]| {
            let settings = Settings::resolve(flags(directory.path(), more)).unwrap();
            settings.for_engine(&choice).machine_vcpus
        };
        assert_eq!((vcpus(&[]), vcpus(&["--machine-cpus=3"])), (1, 3));
    }
}

#[test]
fn machines_are_jailed_unless_asked_not_to() {
    let directory = tempfile::tempdir().unwrap();
    let jail = |more: &[&str]| Settings::resolve(flags(directory.path(), more)).map(|settings| settings.jail);
    assert_eq!(jail(&[]).unwrap(), Some(JailSettings { users: UserRange::default() }));
    let users = UserRange::parse("70000-70100").unwrap();
    assert_eq!(jail(&["--machine-users=70000-70100"]).unwrap(), Some(JailSettings { users }));
    assert_eq!(jail(&["--no-jail"]).unwrap(), None);
    let error = jail(&["--no-jail", "--machine-users=70000-70100"]).unwrap_err().to_string();
    assert!(error.starts_with("machine-users"), "{error}");
    let settings = with_file(r#"{"no-jail": false, "machine-users": "70000-70100"}"#, &[]).unwrap();
    assert_eq!(settings.jail, Some(JailSettings { users }));
    let error = with_file(r#"{"machine-users": "0-5"}"#, &[]).unwrap_err().to_string();
    assert!(error.contains("0-5"), "{error}");
}

#[test]
fn users_are_remapped_where_that_is_asked_for() {
    assert_eq!(with_file("{}", &[]).unwrap().user_namespace, None);
    let remapped = with_file(r#"{"userns-remap": "default"}"#, &[]).unwrap().user_namespace;
    assert!(remapped.is_some_and(|namespace| namespace.users[0].count > 0));
    let error = with_file("{}", &["--userns-remap=no such user"]).unwrap_err().to_string();
    assert!(error.starts_with("userns-remap: no user no such user"), "{error}");
}

#[test]
fn machines_outside_the_monitors_bounds_are_refused() {
    for (flag, named) in [
        ("--machine-memory=8", "machine-memory"),
        ("--machine-memory=9999g", "machine-memory"),
        ("--machine-cpus=0", "machine-cpus"),
        ("--machine-cpus=200", "machine-cpus"),
        ("--scratch-size=1m", "scratch-size"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let error = Settings::resolve(flags(directory.path(), &[flag])).unwrap_err();
        assert!(error.to_string().starts_with(named), "{flag}: {error}");
    }
}
