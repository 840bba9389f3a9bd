//! Processes of a host under test, as /proc has them.

use std::fs;
use std::path::Path;

use rustix::process::Pid;

/// Processes with that path in their command line, and their programs' names.
pub(crate) fn processes_that_name(path: &Path) -> Vec<(u32, String)> {
    let needle = path.to_string_lossy();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let matching = pids.filter_map(|pid| {
        let command_line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let command_line = String::from_utf8_lossy(&command_line).into_owned();
        let program = command_line.split('\0').next()?;
        let name = Path::new(program).file_name()?.to_str()?.to_owned();
        let ours =
            ["berthd", "berth-vmm", "qemu-system-x86_64", "passt", "passt.avx2"].contains(&name.as_str());
        (ours && command_line.contains(&*needle)).then_some((pid, name))
    });
    matching.collect()
}

pub(crate) fn pid_of(pid: u32) -> Pid {
    i32::try_from(pid).ok().and_then(Pid::from_raw).expect("the kernel's process ids are positive")
}
