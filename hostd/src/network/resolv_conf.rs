//! What the host's resolv.conf(5) says, as far as a resolver can make use of it.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const PATH: &str = "/etc/resolv.conf";
/// Three servers and a line of domains; the rest of a longer file is not read.
const MAX_BYTES: u64 = 64 << 10;

/// A change of the file is seen within this time.
const FRESH: Duration = Duration::from_secs(1);

/// The host's file, followed as it changes.
#[derive(Debug, Default)]
pub struct HostResolution {
    read: Mutex<Option<(Instant, Arc<ResolvConf>)>>,
}

impl HostResolution {
    /// What it says now. Without a file it says nothing. Blocks for a small file at most once a second.
    #[must_use]
    pub fn current(&self) -> Arc<ResolvConf> {
        let mut known = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((at, conf)) if at.elapsed() < FRESH => Arc::clone(conf),
            _ => {
                let conf = Arc::new(read(Path::new(PATH)));
                *known = Some((Instant::now(), Arc::clone(&conf)));
                conf
            }
        }
    }
}

/// Lines of a resolv.conf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    pub servers: Vec<IpAddr>,
    pub search: Vec<String>,
    pub options: Vec<String>,
}

fn read(path: &Path) -> ResolvConf {
    let mut bytes = Vec::new();
    // A file that cannot be read is as good as none: the container starts without names.
    let _unreadable = File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes));
    parse(&String::from_utf8_lossy(&bytes))
}

fn parse(text: &str) -> ResolvConf {
    let mut conf = ResolvConf::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let rest = |words: std::str::SplitWhitespace<'_>| words.map(str::to_owned).collect::<Vec<_>>();
        match words.next() {
            Some("nameserver") => conf.servers.extend(words.next().and_then(server)),
            // The last one holds.
            Some("search" | "domain") => conf.search = rest(words),
            Some("options") => conf.options.extend(rest(words)),
            _ => {}
        }
    }
    conf
}

/// One of a link is of no link elsewhere, and its interface is not known here.
fn server(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    let is_of_link = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    (!is_of_link).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_resolver_can_use_is_kept() {
        let text = "# made by hand\nnameserver 127.0.0.53\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\n\
                    nameserver fd00::1\nsearch old\nsearch a.example b.example\noptions ndots:2 edns0\nsortlist x\n";
        let conf = ResolvConf {
            servers: vec![[127, 0, 0, 53].into(), [10, 0, 0, 1].into(), "fd00::1".parse().unwrap()],
            search: vec!["a.example".into(), "b.example".into()],
            options: vec!["ndots:2".into(), "edns0".into()],
        };
        assert_eq!(parse(text), conf);
    }

    #[test]
    fn a_file_that_is_not_there_says_nothing() {
        assert_eq!(read(Path::new("/nonexistent/resolv.conf")), ResolvConf::default());
    }
}
