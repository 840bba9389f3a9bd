//! Starts that fail: the code, the words that Docker's users know, and nothing left behind.

use berth_protocol::agent::{ErrorCode, Mount, StartContainer};

use crate::container::{Change, container, exec, first, process, script};
use crate::machine::Machine;

fn with_user(user: &str) -> StartContainer {
    container("c1", &["true"]).with(|container| first(container).user = user.into())
}

fn in_directory(directory: &str) -> StartContainer {
    container("c1", &["true"]).with(|container| first(container).working_directory = directory.into())
}

fn bad_starts() -> Vec<(StartContainer, ErrorCode, &'static str)> {
    let command = |name| container("c1", &[name]);
    vec![
        (command("nope"), ErrorCode::CommandNotFound, "exec: \"nope\": executable file not found in $PATH"),
        (
            command("/nope"),
            ErrorCode::CommandNotFound,
            "exec: \"/nope\": stat /nope: no such file or directory",
        ),
        (command("/etc"), ErrorCode::CommandNotExecutable, "exec: \"/etc\": is a directory"),
        (
            command("/bin/not-executable"),
            ErrorCode::CommandNotExecutable,
            "exec: \"/bin/not-executable\": permission denied",
        ),
        (command("garbage"), ErrorCode::CommandNotExecutable, "exec /bin/garbage: exec format error"),
        (
            command("no-interpreter"),
            ErrorCode::CommandNotFound,
            "exec /bin/no-interpreter: no such file or directory",
        ),
        (
            with_user("nobody"),
            ErrorCode::NoSuchUser,
            "unable to find user nobody: no matching entries in passwd file",
        ),
        (
            with_user("web:wheel"),
            ErrorCode::NoSuchUser,
            "unable to find group wheel: no matching entries in group file",
        ),
        (
            in_directory("/etc/passwd"),
            ErrorCode::BadWorkingDirectory,
            "chdir to cwd (\"/etc/passwd\") set in config.json failed: not a directory",
        ),
    ]
}

#[test]
fn a_failed_start_says_why_and_leaves_nothing() {
    let Some(machine) = Machine::boot("a_failed_start_says_why_and_leaves_nothing") else { return };
    let mut client = machine.client();
    for (request, code, message) in bad_starts() {
        for init in [false, true] {
            let request = request.clone().with(|container| container.init = init);
            assert_eq!(client.start(request).unwrap_err(), (code, message.to_owned()), "init: {init}");
        }
    }
    client.start(script("c1", "echo fine")).expect("the disks are free again");
    assert_eq!(client.stdout("c1"), "fine\n");
    client.remove("c1").unwrap();
}

#[test]
fn a_failed_exec_leaves_its_container_alone() {
    let Some(machine) = Machine::boot("a_failed_exec_leaves_its_container_alone") else { return };
    let mut client = machine.client();
    client.start(container("c1", &["sleep", "1000"])).unwrap();
    let missing = client.exec(exec("c1", process("e1", &["nope"]))).unwrap_err();
    assert_eq!(missing.1, "exec: \"nope\": executable file not found in $PATH");
    let nowhere = process("e1", &["true"]).with(|process| process.working_directory = "/no/such".into());
    let nowhere = client.exec(exec("c1", nowhere)).unwrap_err();
    assert_eq!(nowhere.0, ErrorCode::BadWorkingDirectory);
    assert_eq!(nowhere.1, "chdir to cwd (\"/no/such\") set in config.json failed: no such file or directory");
    let taken = client.exec(exec("c1", process("c1", &["true"]))).unwrap_err();
    assert_eq!(taken.0, ErrorCode::AlreadyExists);
    let elsewhere = client.exec(exec("c2", process("e1", &["true"]))).unwrap_err();
    assert_eq!(elsewhere.0, ErrorCode::NoSuchContainer);
    client.exec(exec("c1", process("e1", &["true"]))).expect("the id is free again");
    client.remove("c1").unwrap();
}

#[test]
fn impossible_requests_are_refused() {
    let Some(machine) = Machine::boot("impossible_requests_are_refused") else { return };
    let mut client = machine.client();
    let no_disk = container("c1", &["true"]).with(|container| container.image_disk = "vdz".into());
    assert_eq!(client.start(no_disk).unwrap_err().0, ErrorCode::MountFailed);
    let no_file_system = container("c1", &["true"]).with(|container| container.image_disk = "vdc".into());
    assert_eq!(client.start(no_file_system).unwrap_err().0, ErrorCode::MountFailed);
    let bind = Mount { kind: "bind".into(), target: "/x".into(), ..Default::default() };
    let bind = container("c1", &["true"]).with(|container| container.mounts = vec![bind]);
    assert_eq!(client.start(bind).unwrap_err().0, ErrorCode::InvalidRequest);
    let option = Mount {
        kind: "tmpfs".into(),
        target: "/x".into(),
        options: vec!["bogus".into()],
        ..Default::default()
    };
    let option = container("c1", &["true"]).with(|container| container.mounts = vec![option]);
    assert_eq!(client.start(option).unwrap_err().0, ErrorCode::MountFailed);
    client.start(container("c1", &["sleep", "1000"])).unwrap();
    assert_eq!(client.start(container("c1", &["true"])).unwrap_err().0, ErrorCode::AlreadyExists);
    client.remove("c1").unwrap();
}
