//! The control socket's lines, in front of a machine that has not started: each is answered, whatever it says.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::time::Instant;

use tempfile::TempDir;

use super::simple_devices;
use crate::config::{MachineConfig, files};
use crate::control::Reply;
use crate::control_server::{Controlled, converse};
use crate::device_set;

const MACHINE: &str = r#"{
    "id": "m", "accelerator": "kvm", "vcpus": 1, "memory_mib": 32, "kernel": "k", "initramfs": null,
    "command_line": "", "guest_cid": 3, "console_limit_bytes": 4096, "qemu": "",
    "disks": [
        {"capacity_bytes": 512, "access": "read_only", "extents": []},
        {"capacity_bytes": 65536, "access": "read_write", "extents": []}
    ]
}"#;

/// One connection: the lines it sends, and the replies it gets.
pub(super) fn control(input: &[u8]) {
    thread_local! {
        static DIRECTORY: TempDir = simple_devices::directory();
    }
    // Requests may name files; these are not to be the fuzzer's host's.
    if input.contains(&b'/') || input.windows(2).any(|pair| pair == br"\u") {
        return;
    }
    let path = DIRECTORY.with(|directory| directory.path().to_owned());
    let config: MachineConfig = serde_json::from_str(MACHINE).expect("it is one");
    let (_devices, handles) = device_set::open(&path, &config).expect("a few small files");
    let (sender, exits) = channel();
    let controlled = Controlled::new(Instant::now(), handles, sender);
    let (mut client, server) = UnixStream::pair().expect("the host has descriptors");
    client.write_all(input).expect("inputs are shorter than a socket's buffer");
    client.shutdown(Shutdown::Write).expect("it is open");
    converse(&server, &controlled).expect("replies to a short input fit the socket's buffer");
    drop(server);
    check_replies(input, client, exits.try_recv().is_ok());
    std::fs::remove_file(path.join(files::VSOCK)).expect("the vsock device's socket");
}

fn check_replies(input: &[u8], mut client: UnixStream, is_ending: bool) {
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).expect("the other end is closed");
    let reply = |line: &&[u8]| serde_json::from_slice::<Reply>(line).expect("a reply is one");
    let replies: Vec<Reply> = lines(&bytes).iter().map(reply).collect();
    assert_eq!(replies.len(), lines(input).len(), "each line has a reply");
    assert!(!is_ending || replies.contains(&Reply::Done), "a machine that ends says so first");
}

/// The lines, with their ends; behind the last line's end is no other.
fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n').collect()
}
