//! A real registry of a test's own: Debian's `docker-registry` on a port of its choice, with its own directory.
//!
//! Plain or with TLS, open, with passwords or with tokens. It ends with the test that started it.

mod certificates;
mod relay;
mod token;

pub use certificates::{Authority, Identity};
pub use relay::Relay;
pub use token::TokenServer;

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::environment::{program, skip};
use crate::namespace::Namespace;
use crate::patience::eventually;

/// Who may do anything, where a registry asks.
pub const USER: &str = "alice";
/// That user's password.
pub const PASSWORD: &str = "open sesame";
/// The same for docker-registry, which takes bcrypt alone; the fewest rounds, because tests are many.
const PASSWORD_FILE: &str = "alice:$2b$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n";

/// Whom a registry lets in.
#[derive(Clone, Copy, Debug)]
pub enum Access<'a> {
    Everybody,
    /// [`USER`] with [`PASSWORD`], by basic authentication.
    Password,
    /// Who brings a token of that server's.
    Token(&'a TokenServer),
}

/// What a registry is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    pub access: Access<'a>,
    /// Speaks TLS as this one.
    pub identity: Option<&'a Identity>,
    /// Demands a certificate from this authority of its clients.
    pub clients: Option<&'a Authority>,
    /// Lives there instead of on the host's loopback interface.
    pub namespace: Option<&'a Namespace>,
}

impl Settings<'_> {
    /// Plain and open, on loopback.
    pub const PLAIN: Settings<'static> =
        Settings { access: Access::Everybody, identity: None, clients: None, namespace: None };
}

/// A running `docker-registry`.
#[derive(Debug)]
pub struct Registry {
    directory: tempfile::TempDir,
    program: PathBuf,
    settings: String,
    namespace: Option<String>,
    ip: IpAddr,
    port: u16,
    child: Option<Child>,
}

impl Registry {
    /// Plain and open, on loopback. `None`, said aloud, where docker-registry is not installed.
    ///
    /// # Panics
    /// If it does not start although it could.
    #[must_use]
    pub fn plain() -> Option<Self> {
        Self::with(&Settings::PLAIN)
    }

    /// # Panics
    /// As [`Registry::plain`].
    #[must_use]
    pub fn with(settings: &Settings<'_>) -> Option<Self> {
        let Some(program) = program("docker-registry") else {
            skip("docker-registry is not installed");
            return None;
        };
        let directory = tempfile::Builder::new().prefix("berth-registry-").tempdir().expect("a directory");
        let ip = settings.namespace.map_or(IpAddr::from([127, 0, 0, 1]), Namespace::ip);
        let mut registry = Self {
            settings: written(settings, directory.path()),
            directory,
            program,
            namespace: settings.namespace.map(|namespace| namespace.name().to_owned()),
            ip,
            port: 0,
            child: None,
        };
        registry.start();
        Some(registry)
    }

    /// Starts it again after [`Registry::stop`], on the same port.
    ///
    /// # Panics
    /// If it does not listen.
    pub fn start(&mut self) {
        let configuration = self.directory.path().join("config.yml");
        let text = self.settings.replace("ADDRESS", &format!("{}:{}", self.ip, self.port));
        fs::write(&configuration, text).expect("a file can be written");
        let log = self.directory.path().join("log");
        let output = fs::File::create(&log).expect("a file can be made");
        let mut command = match &self.namespace {
            Some(namespace) => Namespace::enter(namespace, &self.program),
            None => Command::new(&self.program),
        };
        command.arg("serve").arg(&configuration).env_clear().stdin(Stdio::null());
        command.stdout(output.try_clone().expect("a file can be shared")).stderr(output);
        let mut child = command.spawn().expect("docker-registry can be started");
        eventually("docker-registry listens", || {
            let said = fs::read_to_string(&log).unwrap_or_default();
            let ended = child.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "docker-registry ended: {said}");
            self.port = listening_port(&said).unwrap_or(self.port);
            listening_port(&said).is_some()
        });
        self.child = Some(child);
    }

    /// Ends it in the middle of whatever it does.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself, and is gone afterwards either way.
            let _ended = child.kill();
            let _reaped = child.wait();
        }
    }

    /// `HOST:PORT`, as it stands in front of an image's name.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{}", self.ip, self.port)
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The name of an image here.
    #[must_use]
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address())
    }

    /// The paths of all blobs that it holds, without the order of anything.
    #[must_use]
    pub fn blobs(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect_blobs(&self.directory.path().join("storage/docker/registry/v2/blobs"), &mut found);
        found
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            let start = log.len().saturating_sub(4000);
            eprintln!("what the registry said at last:\n{}", log.get(start..).unwrap_or(&log));
        }
        self.stop();
    }
}

/// Its configuration file, where `ADDRESS` stands for what it listens on.
fn written(settings: &Settings<'_>, directory: &Path) -> String {
    let mut text = format!(
        "version: 0.1\nlog: {{level: info}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  \
         delete: {{enabled: true}}\nhttp:\n  addr: ADDRESS\n  secret: none\n",
        directory.join("storage").display()
    );
    if let Some(identity) = settings.identity {
        let (certificate, key) = identity.write_to(directory, "server");
        text += &format!("  tls:\n    certificate: {}\n    key: {}\n", certificate.display(), key.display());
    }
    if let Some(authority) = settings.clients {
        let path = directory.join("clients.crt");
        fs::write(&path, authority.certificate_pem()).expect("a file can be written");
        text += &format!("    clientcas: [{}]\n", path.display());
    }
    match settings.access {
        Access::Everybody => {}
        Access::Password => {
            let path = directory.join("htpasswd");
            fs::write(&path, PASSWORD_FILE).expect("a file can be written");
            text += &format!("auth:\n  htpasswd: {{realm: berth, path: {}}}\n", path.display());
        }
        Access::Token(server) => {
            let path = directory.join("issuer.crt");
            fs::write(&path, server.certificate_pem()).expect("a file can be written");
            text += &format!(
                "auth:\n  token: {{realm: '{}', service: {}, issuer: {}, rootcertbundle: {}}}\n",
                server.realm(),
                token::SERVICE,
                token::ISSUER,
                path.display()
            );
        }
    }
    text
}

/// It says so once, when it listens.
fn listening_port(said: &str) -> Option<u16> {
    let (_before, address) = said.split_once("msg=\"listening on ")?;
    let address = address.split(['"', ',']).next()?;
    address.rsplit_once(':')?.1.parse().ok()
}

fn collect_blobs(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect_blobs(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[cfg(test)]
mod tests;
