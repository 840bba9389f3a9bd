//! How the daemon's configuration lets registries be reached. Knows no flags and no files: `config` fills it in.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

const MAX_CONCURRENT_DOWNLOADS: usize = 3;
const MAX_CONCURRENT_UPLOADS: usize = 5;
const MAX_DOWNLOAD_ATTEMPTS: u32 = 5;
const UPLOAD_CHUNK_BYTES: u64 = 64 << 20;
const CERTS_DIRECTORY: &str = "/etc/docker/certs.d";

/// All settings; the defaults are dockerd's.
#[derive(Clone, Debug)]
pub struct RegistrySettings {
    /// URLs of mirrors of the default registry, tried in this order before it.
    pub mirrors: Vec<String>,
    /// `HOST[:PORT]` and CIDRs: certificates are not verified there, and plain text is spoken if nothing else is.
    pub insecure: Vec<String>,
    pub proxies: Proxies,
    /// Holds `HOST[:PORT]/{*.crt,*.cert,*.key}`; need not exist.
    pub certs_directory: PathBuf,
    /// Blobs being received at a time, over all pulls.
    pub max_concurrent_downloads: usize,
    /// Blobs being sent at a time, over all pushes.
    pub max_concurrent_uploads: usize,
    /// How often one thing is tried before it counts as failed.
    pub max_download_attempts: u32,
    /// Larger blobs are uploaded in pieces of this many bytes, so that a break costs no more than one.
    pub upload_chunk_bytes: u64,
    pub default_registry: DefaultRegistry,
    pub patience: Patience,
}

/// Where the images without a domain in their names are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultRegistry {
    /// `HOST[:PORT]` of the registry of docker.io.
    pub host: String,
    /// `HOST[:PORT]` of its index, which searches.
    pub index_host: String,
}

/// Proxies by the scheme of what is fetched. Loopback addresses are never fetched through one.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    pub http: Option<String>,
    pub https: Option<String>,
    /// Exceptions, separated by commas: `*`, host names (with their subdomains), addresses, CIDRs, each with or
    /// without a port.
    pub no_proxy: String,
}

/// How long a registry is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Until there is a connection, TLS included.
    pub connect: Duration,
    /// Until the first byte of an answer.
    pub answer: Duration,
    /// Between two bytes of a body, sent or received.
    pub no_progress: Duration,
    /// Until the answer that a whole upload is stored: registries copy and hash before it.
    pub commit: Duration,
    /// Before the second attempt; doubles with each.
    pub first_pause: Duration,
    /// Between two attempts, also if the registry asks for more.
    pub longest_pause: Duration,
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {setting} {value:?}: {reason}")]
pub struct InvalidSettings {
    pub setting: &'static str,
    pub value: String,
    pub reason: String,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            mirrors: Vec::new(),
            insecure: Vec::new(),
            proxies: Proxies::default(),
            certs_directory: PathBuf::from(CERTS_DIRECTORY),
            max_concurrent_downloads: MAX_CONCURRENT_DOWNLOADS,
            max_concurrent_uploads: MAX_CONCURRENT_UPLOADS,
            max_download_attempts: MAX_DOWNLOAD_ATTEMPTS,
            upload_chunk_bytes: UPLOAD_CHUNK_BYTES,
            default_registry: DefaultRegistry::default(),
            patience: Patience::default(),
        }
    }
}

impl Default for DefaultRegistry {
    fn default() -> Self {
        Self { host: "registry-1.docker.io".to_owned(), index_host: "index.docker.io".to_owned() }
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            answer: Duration::from_secs(60),
            no_progress: Duration::from_secs(30),
            commit: Duration::from_secs(300),
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(30),
        }
    }
}

/// A proxy's URL may carry a password.
impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |url: &Option<String>| url.as_ref().map(|url| redacted(url));
        f.debug_struct("Proxies")
            .field("http", &shown(&self.http))
            .field("https", &shown(&self.https))
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

fn redacted(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => url.to_owned(),
    }
}
