//! What `berth-vmm` says of machines that cannot be: one error that names the thing, in the exit file and on standard
//! error, and nothing left running. No guest is started, so nothing is needed but the program.
#![expect(clippy::unwrap_used, reason = "tests state their expectations with it")]

use std::path::Path;
use std::process::Command;

use berth_vmm::config::files;
use berth_vmm::control::MachineExit;
use serde_json::{Value, json};

/// A machine that could start, but for its kernel.
fn machine(accelerator: &str) -> Value {
    json!({
        "id": "wrong", "accelerator": accelerator, "vcpus": 1, "memory_mib": 64, "kernel": "kernel",
        "initramfs": null, "command_line": "", "disks": [], "guest_cid": 3, "console_limit_bytes": 4096,
        "qemu": "/nowhere/qemu-system-x86_64"
    })
}

/// Runs a machine whose configuration is `text`, with these other files; gives the error it ends with.
fn error_of(text: &[u8], files_beside: &[(&str, &[u8])]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path(files::CONFIG), text).unwrap();
    for (name, contents) in files_beside {
        std::fs::write(path(name), contents).unwrap();
    }
    let output = Command::new(env!("CARGO_BIN_EXE_berth-vmm"))
        .arg("--state-dir")
        .arg(directory.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "an error is no crash: {output:?}");
    let exit = std::fs::read(path(files::EXIT)).unwrap();
    let MachineExit::Failed { message } = serde_json::from_slice(&exit).unwrap() else {
        panic!("{}", String::from_utf8_lossy(&exit))
    };
    assert_eq!(String::from_utf8_lossy(&output.stderr), format!("berth-vmm: {message}\n"));
    for socket in [files::CONTROL, files::VSOCK] {
        assert!(!path(socket).exists(), "{socket} is left behind");
    }
    message
}

#[track_caller]
fn refuses(field: &str, value: Value, error: &str) {
    let mut config = machine("tcg");
    config[field] = value;
    let message = error_of(config.to_string().as_bytes(), &[]);
    assert!(message.starts_with(&format!("machine.json: machine configuration: {field}: ")), "{message}");
    assert!(message.contains(error), "{message}");
}

#[test]
fn sizes_out_of_bounds_are_refused_by_name() {
    for memory_mib in [0, 1, 31, (1 << 20) + 1, u32::MAX] {
        refuses("memory_mib", json!(memory_mib), "32 to 1048576 are possible");
    }
    for vcpus in [0, 33, 255] {
        refuses("vcpus", json!(vcpus), "1 to 32 are possible");
    }
    refuses("command_line", json!("x".repeat(5000)), "at most 896 characters");
    for command_line in ["a\u{0}b", "a\nb", "ä"] {
        refuses("command_line", json!(command_line), "printable ASCII");
    }
    refuses("guest_cid", json!(2), "0 to 2 are reserved");
}

#[test]
fn what_is_no_configuration_says_where() {
    for (text, error) in [
        ("", "EOF while parsing"),
        ("{", "EOF while parsing"),
        ("[]", "invalid length 0"),
        (r#"{"id": "m"}"#, "missing field"),
        (r#"{"id": "m", "colour": "red"}"#, "unknown field `colour`"),
        (r#"{"vcpus": 256}"#, "invalid value: integer `256`"),
        (r#"{"memory_mib": -1}"#, "invalid value: integer `-1`"),
    ] {
        let message = error_of(text.as_bytes(), &[]);
        assert!(message.starts_with("machine.json: ") && message.contains(error), "{text}: {message}");
    }
    assert!(error_of(&[0xff; 100], &[]).starts_with("machine.json: expected value at line 1 column 1"));
}

#[test]
fn a_machine_larger_than_its_host_is_refused_on_either_accelerator() {
    let host = std::fs::read_to_string("/proc/meminfo").unwrap();
    let kib = |name: &str| -> u64 {
        let line = host.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let host_mib = (kib("MemTotal:") + kib("SwapTotal:")) / 1024;
    let asked_mib = host_mib + 100;
    if asked_mib > 1 << 20 {
        eprintln!(
            "skipped: a_machine_larger_than_its_host_is_refused_on_either_accelerator: this host has a TiB"
        );
        return;
    }
    for accelerator in ["tcg", "kvm"] {
        let mut config = machine(accelerator);
        config["memory_mib"] = json!(asked_mib);
        let message = error_of(config.to_string().as_bytes(), &[]);
        assert!(
            message.starts_with(&format!("memory_mib: {asked_mib} MiB are more than this host has")),
            "{message}"
        );
    }
}

#[test]
fn wrong_kernels_and_initramfs_are_refused_by_name() {
    if !Path::new("/dev/kvm").exists() {
        eprintln!("skipped: wrong_kernels_and_initramfs_are_refused_by_name: there is no /dev/kvm");
        return;
    }
    let config = machine("kvm").to_string();
    let missing = error_of(config.as_bytes(), &[]);
    assert_eq!(missing, "kernel: No such file or directory (os error 2)");
    for kernel in [b"".as_slice(), b"#!/bin/sh\n", b"\x7fELF\x01\x01\x01"] {
        let message = error_of(config.as_bytes(), &[("kernel", kernel)]);
        assert!(message.starts_with("kernel is no uncompressed x86-64 ELF kernel: "), "{message}");
    }
}
