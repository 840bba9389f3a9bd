//! The control socket's lines, in front of a machine that has not started: each is answered, whatever it says.

use std::io::Read;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::time::Instant;

use tempfile::TempDir;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::input::Input;
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

/// Replies to more lines than these may not fit the buffer of a socket that nobody reads meanwhile.
const MAX_LINES: usize = 128;

/// One connection: the lines it sends with descriptors nobody asked for, and the replies it gets.
pub(super) fn control(input: &[u8]) {
    thread_local! {
        static DIRECTORY: TempDir = simple_devices::directory();
    }
    let mut input = Input::new(input);
    let descriptors = input.below(20);
    let input = input.bytes(usize::MAX);
    // Requests may name files; these are not to be the fuzzer's host's.
    let names_files = input.contains(&b'/') || input.windows(2).any(|pair| pair == br"\u");
    if names_files || lines(input).len() > MAX_LINES {
        return;
    }
    let path = DIRECTORY.with(|directory| directory.path().to_owned());
    let config: MachineConfig = serde_json::from_str(MACHINE).expect("it is one");
    let (_devices, handles) = device_set::open(&path, &config).expect("a few small files");
    let (sender, exits) = channel();
    let controlled = Controlled::new(Instant::now(), handles, sender);
    let (client, server) = UnixStream::pair().expect("the host has descriptors");
    let descriptors = vec![server.as_raw_fd(); descriptors];
    let sent = client.send_with_fds(&[input], &descriptors).expect("it fits the socket's buffer");
    assert_eq!(sent, input.len(), "inputs are shorter than a socket's buffer");
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
