//! The only program of the machines that `tcg.rs` starts: PID 1, which does over vsock what the tests ask for.
//!
//! Compiled by the harness as one static binary, so it has std and the C library below it, and no crates. One command
//! a connection, in its first line; see [`serve`].
#![expect(unsafe_code, reason = "system calls that std does not have, without crates")]

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::thread;

/// Where commands are taken, and where the host waits for the word that they are.
const COMMAND_PORT: u32 = 1024;
const READY_PORT: u32 = 1023;
const HOST_CID: u32 = 2;
const ANY_CID: u32 = u32::MAX;

const AF_VSOCK: i32 = 40;
const SOCK_STREAM: i32 = 1;
const SHUT_WR: i32 = 1;
const BLKFLSBUF: u64 = 0x1261;
const BLKDISCARD: u64 = 0x1277;
const RB_AUTOBOOT: i32 = 0x0123_4567;

#[repr(C)]
struct VsockAddress {
    family: u16,
    reserved: u16,
    port: u32,
    cid: u32,
    zero: [u8; 4],
}

unsafe extern "C" {
    fn mount(source: *const u8, target: *const u8, kind: *const u8, flags: u64, data: *const u8) -> i32;
    fn socket(domain: i32, kind: i32, protocol: i32) -> i32;
    fn bind(socket: i32, address: *const VsockAddress, length: u32) -> i32;
    fn connect(socket: i32, address: *const VsockAddress, length: u32) -> i32;
    fn listen(socket: i32, backlog: i32) -> i32;
    fn accept(socket: i32, address: *mut VsockAddress, length: *mut u32) -> i32;
    fn shutdown(socket: i32, how: i32) -> i32;
    fn ioctl(file: i32, request: u64, argument: *const u64) -> i32;
    fn reboot(how: i32) -> i32;
}

type VsockCall = unsafe extern "C" fn(i32, *const VsockAddress, u32) -> i32;

fn vsock(call: VsockCall, cid: u32, port: u32) -> File {
    let address = VsockAddress { family: 40, reserved: 0, port, cid, zero: [0; 4] };
    let length = u32::try_from(size_of::<VsockAddress>()).unwrap();
    // SAFETY: plain system calls; the address is a valid sockaddr_vm of the length given, and the descriptor is new.
    unsafe {
        let socket = socket(AF_VSOCK, SOCK_STREAM, 0);
        assert!(socket >= 0 && call(socket, &raw const address, length) == 0, "vsock, port {port}");
        File::from_raw_fd(socket)
    }
}

fn main() {
    for (kind, target) in [(c"devtmpfs", c"/dev"), (c"proc", c"/proc"), (c"sysfs", c"/sys")] {
        std::fs::create_dir_all(target.to_str().unwrap()).ok();
        let (kind, target) = (kind.as_ptr().cast(), target.as_ptr().cast());
        // SAFETY: both are strings that end in zeros; no data is passed.
        unsafe { mount(kind, target, kind, 0, std::ptr::null()) };
    }
    let listener = vsock(bind, ANY_CID, COMMAND_PORT);
    // SAFETY: a plain system call on a descriptor that we own.
    assert_eq!(unsafe { listen(listener.as_raw_fd(), 128) }, 0);
    let mut ready = vsock(connect, HOST_CID, READY_PORT);
    ready.write_all(b"ready").unwrap();
    print("guest: ready");
    loop {
        // SAFETY: the peer's address is not asked for; the descriptor returned is new.
        let connection = unsafe {
            let descriptor = accept(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut());
            assert!(descriptor >= 0);
            File::from_raw_fd(descriptor)
        };
        thread::spawn(move || serve(connection));
    }
}

fn print(text: &str) {
    let mut console = OpenOptions::new().write(true).open("/dev/console").unwrap();
    writeln!(console, "{text}").unwrap();
}

