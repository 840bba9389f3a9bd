//! Command lines in, create requests out.

use clap::Parser;
use serde_json::{Value, json};

use super::resources::parse_ulimit;
use super::*;
use crate::client::Ulimit;

#[derive(Parser)]
#[command(disable_help_flag = true)]
struct CommandLine {
    #[command(flatten)]
    options: ContainerOptions,
}

fn options(arguments: &[&str]) -> ContainerOptions {
    CommandLine::try_parse_from([&["run"], arguments].concat()).unwrap().options
}

fn request(arguments: &[&str]) -> Result<Value, OptionError> {
    let options = options(arguments);
    options.request(options.process.streams()).map(|request| serde_json::to_value(request).unwrap())
}

#[test]
fn what_was_not_asked_for_is_left_to_the_daemon() {
    assert_eq!(
        request(&["busybox"]).unwrap(),
        json!({
            "Image": "busybox", "AttachStdin": false, "AttachStdout": true, "AttachStderr": true,
            "OpenStdin": false, "StdinOnce": false, "Tty": false, "HostConfig": {}
        })
    );
}

#[test]
fn flags_after_the_image_belong_to_the_command() {
    let value = request(&["-i", "busybox", "ls", "-t", "--rm"]).unwrap();
    assert_eq!(value["Cmd"], json!(["ls", "-t", "--rm"]));
    assert_eq!(
        (&value["Tty"], &value["OpenStdin"], &value["StdinOnce"]),
        (&json!(false), &json!(true), &json!(true))
    );
    let value = request(&["busybox", "-t"]).unwrap();
    assert_eq!((&value["Cmd"], &value["Tty"]), (&json!(["-t"]), &json!(false)));
}

#[test]
fn limits_reach_the_host_config_in_the_apis_units() {
    let value =
        request(&["-m", "64m", "--cpus", "0.5", "--pids-limit", "-1", "--memory-swap", "-1", "x"]).unwrap();
    assert_eq!(
        value["HostConfig"],
        json!({"Memory": 67_108_864, "NanoCpus": 500_000_000, "PidsLimit": -1, "MemorySwap": -1})
    );
}

#[test]
fn the_streams_of_attach_replace_the_default_ones() {
    assert_eq!(
        options(&["-a", "stdin", "-a", "STDERR", "x"]).process.streams(),
        AttachStreams { stdin: true, stdout: false, stderr: true }
    );
}

#[test]
fn an_empty_entrypoint_clears_the_images() {
    assert_eq!(request(&["--entrypoint", "", "x"]).unwrap()["Entrypoint"], json!([""]));
}

#[test]
fn mounts_go_where_the_api_has_them() {
    let value =
        request(&["-v", "/a:/b:ro", "-v", "/c", "--tmpfs", "/run:size=1m", "--read-only", "x"]).unwrap();
    assert_eq!(value["Volumes"], json!({"/c": {}}));
    let expected = json!({"Binds": ["/a:/b:ro"], "Tmpfs": {"/run": "size=1m"}, "ReadonlyRootfs": true});
    assert_eq!(value["HostConfig"], expected);
    let relative = request(&["-v", "./here:/b", "x"]).unwrap();
    assert!(relative["HostConfig"]["Binds"][0].as_str().unwrap().starts_with('/'));
}

#[test]
fn a_wrong_value_names_its_flag() {
    let error = request(&["-m", "lots", "x"]).unwrap_err().to_string();
    assert_eq!(error, "invalid argument \"lots\" for --memory: invalid size: 'lots'");
    assert!(
        request(&["--rm", "--restart", "always", "x"])
            .unwrap_err()
            .to_string()
            .contains("--restart and --rm")
    );
    assert!(request(&["--rm", "--restart", "no", "x"]).is_ok());
}

#[test]
fn health_options_become_one_check() {
    let value = request(&["--health-cmd", "true", "--health-interval", "1m", "x"]).unwrap();
    assert_eq!(value["Healthcheck"]["Test"], json!(["CMD-SHELL", "true"]));
    assert_eq!(value["Healthcheck"]["Interval"], json!(60_000_000_000_i64));
    assert_eq!(request(&["--no-healthcheck", "x"]).unwrap()["Healthcheck"]["Test"], json!(["NONE"]));
    assert!(request(&["--no-healthcheck", "--health-cmd", "x", "x"]).is_err());
}

#[test]
fn networks_are_the_mode_and_what_is_asked_of_each() {
    let value = request(&[
        "--network",
        "name=web,alias=a",
        "--network",
        "db",
        "--ip6",
        "fd00::9",
        "-p",
        "80-81:90-91",
        "x",
    ]);
    let value = value.unwrap();
    assert_eq!(value["HostConfig"]["NetworkMode"], json!("web"));
    assert_eq!(value["HostConfig"]["PortBindings"]["91/tcp"], json!([{ "HostIp": "", "HostPort": "81" }]));
    let expected = json!({ "EndpointsConfig": {
        "web": { "Aliases": ["a"], "IPAMConfig": { "IPv6Address": "fd00::9" } }, "db": {},
    } });
    assert_eq!(value["NetworkingConfig"], expected);
    let value = request(&["--mac-address", "02:00:00:00:00:01", "--link", "db", "x"]).unwrap();
    let expected = json!({ "EndpointsConfig": { "default": { "MacAddress": "02:00:00:00:00:01" } } });
    assert_eq!(value["NetworkingConfig"], expected);
}

#[test]
fn ulimits_and_restart_policies_are_checked() {
    let ulimit = |soft, hard| Ulimit { name: "nofile".to_owned(), soft, hard };
    assert_eq!(parse_ulimit("nofile=1:2"), Ok(ulimit(1, 2)));
    assert_eq!(parse_ulimit("nofile=5"), Ok(ulimit(5, 5)));
    assert_eq!(parse_ulimit("nofile=5:-1"), Ok(ulimit(5, -1)));
    assert!(parse_ulimit("nofile=2:1").is_err() && parse_ulimit("nofile").is_err());
    assert_eq!(parse_restart("on-failure:3").unwrap().maximum_retry_count, 3);
    assert!(parse_restart("on-failure:x").is_err());
}
