//! Whom a process runs as: Docker's `user[:group]` resolved in the container's own passwd and group files.
//!
//! Reads text and numbers only; the C library's lookups would follow the container's nsswitch.conf. Runs behind the
//! container's root, so a link in its /etc leads nowhere else.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use berth_protocol::agent::ErrorCode;
use rustix::fs::{Mode, OFlags};

use crate::failure::Failure;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// More of a passwd or group file is not read: the container's owner writes it.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// Docker's bound; -1 has a meaning of its own in system calls.
const MAX_ID: u32 = i32::MAX.cast_unsigned();

/// A process's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// All groups, the main one included.
    pub(super) groups: Vec<u32>,
    pub(super) home: String,
}

/// The identity that a request's `user` and `additional_groups` mean in this container.
pub(super) fn resolve(user: &str, additional_groups: &[String]) -> Result<User, Failure> {
    resolve_in(&read(PASSWD), &read(GROUP), user, additional_groups)
}

/// User and group of Docker's form of a user, by the text of a passwd and a group file.
pub(crate) fn ids(passwd: &str, group: &str, user: &str) -> Result<(u32, u32), Failure> {
    resolve_in(passwd, group, user, &[]).map(|user| (user.uid, user.gid))
}

/// A file that is absent or unreadable has no entries. One that is no file (a pipe without a writer) is not waited for.
fn read(path: impl AsRef<Path>) -> String {
    let mut bytes = Vec::new();
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path.as_ref(), flags, Mode::empty()).map(File::from);
    let file = file.map_err(std::io::Error::from);
    let read = file.and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes));
    if read.is_err() {
        bytes.clear();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn resolve_in(passwd: &str, group: &str, spec: &str, additional: &[String]) -> Result<User, Failure> {
    let (user_name, group_name) = spec.split_once(':').unwrap_or((spec, ""));
    let account = find_account(passwd, user_name)?;
    let mut groups = Vec::new();
    let mut user = User { uid: account.uid, gid: account.gid, groups: Vec::new(), home: account.home };
    if !group_name.is_empty() {
        user.gid = find_group(group, group_name)?;
    } else if !account.name.is_empty() {
        groups.extend(group_entries(group).filter(|entry| entry.has(&account.name)).map(|entry| entry.gid));
    }
    for name in additional {
        groups.push(find_group(group, name)?);
    }
    user.groups.push(user.gid);
    for gid in groups {
        if !user.groups.contains(&gid) {
            user.groups.push(gid);
        }
    }
    Ok(user)
}

/// The passwd entry of a name or number. A number needs no entry; no name at all means root.
fn find_account(passwd: &str, wanted: &str) -> Result<Account, Failure> {
    let id = if wanted.is_empty() { Ok(0) } else { wanted.parse::<i64>() };
    let mut accounts = passwd.lines().filter_map(Account::parse);
    let found = match id {
        Ok(uid) => accounts.find(|account| i64::from(account.uid) == uid),
        Err(_) => accounts.find(|account| account.name == wanted),
    };
    match (found, id) {
        (Some(account), _) => Ok(account),
        (None, Ok(uid)) => Ok(Account { name: String::new(), uid: bounded(uid)?, gid: 0, home: "/".into() }),
        (None, Err(_)) => Err(no_such("user", wanted, "passwd")),
    }
}

/// The number of a group given by name or number. A number needs no entry.
fn find_group(group: &str, wanted: &str) -> Result<u32, Failure> {
    match wanted.parse::<i64>() {
        Ok(gid) => bounded(gid),
        Err(_) => {
            let found = group_entries(group).find(|entry| entry.name == wanted);
            found.map(|entry| entry.gid).ok_or_else(|| no_such("group", wanted, "group"))
        }
    }
}

fn bounded(id: i64) -> Result<u32, Failure> {
    let bounded = u32::try_from(id).ok().filter(|id| *id <= MAX_ID);
    bounded.ok_or_else(|| {
        Failure::new(ErrorCode::NoSuchUser, format!("uids and gids must be in range 0-{MAX_ID}"))
    })
}

fn no_such(what: &str, name: &str, file: &str) -> Failure {
    let message = format!("unable to find {what} {name}: no matching entries in {file} file");
    Failure::new(ErrorCode::NoSuchUser, message)
}

/// A line of passwd(5).
struct Account {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

impl Account {
    /// `name:password:uid:gid:comment:home:shell`
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let [name, _, uid, gid, ..] = fields.as_slice() else {
            return None;
        };
        let home = fields.get(5).filter(|home| !home.is_empty()).unwrap_or(&"/");
        Some(Self {
            name: (*name).to_owned(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            home: (*home).to_owned(),
        })
    }
}

/// A line of group(5).
struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl<'a> GroupEntry<'a> {
    /// `name:password:gid:member,member`
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.trim().split(':');
        let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Self { name, gid: gid.parse().ok()?, members: fields.next().unwrap_or("") })
    }

    fn has(&self, user: &str) -> bool {
        self.members.split(',').any(|member| member == user)
    }
}

