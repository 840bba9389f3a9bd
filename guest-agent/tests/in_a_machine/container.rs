//! Requests as the daemon would make them, and short ways to change one thing about them.

use berth_protocol::agent::{Process, Resources, StartContainer, StartExec};

const PATH: &str = "PATH=/bin";

/// Docker's lists, shortened to what a bare kernel has.
const MASKED: [&str; 5] = ["/sys/firmware", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi"];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

pub(crate) fn process(id: &str, args: &[&str]) -> Process {
    Process {
        process_id: id.into(),
        args: args.iter().map(|&argument| argument.to_owned()).collect(),
        env: vec![PATH.into()],
        ..Process::default()
    }
}

/// A container on the first scratch disk.
pub(crate) fn container(id: &str, args: &[&str]) -> StartContainer {
    StartContainer {
        container_id: id.into(),
        image_disk: "vda".into(),
        scratch_disk: "vdb".into(),
        hostname: "berth-test".into(),
        process: Some(process(id, args)),
        resources: Some(Resources::default()),
        masked_paths: MASKED.map(String::from).to_vec(),
        readonly_paths: READ_ONLY.map(String::from).to_vec(),
        ..StartContainer::default()
    }
}

/// The same with a shell script.
pub(crate) fn script(id: &str, text: &str) -> StartContainer {
    container(id, &["sh", "-c", text])
}

pub(crate) fn exec(container_id: &str, process: Process) -> StartExec {
    StartExec { container_id: container_id.into(), process: Some(process) }
}

pub(crate) trait Change: Sized {
    fn with(self, change: impl FnOnce(&mut Self)) -> Self;
}

impl Change for StartContainer {
    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Change for Process {
    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// The process of a container request.
pub(crate) fn first(container: &mut StartContainer) -> &mut Process {
    container.process.as_mut().expect("made with one")
}
