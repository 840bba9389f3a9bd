//! `userns-remap`: whose subordinate ids containers' users and groups are, as subuid(5) and subgid(5) say.
//!
//! dockerd's values and texts, but for `default`: dockerd makes a user `dockremap` of the host's, with ranges of its
//! own. A machine has no other users that a range could meet, so without that user a fixed range does.

use std::path::Path;

use crate::engine::{IdRange, UserNamespace};

/// dockerd's user for `default`.
const DEFAULT_USER: &str = "dockremap";
/// As many ids as images use, above everybody else's.
const DEFAULT_RANGE: IdRange = IdRange { first: 100_000, count: 65_536 };
/// As many as the kernel takes.
const MAX_RANGES: usize = 340;
/// The last ids stand for nobody.
const MAX_ID: u32 = u32::MAX - 2;

/// The texts of the host's files.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    passwd: String,
    group: String,
    subuid: String,
    subgid: String,
}

impl Accounts {
    /// A file that is not there has no entries.
    pub(super) fn of_host() -> Self {
        let read = |name: &str| std::fs::read_to_string(Path::new("/etc").join(name)).unwrap_or_default();
        Self { passwd: read("passwd"), group: read("group"), subuid: read("subuid"), subgid: read("subgid") }
    }
}

/// # Errors
/// A user or group that is not there or has no ranges.
pub(super) fn resolve(setting: &str, accounts: &Accounts) -> Result<Option<UserNamespace>, String> {
    if setting.is_empty() {
        return Ok(None);
    }
    let (user, group) = setting.split_once(':').map_or((setting, None), |(user, group)| (user, Some(group)));
    if user.is_empty() || group.is_some_and(|group| group.is_empty() || group.contains(':')) {
        return Err(format!("invalid user/group specification \"{setting}\""));
    }
    let by_default = setting == "default";
    if by_default && find(&accounts.passwd, DEFAULT_USER).is_none() {
        let ranges = vec![DEFAULT_RANGE];
        return Ok(Some(UserNamespace { users: ranges.clone(), groups: ranges }));
    }
    let user = if by_default { DEFAULT_USER } else { user };
    let user = find(&accounts.passwd, user).ok_or_else(|| format!("no user {user} in /etc/passwd"))?;
    // Without a group, that of the user's name, or of the number by which the user was called.
    let by_number = setting.parse::<u32>().is_ok();
    let group = group.unwrap_or(if by_number { setting } else { user.name });
    let group = find(&accounts.group, group).ok_or_else(|| format!("no group {group} in /etc/group"))?;
    let users = ranges(&accounts.subuid, user).map_err(|problem| format!("{problem} in /etc/subuid"))?;
    let groups = ranges(&accounts.subgid, group).map_err(|problem| format!("{problem} in /etc/subgid"))?;
    Ok(Some(UserNamespace { users, groups }))
}

/// An entry of passwd(5) or group(5).
#[derive(Clone, Copy)]
struct Account<'a> {
    name: &'a str,
    id: &'a str,
}

/// By name or number.
fn find<'a>(text: &'a str, wanted: &str) -> Option<Account<'a>> {
    let accounts = text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        Some(Account { name: fields.next()?, id: fields.nth(1)? })
    });
    let is_number = wanted.parse::<u32>().is_ok();
    accounts.into_iter().find(|account| if is_number { account.id == wanted } else { account.name == wanted })
}

/// All of an account's, in the order of the file.
fn ranges(text: &str, account: Account<'_>) -> Result<Vec<IdRange>, String> {
    let mut ranges = Vec::new();
    for line in text.lines() {
        let [owner, first, count] = line.trim().split(':').collect::<Vec<_>>()[..] else { continue };
        if owner != account.name && owner != account.id {
            continue;
        }
        let range = first.parse().ok().zip(count.parse().ok()).map(|(first, count)| IdRange { first, count });
        let usable = range.filter(|range| {
            let end = range.first.checked_add(range.count);
            range.first > 0 && range.count > 0 && end.is_some_and(|end| end <= MAX_ID)
        });
        ranges.push(usable.ok_or_else(|| format!("no range of ids: \"{line}\""))?);
    }
    let total = ranges.iter().try_fold(0, |total: u32, range| total.checked_add(range.count));
    match ranges.len() {
        0 => Err(format!("no subordinate ids of \"{}\"", account.name)),
        1..=MAX_RANGES if total.is_some_and(|total| total <= MAX_ID) => Ok(ranges),
        _ => Err(format!("too many subordinate ids of \"{}\"", account.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0::/root:/bin/sh\nme:x:1000:1000::/:/bin/sh\nlone:x:7:7::/:/bin/sh\n".into(),
            group: "root:x:0:\nme:x:1000:\nstaff:x:50:me\nlone:x:7:\n".into(),
            subuid: "# ranges\nme:100000:65536\n1000:300000:10\nother:1:1\n".into(),
            subgid: "staff:200000:65536\nme:400000:100\nlone:0:5\n".into(),
        }
    }

    fn resolved(setting: &str) -> Result<Option<UserNamespace>, String> {
        resolve(setting, &accounts())
    }

    fn range(first: u32, count: u32) -> IdRange {
        IdRange { first, count }
    }

    #[test]
    fn a_user_has_the_ranges_of_name_and_number() {
        let users = vec![range(100_000, 65_536), range(300_000, 10)];
        for me in ["me", "1000", "me:me", "1000:1000"] {
            let expected = UserNamespace { users: users.clone(), groups: vec![range(400_000, 100)] };
            assert_eq!(resolved(me), Ok(Some(expected)), "{me}");
        }
        let staff = UserNamespace { users, groups: vec![range(200_000, 65_536)] };
        assert_eq!(resolved("me:staff"), Ok(Some(staff)));
    }

    #[test]
    fn the_default_is_dockers_user_or_a_range_of_our_own() {
        let own = UserNamespace { users: vec![DEFAULT_RANGE], groups: vec![DEFAULT_RANGE] };
        assert_eq!(resolved("default"), Ok(Some(own)));
        let mut accounts = accounts();
        accounts.passwd.push_str("dockremap:x:996:996::/:/bin/false\n");
        accounts.group.push_str("dockremap:x:996:\n");
        assert!(resolve("default", &accounts).unwrap_err().contains("no subordinate ids of \"dockremap\""));
        accounts.subuid.push_str("dockremap:500000:65536\n");
        accounts.subgid.push_str("dockremap:500000:65536\n");
        let dockers = resolve("default", &accounts).unwrap().unwrap();
        assert_eq!(dockers.users, [range(500_000, 65_536)]);
        assert_eq!(resolved(""), Ok(None));
    }

    #[test]
    fn what_is_nobody_or_has_no_ranges_is_refused_by_name() {
        for (setting, problem) in [
            ("nobody", "no user nobody in /etc/passwd"),
            ("me:nobody", "no group nobody in /etc/group"),
            ("root", "no subordinate ids of \"root\" in /etc/subuid"),
            ("me:lone", "no range of ids: \"lone:0:5\" in /etc/subgid"),
            ("a:b:c", "invalid user/group specification \"a:b:c\""),
            (":staff", "invalid user/group specification \":staff\""),
        ] {
            assert_eq!(resolved(setting).unwrap_err(), problem);
        }
    }
}
