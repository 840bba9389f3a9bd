//! Paths of a container, looked at, read and written as its processes see them.

use std::io::Read;

use berth_protocol::agent::write_piece::Piece;
use berth_protocol::agent::{
    ErrorCode, FileContent, FileKind, FileMember, IdRange, Mount, StreamKind, WriteFiles,
};

use crate::container::{Change, exec, process, script};
use crate::machine::Machine;

fn file(path: &str, user: u32) -> Vec<Piece> {
    let member = FileMember {
        path: path.into(),
        kind: FileKind::RegularFile.into(),
        mode: 0o640,
        user_id: user,
        group_id: user,
        modified_unix_s: 1_000_000_000,
        size_bytes: 3,
        ..FileMember::default()
    };
    vec![Piece::Member(member), Piece::Content(FileContent { offset: 0, bytes: b"new".to_vec() })]
}

fn into(path: &str) -> WriteFiles {
    WriteFiles { container_id: "c1".into(), path: path.into(), ..WriteFiles::default() }
}

#[test]
fn mounts_are_part_of_what_is_copied_and_the_kernels_faces_are_not() {
    let Some(machine) = Machine::boot("mounts_are_part_of_what_is_copied_and_the_kernels_faces_are_not")
    else {
        return;
    };
    let mut client = machine.client();
    let text = "echo in-memory > /scratch/file; ln -s /proc/1/root /out; echo ready; sleep 1000";
    let scratch = Mount { kind: "tmpfs".into(), target: "/scratch".into(), ..Mount::default() };
    client.start(script("c1", text).with(|container| container.mounts.push(scratch))).unwrap();
    client.stream("c1", StreamKind::Stdout, 0).unwrap().read_until("ready");

    assert_eq!(client.stat("c1", "/scratch/file").unwrap().size_bytes, 10);
    let (stat, archive) = client.named_archive("c1", "/scratch/file", "file").unwrap();
    let mut content = String::new();
    let mut archive = tar::Archive::new(archive.as_slice());
    archive.entries().unwrap().next().unwrap().unwrap().read_to_string(&mut content).unwrap();
    assert_eq!((stat.size_bytes, content.as_str()), (10, "in-memory\n"));
    let (_, everything) = client.named_archive("c1", "/", "/").unwrap();
    let names: Vec<_> = names(&everything);
    assert!(names.contains(&"/scratch/file".to_owned()), "{names:?}");
    let of_the_kernel =
        |name: &&String| ["/proc/", "/sys/", "/dev/"].iter().any(|face| name.starts_with(face));
    let shown: Vec<_> = names.iter().filter(of_the_kernel).collect();
    assert_eq!(shown, ["/dev/", "/proc/", "/sys/"]);
    for path in ["/proc/kmsg", "/proc/1/root/etc", "/out/etc", "/nothing"] {
        let code = client.stat("c1", path).unwrap_err().0;
        assert!(matches!(code, ErrorCode::NoSuchFile | ErrorCode::InvalidRequest), "{path}: {code:?}");
    }
    client.write(into("/scratch"), file("written", 5)).unwrap();
    assert_eq!(client.write(into("/proc"), file("f", 0)).unwrap_err().code(), ErrorCode::ReadOnly);
    assert!(client.write(into("/out"), file("f", 0)).is_err());
    client.exec(exec("c1", process("e1", &["stat", "-c", "%u %a %Y", "/scratch/written"]))).unwrap();
    assert_eq!(client.stdout("e1"), "5 640 1000000000\n");
    client.remove("c1").unwrap();

    client.mount("c1").unwrap();
    assert_eq!(client.stat("c1", "/scratch/file").unwrap_err().0, ErrorCode::NoSuchFile);
    client.write(into("/"), file("of/a/stopped/one", 0)).unwrap();
    client.remove("c1").unwrap();
    client.mount("c1").unwrap();
    assert_eq!(client.stat("c1", "/of/a/stopped/one").unwrap().size_bytes, 3);
    client.remove("c1").unwrap();
}

#[test]
fn who_owns_what_is_said_as_the_container_says_it() {
    let Some(machine) = Machine::boot("who_owns_what_is_said_as_the_container_says_it") else { return };
    let mut client = machine.client();
    let mapped = script("c1", "echo ready; sleep 1000").with(|container| {
        let range = |outside| vec![IdRange { inside: 0, outside, count: 65_536 }];
        (container.users, container.groups) = (range(100_000), range(200_000));
    });
    client.start(mapped).unwrap();
    client.stream("c1", StreamKind::Stdout, 0).unwrap().read_until("ready");
    client.write(into("/"), file("made/file", 5)).unwrap();
    client.exec(exec("c1", process("e1", &["stat", "-c", "%u:%g", "/made", "/made/file"]))).unwrap();
    assert_eq!(client.stdout("e1"), "0:0\n5:5\n");
    let (_, archive) = client.named_archive("c1", "/made/file", "file").unwrap();
    let mut archive = tar::Archive::new(archive.as_slice());
    let entry = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!((entry.header().uid().unwrap(), entry.header().gid().unwrap()), (5, 5));
    let nobody = client.write(into("/"), file("nobodys", 70_000)).unwrap_err();
    assert_eq!(nobody.code(), ErrorCode::InvalidRequest);
    client.remove("c1").unwrap();
}

#[test]
fn a_directory_that_is_replaced_meanwhile_is_still_the_one_that_is_written_to() {
    let name = "a_directory_that_is_replaced_meanwhile_is_still_the_one_that_is_written_to";
    let Some(machine) = Machine::boot(name) else { return };
    let mut client = machine.client();
    client.start(script("c1", "mkdir -p /d/sub /elsewhere/sub; echo ready; sleep 1000")).unwrap();
    client.stream("c1", StreamKind::Stdout, 0).unwrap().read_until("ready");
    let begun = client.begin_write(into("/d")).unwrap();
    let replace = "mv /d /kept && ln -s /elsewhere /d && ln -s /elsewhere /kept/out";
    client.exec(exec("c1", process("e1", &["sh", "-c", replace]))).unwrap();
    assert_eq!(client.wait("e1").code, 0);
    let pieces = [file("f", 0), file("sub/f", 0), file("new/f", 0)].concat();
    crate::client::end_write(begun, pieces).unwrap();
    client.exec(exec("c1", process("e2", &["find", "/kept", "/elsewhere", "-type", "f"]))).unwrap();
    let stdout = client.stdout("e2");
    let mut found: Vec<_> = stdout.lines().collect();
    found.sort_unstable();
    assert_eq!(found, ["/kept/f", "/kept/new/f", "/kept/sub/f"]);
    client.remove("c1").unwrap();
}

fn names(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(Result::unwrap);
    entries.map(|entry| String::from_utf8_lossy(&entry.path_bytes()).into_owned()).collect()
}
