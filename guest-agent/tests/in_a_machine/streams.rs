//! Output that outlives daemons, and input that does too.

use berth_protocol::agent::{ErrorCode, ResizeTerminal, StreamKind, TerminalSize, request::Operation};

use crate::container::{Change, container, first, script};
use crate::machine::{Machine, read_all};

#[test]
fn output_is_kept_until_it_is_acknowledged() {
    let Some(machine) = Machine::boot("output_is_kept_until_it_is_acknowledged") else { return };
    let mut client = machine.client();
    // More than the agent keeps and the pipe holds: the writer has to wait for the acknowledgements.
    client.start(script("c1", "seq 1 200000; echo done >&2")).unwrap();
    let expected: String = (1..=200_000).map(|number| format!("{number}\n")).collect();

    let mut first = client.stream("c1", StreamKind::Stdout, 0).unwrap();
    let mut seen = first.read_exactly(100_000);
    first.acknowledge(60_000).unwrap();
    first.break_off();

    let mut second = client.stream("c1", StreamKind::Stdout, 70_000).unwrap();
    assert_eq!(second.offset, 70_000);
    seen.truncate(70_000);
    seen.extend(second.read_exactly(30_000));

    // The newest connection takes over from one that is still open.
    let third = client.stream("c1", StreamKind::Stdout, second.offset).unwrap();
    seen.extend(third.read_to_end());
    assert_eq!(String::from_utf8(seen).unwrap(), expected);
    assert_eq!(client.output("c1", StreamKind::Stderr), "done\n");
    read_all(second.connection);

    assert_eq!(client.wait("c1").code, 0);
    let beyond = client.stream("c1", StreamKind::Stdout, u64::MAX).err().expect("nothing is there");
    assert_eq!(beyond.code(), ErrorCode::InvalidRequest);
    client.remove("c1").unwrap();
}

#[test]
fn a_process_that_nobody_listens_to_waits() {
    let Some(machine) = Machine::boot("a_process_that_nobody_listens_to_waits") else { return };
    let mut client = machine.client();
    client.start(script("c1", "dd if=/dev/zero bs=1024 count=2048 2>/dev/null; echo done >&2")).unwrap();
    let mut stderr = client.stream("c1", StreamKind::Stderr, 0).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(client.processes("c1")[0].running, "two MiB do not fit into what is kept");
    let stdout = client.stream("c1", StreamKind::Stdout, 0).unwrap();
    assert_eq!(stdout.read_to_end().len(), 2 << 20);
    stderr.read_until("done");
    client.remove("c1").unwrap();
}

#[test]
fn input_ends_when_the_host_says_so_and_not_when_a_daemon_dies() {
    let Some(machine) = Machine::boot("input_ends_when_the_host_says_so_and_not_when_a_daemon_dies") else {
        return;
    };
    let mut client = machine.client();
    client.start(container("c1", &["cat"]).with(|container| first(container).stdin = true)).unwrap();
    let mut stdout = client.stream("c1", StreamKind::Stdout, 0).unwrap();

    let mut before = client.stream("c1", StreamKind::Stdin, 0).unwrap();
    before.send_chunk(b"before\n");
    stdout.read_until("before\n");
    before.break_off();

    let mut after = client.stream("c1", StreamKind::Stdin, 0).unwrap();
    after.send_chunk(b"after\n");
    stdout.read_until("after\n");
    assert!(client.processes("c1")[0].running);
    after.send_chunk(b"");
    assert_eq!(client.wait("c1").code, 0);
    assert_eq!(read_all(stdout.connection), b"");
    client.remove("c1").unwrap();
}

#[test]
fn a_process_without_input_reads_nothing() {
    let Some(machine) = Machine::boot("a_process_without_input_reads_nothing") else { return };
    let mut client = machine.client();
    client.start(container("c1", &["wc", "-c"])).unwrap();
    assert_eq!(client.stdout("c1"), "0\n");
    let refused = client.stream("c1", StreamKind::Stdin, 0).err().expect("no stdin was asked for");
    assert_eq!(refused.code(), ErrorCode::InvalidRequest);
    client.remove("c1").unwrap();
}

#[test]
fn a_terminal_has_a_name_a_size_and_a_foreground() {
    let Some(machine) = Machine::boot("a_terminal_has_a_name_a_size_and_a_foreground") else { return };
    let mut client = machine.client();
    let text = "trap 'echo interrupted; stty size; exit 4' INT; tty; stty size; ls -l /dev/console | cut -c1; \
                read line; echo \"<$line>\"; while true; do sleep 0.1; done";
    let request = script("c1", text).with(|container| {
        first(container).terminal = true;
        first(container).stdin = true;
        first(container).terminal_size = Some(TerminalSize { rows: 24, columns: 80 });
    });
    client.start(request).unwrap();
    let mut terminal = client.stream("c1", StreamKind::Stdout, 0).unwrap();
    let mut keyboard = client.stream("c1", StreamKind::Stdin, 0).unwrap();
    let seen = terminal.read_until("c\r\n");
    assert!(seen.starts_with("/dev/pts/0\r\n24 80\r\nc"), "{seen:?}");

    keyboard.send_chunk(b"typed\n");
    terminal.read_until("<typed>\r\n");
    let size = Some(TerminalSize { rows: 50, columns: 132 });
    client.ask(Operation::ResizeTerminal(ResizeTerminal { process_id: "c1".into(), size })).unwrap();
    keyboard.send_chunk(b"\x03");
    let seen = terminal.read_until("50 132\r\n");
    assert!(seen.contains("interrupted"), "{seen:?}");
    assert_eq!(client.wait("c1").code, 4);
    assert!(client.stream("c1", StreamKind::Stderr, 0).is_err(), "a terminal has one output");
    client.remove("c1").unwrap();
}
