//! Where a script runs: in a container, or on the host with the same programs. It takes its time itself, so that how it
//! was started is no part of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

use super::super::side::{Container, Side};
use super::Place;
use crate::{cache, images, program, progress};

/// The files of the image, unpacked.
pub(super) struct HostRoot(PathBuf);

/// One place.
pub(super) enum Runner<'a> {
    Container {
        side: &'a Side,
        container: Container<'a>,
    },
    /// With that directory of the host's under that name, as a container has it.
    Host {
        root: &'a HostRoot,
        mount: Option<(PathBuf, &'static str)>,
    },
}

/// What became of a script.
#[derive(Debug, PartialEq)]
pub(super) struct Done {
    pub(super) said: String,
    pub(super) took: Duration,
    /// Of the host's processors, by whoever took part.
    pub(super) spent: Duration,
}

impl HostRoot {
    pub(super) fn ensure(archive: &Path) -> anyhow::Result<Self> {
        let archive = archive.canonicalize().with_context(|| format!("cannot find {}", archive.display()))?;
        // Beside the archive, whose directory is named by what decides it.
        let kept = archive.with_extension("root");
        let _lock = cache::lock(&kept, "root")?;
        if !kept.exists() {
            progress::heading("the image's files, for the host, once");
            let unfinished = kept.with_extension("new");
            // What an earlier try has left.
            drop(fs::remove_dir_all(&unfinished));
            fs::create_dir(&unfinished).with_context(|| format!("cannot create {}", unfinished.display()))?;
            images::unpack_workload(&archive, &unfinished)?;
            fs::rename(&unfinished, &kept).with_context(|| format!("cannot create {}", kept.display()))?;
        }
        Ok(Self(kept))
    }

    /// Runs a script there; mounts that it sees are nobody else's.
    pub(super) fn shell(&self, mount: Option<(&Path, &str)>, script: &str) -> anyhow::Result<String> {
        let steps = "mount --make-rprivate / && mount -t proc proc \"$0/proc\" && mount --rbind /dev \"$0/dev\" && \
                     if [ -n \"$2\" ]; then mkdir -p \"$0$3\" && mount --bind \"$2\" \"$0$3\"; fi && \
                     exec chroot \"$0\" bash -c \"$1\"";
        let (source, target) = mount.unwrap_or((Path::new(""), ""));
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", steps]).arg(&self.0).arg(script).arg(source).arg(target);
        program::output(command.stdin(Stdio::null()))
    }
}

impl Runner<'_> {
    pub(super) fn place(&self) -> Place {
        match self {
            Self::Container { side, .. } => side.place,
            Self::Host { .. } => Place::Host,
        }
    }

    /// Runs a script of bash's to its end.
    pub(super) fn run(&self, script: &str) -> anyhow::Result<Done> {
        // The last line is ours.
        let timed = format!("set -e; TIMEFORMAT='%3R %3U %3S'; {{ time {{ {script}\n}} 2>&3; }} 3>&2 2>&1");
        match self {
            Self::Container { side, container } => {
                let work = || container.exec(&["bash", "-c", &timed]);
                let (said, spent) = side.processor_time(&[container], work)?;
                done(&said, Some(spent.cpu))
            }
            Self::Host { root, mount } => {
                let mount = mount.as_ref().map(|(source, target)| (source.as_path(), *target));
                done(&root.shell(mount, &timed)?, None)
            }
        }
    }

    /// A guest forgets what it has read. Where the host's own kernel would have to, nothing is done.
    pub(super) fn forget(&self) -> anyhow::Result<()> {
        match self {
            Self::Container { side, container } if side.place == Place::Berth => {
                container.exec(&["sh", "-c", "sync; echo 3 > /proc/sys/vm/drop_caches"]).map(drop)
            }
            _no_guest => Ok(()),
        }
    }
}

/// What a timed script said, and its times: those of its own processes if nobody else's count.
fn done(said: &str, spent: Option<Duration>) -> anyhow::Result<Done> {
    let (said, times) = said.trim_end().rsplit_once('\n').unwrap_or(("", said.trim_end()));
    let seconds: Result<Vec<f64>, _> = times.split_whitespace().map(str::parse).collect();
    let Ok(Ok([real, user, system])) = seconds.map(<[f64; 3]>::try_from) else {
        bail!("a script took {times:?}");
    };
    let duration = Duration::from_secs_f64;
    Ok(Done {
        said: said.to_owned(),
        took: duration(real),
        spent: spent.unwrap_or_else(|| duration(user + system)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_the_time() {
        let expected = Done {
            said: "one\ntwo".to_owned(),
            took: Duration::from_millis(1500),
            spent: Duration::from_millis(750),
        };
        assert_eq!(done("one\ntwo\n1.500 0.500 0.250\n", None).unwrap(), expected);
        assert_eq!(done("0.001 0.000 0.000", Some(Duration::ZERO)).unwrap().said, "");
        assert!(done("killed", None).is_err());
    }
}
