//! The files in a container's /etc that say who it is: hostname, hosts, resolv.conf, and machine-id where its machine
//! has been told one.
//!
//! They are made per start, outside the container's layers, and bound over whatever its root file system has there.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::chown;
use std::path::Path;

use berth_protocol::agent::{NameResolution, StartContainer};

use super::ids::IdMaps;

/// The directory of these files within a container's directory of state.
pub(crate) const DIRECTORY: &str = "etc";

/// The names of the files, which are those in /etc. The last one exists only where the machine has an id.
pub(crate) const NAMES: [&str; 4] = ["hostname", HOSTS, RESOLV_CONF, MACHINE_ID];
/// Where they are in a container's root, in the same order.
pub(crate) const PATHS: [&str; 4] = ["etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/machine-id"];
const MACHINE_ID: &str = "machine-id";
const HOSTS: &str = "hosts";
const RESOLV_CONF: &str = "resolv.conf";
/// The container writes there as it likes; files that are longer are its own business.
const MAX_FILE_BYTES: u64 = 1 << 20;

const STANDARD_HOSTS: &str = "127.0.0.1\tlocalhost\n\
     ::1\tlocalhost ip6-localhost ip6-loopback\n\
     fe00::\tip6-localnet\n\
     ff00::\tip6-mcastprefix\n\
     ff02::1\tip6-allnodes\n\
     ff02::2\tip6-allrouters\n";

/// Writes them into the container's directory of state.
///
/// # Errors
/// What writing a file returned.
pub(crate) fn write(
    container_directory: &Path,
    request: &StartContainer,
    machine_id: Option<&str>,
    ids: &IdMaps,
) -> io::Result<()> {
    let directory = container_directory.join(DIRECTORY);
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("hostname"), format!("{}\n", request.hostname))?;
    fs::write(directory.join(HOSTS), hosts(&request.extra_hosts))?;
    if let Some(machine_id) = machine_id {
        fs::write(directory.join(MACHINE_ID), format!("{machine_id}\n"))?;
    }
    // Without a name server there is nobody to ask; a file of the root's own must not suggest one.
    let resolution = request.name_resolution.as_ref().map(resolv_conf).unwrap_or_default();
    fs::write(directory.join(RESOLV_CONF), resolution)?;
    if ids.is_mapped() {
        for entry in fs::read_dir(&directory)? {
            chown(entry?.path(), Some(ids.users.root()), Some(ids.groups.root()))?;
        }
    }
    Ok(())
}

/// Whoever shares a network has its names: the files themselves, so that a change is seen by both.
///
/// # Errors
/// What linking a file returned.
pub(crate) fn take_over(container_directory: &Path, of_network: &Path) -> io::Result<()> {
    for name in NAMES.iter().filter(|name| **name != MACHINE_ID) {
        let own = container_directory.join(DIRECTORY).join(name);
        fs::remove_file(&own)?;
        fs::hard_link(of_network.join(DIRECTORY).join(name), &own)?;
    }
    Ok(())
}

/// What the files say of names.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Names {
    /// As [`StartContainer`]'s.
    pub(crate) extra_hosts: Vec<String>,
    pub(crate) resolution: Option<NameResolution>,
}

impl Names {
    pub(crate) fn of(request: &StartContainer) -> Self {
        Self { extra_hosts: request.extra_hosts.clone(), resolution: request.name_resolution.clone() }
    }
}

/// Writes what has changed of names. Lines that are not ours stay, and so does a resolv.conf that somebody else wrote.
///
/// # Errors
/// What reading or writing a file returned.
pub(crate) fn update(container_directory: &Path, old: &Names, new: &Names) -> io::Result<()> {
    let directory = container_directory.join(DIRECTORY);
    let path = directory.join(HOSTS);
    let text = read(&path)?;
    let changed = with_other_lines(&text, &old.extra_hosts, &new.extra_hosts);
    if changed != text {
        // In place: the file is bound into the container.
        fs::write(&path, changed)?;
    }
    let path = directory.join(RESOLV_CONF);
    let conf = |names: &Names| names.resolution.as_ref().map(resolv_conf).unwrap_or_default();
    if conf(old) != conf(new) && read(&path)? == conf(old) {
        fs::write(&path, conf(new))?;
    }
    Ok(())
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("{} is longer than {MAX_FILE_BYTES} bytes", path.display())));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The text without those of the old lines that the new ones leave out, and with those that they add.
fn with_other_lines(text: &str, old: &[String], new: &[String]) -> String {
    let lines = |hosts: &[String]| hosts.iter().filter_map(|line| hosts_line(line)).collect::<Vec<_>>();
    let (old, new) = (lines(old), lines(new));
    let gone = |line: &str| old.iter().any(|old| old == line) && !new.iter().any(|new| new == line);
    let mut text: String = text.split_inclusive('\n').filter(|line| !gone(line)).collect();
    for line in new.iter().filter(|line| !old.contains(line)) {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(line);
    }
    text
}

