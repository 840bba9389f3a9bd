//! `busybox:latest`: Debian's busybox-static under the names of all its applets, and the few files that
//! programs expect of a Linux system.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::Context;

use super::archive::{self, Compression, Image};
use super::layer::Layer;
use crate::program;

const PACKAGE: &str = "busybox-static";
const PROGRAM: &str = "/bin/busybox";
/// What the applets are hard links to.
const INSIDE: &str = "bin/busybox";
/// Applets that have no place in a container: `linuxrc` is the init of an old initial RAM disk.
const LEFT_OUT: [&str; 1] = ["linuxrc"];

/// Parents before children, with the permissions that matter.
const DIRECTORIES: [(&str, u32); 17] = [
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("sbin", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("usr/bin", 0o755),
    ("usr/sbin", 0o755),
    ("var", 0o755),
    ("var/spool", 0o755),
    ("var/spool/mail", 0o755),
    ("var/tmp", 0o1777),
];

/// Name, id of user and group, home. Everybody but root has no shell to log in with.
const USERS: [(&str, u32, &str); 8] = [
    ("root", 0, "/root"),
    ("daemon", 1, "/usr/sbin"),
    ("bin", 2, "/bin"),
    ("sys", 3, "/dev"),
    ("mail", 8, "/var/spool/mail"),
    ("www-data", 33, "/var/www"),
    ("operator", 37, "/var"),
    ("nobody", 65534, "/home"),
];

pub(super) fn image() -> anyhow::Result<Image> {
    Ok(Image {
        name: "busybox",
        made_by: "Debian's busybox-static, packed by Berth",
        defaults: archive::runs("sh"),
        layers: vec![layer()?.into()],
        compression: Compression::None,
    })
}

/// The only layer of the image, which others build on.
pub(super) fn layer() -> anyhow::Result<Vec<u8>> {
    program::output(Command::new("dpkg-query").args(["-W", PACKAGE]))
        .with_context(|| format!("{PACKAGE} is not installed: run `cargo xtask packages`"))?;
    let binary = fs::read(PROGRAM).with_context(|| format!("cannot read {PROGRAM}"))?;
    let applets = program::output(Command::new(PROGRAM).arg("--list-full"))?;
    let mut layer = Layer::new();
    for (path, permissions) in DIRECTORIES {
        layer.directory(path, permissions)?;
    }
    layer.file("etc/group", 0o644, groups().as_bytes())?;
    layer.file("etc/passwd", 0o644, users().as_bytes())?;
    layer.file("etc/shadow", 0o640, shadow().as_bytes())?;
    layer.file(INSIDE, 0o755, &binary)?;
    for applet in links(&applets) {
        layer.hard_link(applet, INSIDE)?;
    }
    layer.finish()
}

/// The paths of the applets, sorted so that the layer does not depend on the order busybox lists them in.
fn links(applets: &str) -> BTreeSet<&str> {
    let wanted = |path: &&str| !path.is_empty() && *path != INSIDE && !LEFT_OUT.contains(path);
    applets.lines().filter(wanted).collect()
}

fn users() -> String {
    let line = |(name, id, home): (&str, u32, &str)| {
        let shell = if id == 0 { "/bin/sh" } else { "/bin/false" };
        format!("{name}:x:{id}:{id}:{name}:{home}:{shell}\n")
    };
    USERS.into_iter().map(line).collect()
}

/// The users' own groups, and those that own devices.
fn groups() -> String {
    let own = USERS.iter().map(|(name, id, _)| (*name, *id));
    let devices = [("tty", 5), ("disk", 6), ("kmem", 15), ("audio", 29), ("video", 44), ("users", 100)];
    let mut groups: Vec<(&str, u32)> = own.chain(devices).collect();
    groups.sort_by_key(|(_, id)| *id);
    groups.iter().map(|(name, id)| format!("{name}:x:{id}:\n")).collect()
}

/// Nobody has a password.
fn shadow() -> String {
    USERS.iter().map(|(name, _, _)| format!("{name}:*:::::::\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_itself_and_linuxrc_are_no_links() {
        let found: Vec<&str> = links("usr/bin/[\nbin/sh\nlinuxrc\nbin/busybox\n").into_iter().collect();
        assert_eq!(found, ["bin/sh", "usr/bin/["]);
    }

    #[test]
    fn every_user_has_a_group_of_the_same_id() {
        let groups = groups();
        for (name, id, _) in USERS {
            assert!(groups.contains(&format!("{name}:x:{id}:\n")), "{name}");
            assert!(users().contains(&format!("{name}:x:{id}:{id}:")), "{name}");
        }
    }

    #[test]
    fn a_directory_comes_after_its_parent() {
        for (index, (path, _)) in DIRECTORIES.iter().enumerate() {
            if let Some((parent, _)) = path.rsplit_once('/') {
                assert!(DIRECTORIES[..index].iter().any(|(earlier, _)| *earlier == parent), "{path}");
            }
        }
    }
}
