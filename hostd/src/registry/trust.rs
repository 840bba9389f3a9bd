//! Which certificates are trusted and shown: `certs_directory/HOST[:PORT]/`, laid out as Docker does. `*.crt` are
//! authorities, `NAME.cert` with `NAME.key` is who we are. Makes no connections.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use reqwest::{Certificate, Identity};

use super::host::HostPort;

/// A bundle of all public authorities is a quarter of that.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Files per host.
const MAX_FILES: usize = 256;

/// What one host's folder holds.
#[derive(Default)]
pub(super) struct HostCertificates {
    pub(super) authorities: Vec<Certificate>,
    pub(super) identity: Option<Identity>,
}

/// What a folder looks like from outside: names, sizes in bytes, times of change. Empty without a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprint(Vec<(PathBuf, u64, Option<SystemTime>)>);

/// Certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum TrustError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} {reason}", path.display())]
    Unusable { path: PathBuf, reason: String },
}

impl HostCertificates {
    /// Reads the folder of a host; without one, there is nothing special about that host.
    pub(super) fn read(certs_directory: &Path, host: &HostPort) -> Result<Self, TrustError> {
        let mut certificates = Self::default();
        for path in files_of(certs_directory, host)? {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => {
                    let bundle = Certificate::from_pem_bundle(&contents(&path)?);
                    let bundle = bundle.map_err(|_| unusable(&path, "holds no certificates in PEM form"))?;
                    certificates.authorities.extend(bundle);
                }
                Some("cert") if certificates.identity.is_none() => {
                    certificates.identity = Some(identity(&path)?);
                }
                Some("key") if !path.with_extension("cert").exists() => {
                    return Err(unusable(&path, "has no certificate beside it: the same name with .cert"));
                }
                _ => {}
            }
        }
        Ok(certificates)
    }
}

impl Fingerprint {
    pub(super) fn of(certs_directory: &Path, host: &HostPort) -> Self {
        // What cannot be read is told by who reads it.
        let files = files_of(certs_directory, host).unwrap_or_default();
        let looks = |path: PathBuf| {
            let metadata = fs::metadata(&path).ok();
            let changed = metadata.as_ref().and_then(|metadata| metadata.modified().ok());
            (path, metadata.map_or(0, |metadata| metadata.len()), changed)
        };
        Self(files.into_iter().map(looks).collect())
    }
}

fn identity(certificate: &Path) -> Result<Identity, TrustError> {
    let key = certificate.with_extension("key");
    if !key.exists() {
        let reason = "has no key beside it: the same name with .key (authorities end in .crt)";
        return Err(unusable(certificate, reason));
    }
    let mut pem = contents(&key)?;
    pem.push(b'\n');
    pem.extend(contents(certificate)?);
    Identity::from_pem(&pem).map_err(|_| unusable(certificate, "and its .key are no certificate and key"))
}

fn files_of(certs_directory: &Path, host: &HostPort) -> Result<Vec<PathBuf>, TrustError> {
    // Redirects choose hosts: `..` is none that has a folder.
    if host.host.starts_with('.') {
        return Ok(Vec::new());
    }
    let folder = certs_directory.join(host.to_string());
    let unreadable = |source| TrustError::Read { path: folder.clone(), source };
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        files.push(entry.map_err(unreadable)?.path());
        if files.len() > MAX_FILES {
            return Err(unusable(&folder, "holds too many files"));
        }
    }
    // The first identity in the order of names is taken, whatever the order of the directory.
    files.sort();
    Ok(files)
}

fn contents(path: &Path) -> Result<Vec<u8>, TrustError> {
    let unreadable = |source| TrustError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    match bytes.len() as u64 > MAX_FILE_BYTES {
        true => Err(unusable(path, "is larger than 1 MiB")),
        false => Ok(bytes),
    }
}

fn unusable(path: &Path, reason: &str) -> TrustError {
    TrustError::Unusable { path: path.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> Result<HostCertificates, TrustError> {
        let directory = tempfile::tempdir().unwrap();
        let host: HostPort = "registry.example:5000".parse().unwrap();
        let folder = directory.path().join(host.to_string());
        fs::create_dir(&folder).unwrap();
        for (name, content) in files {
            fs::write(folder.join(name), content).unwrap();
        }
        HostCertificates::read(directory.path(), &host)
    }

    #[test]
    fn a_host_without_folder_has_no_certificates_of_its_own() {
        let host = "registry.example".parse().unwrap();
        let none = HostCertificates::read(Path::new("/nonexistent"), &host).unwrap();
        assert!(none.authorities.is_empty() && none.identity.is_none());
    }

    #[test]
    fn what_is_found_in_a_folder_is_used() {
        let made = rcgen::generate_simple_self_signed(["registry.example".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let found = read(&[("ca.crt", &certificate), ("me.cert", &certificate), ("me.key", &key), ("x", "")]);
        let found = found.unwrap();
        assert_eq!(found.authorities.len(), 1);
        assert!(found.identity.is_some());
    }

    #[test]
    fn half_an_identity_is_an_error_that_names_the_file() {
        for (files, named) in [
            (&[("me.cert", "")][..], "me.cert has no key"),
            (&[("me.key", "")], "me.key has no certificate"),
            (&[("me.cert", "a"), ("me.key", "b")], "me.cert and its .key are no"),
        ] {
            let error = read(files).err().unwrap().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