fn serve(mut connection: File) {
    let command = first_line(&mut connection);
    let words: Vec<&str> = command.split(' ').collect();
    let number = |index: usize| words[index].parse::<u64>().unwrap();
    match words[0] {
        "echo" => {
            std::io::copy(&mut connection.try_clone().unwrap(), &mut connection).ok();
        }
        "count" => {
            let bytes = std::io::copy(&mut connection, &mut std::io::sink()).unwrap();
            write!(connection, "{bytes}").unwrap();
        }
        "send" => {
            let chunk = vec![b'x'; 1 << 16];
            (0..number(1) / 65536).for_each(|_| connection.write_all(&chunk).unwrap());
            // SAFETY: a plain system call on a descriptor that we own.
            unsafe { shutdown(connection.as_raw_fd(), SHUT_WR) };
            std::io::copy(&mut connection, &mut std::io::sink()).ok();
        }
        "read" => {
            let disk = disk(words[1]);
            let mut bytes = vec![0; usize::try_from(number(3)).unwrap()];
            // SAFETY: this request takes no argument.
            unsafe { ioctl(disk.as_raw_fd(), BLKFLSBUF, std::ptr::null()) };
            disk.read_exact_at(&mut bytes, number(2)).unwrap();
            connection.write_all(&bytes).unwrap();
        }
        "write" => {
            let mut bytes = Vec::new();
            connection.read_to_end(&mut bytes).unwrap();
            let disk = disk(words[1]);
            let result = disk.write_all_at(&bytes, number(2)).and_then(|()| disk.sync_all());
            write!(connection, "{}", if result.is_ok() { "done" } else { "failed" }).unwrap();
        }
        "discard" => {
            let range = [number(2), number(3)];
            // SAFETY: the request takes a pointer to two numbers, which live until the call returns.
            let result = unsafe { ioctl(disk(words[1]).as_raw_fd(), BLKDISCARD, range.as_ptr()) };
            write!(connection, "{}", if result == 0 { "done" } else { "failed" }).unwrap();
        }
        "random" => {
            let mut bytes = [0; 32];
            File::open("/dev/hwrng").unwrap().read_exact(&mut bytes).unwrap();
            connection.write_all(&bytes).unwrap();
        }
        "size" => {
            let sectors = std::fs::read_to_string(format!("/sys/block/{}/size", words[1])).unwrap();
            connection.write_all(sectors.trim().as_bytes()).unwrap();
        }
        "network" => {
            let address = words[1].parse().unwrap();
            let listener = start_network(address);
            write!(connection, "{}", file("/sys/class/net/eth0/address").trim()).unwrap();
            thread::spawn(move || echo_over(&listener));
        }
        "share" => {
            std::fs::create_dir_all("/mnt").unwrap();
            let (tag, target, kind) = (words[1].to_owned() + "\0", c"/mnt".as_ptr().cast(), c"virtiofs");
            // SAFETY: all three are strings that end in zeros; no data is passed.
            let result = unsafe { mount(tag.as_ptr(), target, kind.as_ptr().cast(), 0, std::ptr::null()) };
            assert_eq!(result, 0, "mount of {tag}");
            connection.write_all(file(&format!("/mnt/{}", words[2])).as_bytes()).unwrap();
            std::fs::write("/mnt/answer", "from the guest").unwrap();
        }
        "cat" => connection.write_all(file(words[1]).as_bytes()).unwrap(),
        "drivers" => {
            let mut names: Vec<String> = std::fs::read_dir("/sys/bus/virtio/devices")
                .unwrap()
                .map(|device| std::fs::read_link(device.unwrap().path().join("driver")).unwrap())
                .map(|driver| driver.file_name().unwrap().to_str().unwrap().to_owned())
                .collect();
            names.sort_unstable();
            connection.write_all(names.join(" ").as_bytes()).unwrap();
        }
        "processors" => write!(connection, "{}", thread::available_parallelism().unwrap()).unwrap(),
        "print" => print(&words[1..].join(" ")),
        // SAFETY: the machine ends here, which is what is wanted.
        "reset" => drop(unsafe { reboot(RB_AUTOBOOT) }),
        "panic" => std::process::exit(1),
        other => panic!("unknown command {other:?}"),
    }
}

fn file(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The kernel's `struct ifreq` with an address, or flags in the place of its family.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    family_or_flags: u16,
    port: u16,
    address: [u8; 4],
    rest: [u8; 16],
}

/// Gives eth0 an address in a network of 256, brings it up, and listens on port 7.
fn start_network(address: std::net::Ipv4Addr) -> std::net::TcpListener {
    const SET_ADDRESS: u64 = 0x8916;
    const SET_MASK: u64 = 0x891c;
    const SET_FLAGS: u64 = 0x8914;
    const INTERNET: u16 = 2;
    const UP: u16 = 1;
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    for (request, family_or_flags, address) in [
        (SET_ADDRESS, INTERNET, address.octets()),
        (SET_MASK, INTERNET, [255, 255, 255, 0]),
        (SET_FLAGS, UP, [0; 4]),
    ] {
        let mut name = [0; 16];
        name[..4].copy_from_slice(b"eth0");
        let argument = InterfaceRequest { name, family_or_flags, port: 0, address, rest: [0; 16] };
        // SAFETY: these requests take a pointer to this structure, which lives until the call returns.
        let result = unsafe { ioctl(socket.as_raw_fd(), request, (&raw const argument).cast()) };
        assert_eq!(result, 0, "request {request:#x} for eth0");
    }
    std::net::TcpListener::bind((address, 7)).unwrap()
}

fn echo_over(listener: &std::net::TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        std::io::copy(&mut stream.try_clone().unwrap(), &mut stream).ok();
    }
}

fn first_line(connection: &mut File) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while connection.read_exact(&mut byte).is_ok() && byte != *b"\n" {
        line.extend(byte);
    }
    String::from_utf8(line).unwrap()
}

fn disk(name: &str) -> File {
    let path = format!("/dev/{name}");
    OpenOptions::new().read(true).write(true).open(&path).or_else(|_| File::open(&path)).unwrap()
}