/// resolv.conf(5).
fn resolv_conf(resolution: &NameResolution) -> String {
    let servers = resolution.servers.iter().map(|server| format!("nameserver {}\n", one_line(server)));
    let list = |word: &str, values: &[String]| match values {
        [] => String::new(),
        values => format!("{word} {}\n", one_line(&values.join(" "))),
    };
    let mut text: String = servers.collect();
    text.push_str(&list("search", &resolution.search));
    text.push_str(&list("options", &resolution.options));
    text
}

/// A value cannot begin a line of its own.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The standard lines, then one per `address name`.
fn hosts(extra: &[String]) -> String {
    let mut text = STANDARD_HOSTS.to_owned();
    text.extend(extra.iter().filter_map(|line| hosts_line(line)));
    text
}

fn hosts_line(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [address, names @ ..] = words.as_slice() else { return None };
    Some(format!("{address}\t{}\n", names.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_hosts_follow_the_standard_ones() {
        let text = hosts(&["10.0.0.1 db".into(), "10.0.0.2  cache  cache.local".into()]);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost "));
        assert!(text.ends_with("ip6-allrouters\n10.0.0.1\tdb\n10.0.0.2\tcache cache.local\n"));
    }

    #[test]
    fn a_line_cannot_smuggle_in_another() {
        assert!(hosts(&["10.0.0.1 db\n127.0.0.1 bank".into()]).ends_with("10.0.0.1\tdb 127.0.0.1 bank\n"));
    }

    #[test]
    fn a_name_server_is_a_line() {
        let resolution = NameResolution {
            servers: vec!["127.0.0.11".into(), "10.0.0.1\nsearch evil".into()],
            search: vec!["a.example".into(), "b.example".into()],
            options: vec!["ndots:0".into()],
        };
        let text = "nameserver 127.0.0.11\nnameserver 10.0.0.1 search evil\nsearch a.example b.example\noptions ndots:0\n";
        assert_eq!(resolv_conf(&resolution), text);
        assert_eq!(resolv_conf(&NameResolution::default()), "");
    }

    #[test]
    fn who_shares_a_network_shares_its_names() {
        let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let request = |hostname: &str| StartContainer { hostname: hostname.into(), ..Default::default() };
        for (directory, name) in [(&ours, "ours"), (&theirs, "theirs")] {
            write(directory.path(), &request(name), None, &IdMaps::default()).unwrap();
        }
        take_over(ours.path(), theirs.path()).unwrap();
        let read = |directory: &tempfile::TempDir, name: &str| {
            fs::read_to_string(directory.path().join(DIRECTORY).join(name)).unwrap()
        };
        assert_eq!(read(&ours, "hostname"), "theirs\n");
        fs::write(theirs.path().join(DIRECTORY).join("hosts"), "changed").unwrap();
        assert_eq!(read(&ours, "hosts"), "changed");
    }

    #[test]
    fn an_update_leaves_what_the_container_wrote() {
        let directory = tempfile::tempdir().unwrap();
        let resolution = |server: &str| NameResolution { servers: vec![server.into()], ..Default::default() };
        let request = StartContainer {
            extra_hosts: vec!["10.0.0.2 me".into(), "10.0.0.9 db".into()],
            name_resolution: Some(resolution("10.0.0.1")),
            ..Default::default()
        };
        write(directory.path(), &request, None, &IdMaps::default()).unwrap();
        let path = |name| directory.path().join(DIRECTORY).join(name);
        let hosts = fs::read_to_string(path(HOSTS)).unwrap();
        fs::write(path(HOSTS), format!("{hosts}10.9.9.9 mine")).unwrap();
        let old = Names::of(&request);
        let new = Names {
            extra_hosts: vec!["10.0.0.9 db".into(), "10.1.0.2 me".into()],
            resolution: Some(resolution("127.0.0.11")),
        };
        update(directory.path(), &old, &new).unwrap();
        let hosts = fs::read_to_string(path(HOSTS)).unwrap();
        assert!(hosts.ends_with("\n10.0.0.9\tdb\n10.9.9.9 mine\n10.1.0.2\tme\n"), "{hosts}");
        assert!(!hosts.contains("10.0.0.2"));
        assert_eq!(fs::read_to_string(path(RESOLV_CONF)).unwrap(), "nameserver 127.0.0.11\n");
        fs::write(path(RESOLV_CONF), "nameserver 9.9.9.9\n").unwrap();
        update(directory.path(), &new, &old).unwrap();
        assert_eq!(
            fs::read_to_string(path(RESOLV_CONF)).unwrap(),
            "nameserver 9.9.9.9\n",
            "the container's own"
        );
    }

    #[test]
    fn every_file_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let request = StartContainer { hostname: "web".into(), ..Default::default() };
        let path = |name| directory.path().join(DIRECTORY).join(name);
        write(directory.path(), &request, None, &IdMaps::default()).unwrap();
        assert!(!path(MACHINE_ID).exists(), "the one of the root stays");
        write(directory.path(), &request, Some("0123456789abcdef0123456789abcdef"), &IdMaps::default())
            .unwrap();
        for name in NAMES {
            assert!(path(name).is_file(), "{name}");
        }
        assert_eq!(fs::read_to_string(path("hostname")).unwrap(), "web\n");
        assert_eq!(fs::read_to_string(path(MACHINE_ID)).unwrap(), "0123456789abcdef0123456789abcdef\n");
    }
}