fn group_entries(group: &str) -> impl Iterator<Item = GroupEntry<'_>> {
    group.lines().filter_map(GroupEntry::parse)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD_TEXT: &str = "# accounts\n\
        root:x:0:0:root:/root:/bin/sh\n\
        web:x:33:34::/var/www:/bin/false\n\
        broken:x:many:0::/:\n\
        homeless:x:40:40\n\n";
    const GROUP_TEXT: &str = "root:x:0:\nweb:x:34:\naudio:x:29:root,web\nvideo:x:44:web\nbroken:x:?:web\n";

    fn resolve_text(spec: &str, additional: &[&str]) -> Result<User, String> {
        let additional: Vec<String> = additional.iter().map(|&name| name.to_owned()).collect();
        resolve_in(PASSWD_TEXT, GROUP_TEXT, spec, &additional).map_err(|failure| {
            assert_eq!(failure.code, ErrorCode::NoSuchUser);
            failure.message
        })
    }

    fn user(uid: u32, gid: u32, groups: &[u32], home: &str) -> Result<User, String> {
        Ok(User { uid, gid, groups: groups.to_vec(), home: home.to_owned() })
    }

    #[test]
    fn every_form_of_docker_is_understood() {
        let cases = [
            ("", user(0, 0, &[0, 29], "/root")),
            ("web", user(33, 34, &[34, 29, 44], "/var/www")),
            ("33", user(33, 34, &[34, 29, 44], "/var/www")),
            ("web:audio", user(33, 29, &[29], "/var/www")),
            ("web:7", user(33, 7, &[7], "/var/www")),
            ("1000", user(1000, 0, &[0], "/")),
            ("1000:1001", user(1000, 1001, &[1001], "/")),
            ("1000:video", user(1000, 44, &[44], "/")),
            (":video", user(0, 44, &[44], "/root")),
            ("web:", user(33, 34, &[34, 29, 44], "/var/www")),
            ("homeless", user(40, 40, &[40], "/")),
        ];
        for (spec, expected) in cases {
            assert_eq!(resolve_text(spec, &[]), expected, "{spec:?}");
        }
    }

    #[test]
    fn additional_groups_are_added_once() {
        assert_eq!(resolve_text("web", &["audio", "1234"]), user(33, 34, &[34, 29, 44, 1234], "/var/www"));
    }

    #[test]
    fn unknown_names_fail_in_dockers_words() {
        let no_user = "unable to find user nobody: no matching entries in passwd file";
        assert_eq!(resolve_text("nobody", &[]), Err(no_user.to_owned()));
        let no_group = "unable to find group wheel: no matching entries in group file";
        assert_eq!(resolve_text("web:wheel", &[]), Err(no_group.to_owned()));
        assert_eq!(resolve_text("web", &["wheel"]), Err(no_group.to_owned()));
        assert!(resolve_text("broken", &[]).is_err(), "an entry without a number is no entry");
    }

    #[test]
    fn numbers_have_a_range() {
        for spec in ["-1", "2147483648", "0:4294967295", "9999999999999"] {
            assert!(resolve_text(spec, &[]).unwrap_err().contains("range"), "{spec}");
        }
        assert!(resolve_text("2147483647", &[]).is_ok());
    }

    #[test]
    fn what_is_no_file_has_no_entries() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("passwd");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RWXU).unwrap();
        assert_eq!(read(&pipe), "", "and nobody waits for a writer");
        assert_eq!(read(directory.path()), "");
        assert_eq!(read(directory.path().join("absent")), "");
        std::fs::write(directory.path().join("bytes"), b"a\xff\n").unwrap();
        assert_eq!(read(directory.path().join("bytes")), "a\u{fffd}\n");
    }

    #[test]
    fn without_files_root_still_exists() {
        assert_eq!(resolve_in("", "", "", &[]).unwrap().home, "/");
    }
}
