//! `$DOCKER_CONFIG/config.json`: who the user is at which registry, and which helper keeps it.
//!
//! The file is Docker's. Keys that mean nothing to us are kept as they are, and the file is replaced as a whole,
//! readable by its owner alone.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value, json};

use super::program::Helper;
use super::{Credentials, CredentialsError, hostname};

const FILE_NAME: &str = "config.json";
/// Larger than any list of registries; a mistaken path ends here.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Tools write `auth` with and without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The configuration as it was read, and where it goes back to.
pub(crate) struct ConfigFile {
    path: PathBuf,
    content: Map<String, Value>,
}

/// Where credentials were put.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// As anyone who reads the file can read them.
    InFile(PathBuf),
    ByHelper,
}

impl ConfigFile {
    /// The user's, which need not exist yet.
    ///
    /// # Errors
    /// There is no place for it, or it cannot be read.
    pub(crate) fn of_user() -> Result<Self, CredentialsError> {
        Self::load(&directory().ok_or(CredentialsError::NoHome)?.join(FILE_NAME))
    }

    /// The user's, if there is one.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn of_user_if_any() -> Result<Option<Self>, CredentialsError> {
        directory().map(|directory| Self::load(&directory.join(FILE_NAME))).transpose()
    }

    fn load(path: &Path) -> Result<Self, CredentialsError> {
        let failed = |source| CredentialsError::File { step: "reading", path: path.to_owned(), source };
        let wrong = |problem: &dyn std::fmt::Display| CredentialsError::Format {
            path: path.to_owned(),
            problem: problem.to_string(),
        };
        let mut bytes = Vec::new();
        match std::fs::File::open(path) {
            Ok(file) => file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(failed(error)),
        };
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(wrong(&"larger than 4 MiB"));
        }
        let blank = bytes.iter().all(u8::is_ascii_whitespace);
        let content =
            if blank { Map::new() } else { serde_json::from_slice(&bytes).map_err(|e| wrong(&e))? };
        Ok(Self { path: path.to_owned(), content })
    }

    /// Who the user is at `server`, a key as [`super::server_key`] gives it.
    ///
    /// # Errors
    /// A helper that fails, or an entry that makes no sense.
    pub(crate) fn credentials_for(&self, server: &str) -> Result<Option<Credentials>, CredentialsError> {
        if let Some(helper) = self.helper_for(server)? {
            return helper.get(server);
        }
        let Some((_, entry)) = self.entry(server) else { return Ok(None) };
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let mut credentials = Credentials {
            username: text("username"),
            password: text("password"),
            server: server.to_owned(),
            identity_token: text("identitytoken"),
            registry_token: text("registrytoken"),
        };
        if let Some(auth) = entry["auth"].as_str().filter(|auth| !auth.is_empty()) {
            (credentials.username, credentials.password) = decode_auth(auth).ok_or_else(|| {
                let problem = format!("the auth of {server} is not USER:PASSWORD in base64");
                CredentialsError::Format { path: self.path.clone(), problem }
            })?;
        }
        Ok((!credentials.is_anonymous()).then_some(credentials))
    }

    /// Keeps `credentials` for their server, by its helper or in the file.
    ///
    /// # Errors
    /// The helper or the file refuses.
    pub(crate) fn store(&mut self, credentials: &Credentials) -> Result<Kept, CredentialsError> {
        let helper = self.helper_for(&credentials.server)?;
        let entry = match &helper {
            // The entry says that there is a login; what it is, only the helper knows.
            Some(helper) => {
                helper.store(credentials)?;
                json!({})
            }
            None => entry_of(credentials),
        };
        let auths = self.content.entry("auths").or_insert_with(|| json!({}));
        if !auths.is_object() {
            *auths = json!({});
        }
        auths[&credentials.server] = entry;
        self.save()?;
        Ok(if helper.is_some() { Kept::ByHelper } else { Kept::InFile(self.path.clone()) })
    }

    /// Forgets the user at `server`. Whether there was one.
    ///
    /// # Errors
    /// The helper or the file refuses.
    pub(crate) fn erase(&mut self, server: &str) -> Result<bool, CredentialsError> {
        let by_helper = match self.helper_for(server)? {
            Some(helper) => helper.erase(server)?,
            None => false,
        };
        let key = self.entry(server).map(|(key, _)| key.to_owned());
        let auths = self.content.get_mut("auths").and_then(Value::as_object_mut);
        let in_file = auths.zip(key).is_some_and(|(auths, key)| auths.remove(&key).is_some());
        if in_file {
            self.save()?;
        }
        Ok(by_helper || in_file)
    }

    fn helper_for(&self, server: &str) -> Result<Option<Helper>, CredentialsError> {
        let helpers = self.content.get("credHelpers");
        let own = helpers.and_then(|helpers| helpers.get(server).or_else(|| helpers.get(hostname(server))));
        let name = own.or_else(|| self.content.get("credsStore")).and_then(Value::as_str).unwrap_or_default();
        if name.is_empty() { Ok(None) } else { Helper::named(name).map(Some) }
    }

    /// The entry of exactly this server, or of one with its host name: older clients kept whole URLs.
    fn entry(&self, server: &str) -> Option<(&str, &Value)> {
        let auths = self.content.get("auths")?.as_object()?;
        let exact = auths.get_key_value(server);
        let alike = || auths.iter().find(|(key, _)| hostname(key) == hostname(server));
        exact.or_else(alike).map(|(key, entry)| (key.as_str(), entry))
    }

    fn save(&self) -> Result<(), CredentialsError> {
        let failed = |source| CredentialsError::File { step: "writing", path: self.path.clone(), source };
        self.replace().map_err(failed)
    }

    /// The new content takes the old one's place at once; a link stays a link.
    fn replace(&self) -> io::Result<()> {
        let target = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let directory = target.parent().unwrap_or(Path::new("."));
        make_private_directory(directory)?;
        let mut bytes = serde_json::to_vec_pretty(&self.content)?;
        bytes.push(b'\n');
        let temporary = directory.join(format!(".{FILE_NAME}.{}", std::process::id()));
        let written = write_private(&temporary, &bytes).and_then(|()| std::fs::rename(&temporary, &target));
        if written.is_err() {
            drop(std::fs::remove_file(&temporary));
        }
        written
    }
}

/// `$DOCKER_CONFIG`, or `.docker` in the home directory.
fn directory() -> Option<PathBuf> {
    let named = std::env::var_os("DOCKER_CONFIG").filter(|value| !value.is_empty()).map(PathBuf::from);
    named.or_else(|| Some(std::env::home_dir().filter(|home| !home.as_os_str().is_empty())?.join(".docker")))
}

fn decode_auth(auth: &str) -> Option<(String, String)> {
    let text = String::from_utf8(BASE64.decode(auth).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    Some((username.to_owned(), password.trim_end_matches('\0').to_owned()))
}

fn entry_of(credentials: &Credentials) -> Value {
    let mut entry = json!({});
    if !credentials.username.is_empty() || !credentials.password.is_empty() {
        let text = format!("{}:{}", credentials.username, credentials.password);
        entry["auth"] = BASE64.encode(text).into();
    }
    for (name, token) in
        [("identitytoken", &credentials.identity_token), ("registrytoken", &credentials.registry_token)]
    {
        if !token.is_empty() {
            entry[name] = token.as_str().into();
        }
    }
    entry
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Left by a process of the same number that was killed here.
    drop(std::fs::remove_file(path));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn make_private_directory(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(test)]
mod tests {
    use super::super::HUB;
    use super::*;

    fn file(json: &str) -> (tempfile::TempDir, ConfigFile) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        std::fs::write(&path, json).unwrap();
        let file = ConfigFile::load(&path).unwrap();
        (directory, file)
    }

    fn user(server: &str) -> Credentials {
        let (username, password) = ("u".to_owned(), "p:q".to_owned());
        Credentials { username, password, server: server.to_owned(), ..Credentials::default() }
    }

    #[test]
    fn what_is_stored_is_found_and_foreign_keys_stay() {
        let (directory, mut file) = file(r#"{"psFormat": "table {{.ID}}", "plugins": {"a": {"b": "c"}}}"#);
        assert_eq!(file.credentials_for("r:5000").unwrap(), None);
        let path = directory.path().join(FILE_NAME);
        assert_eq!(file.store(&user("r:5000")).unwrap(), Kept::InFile(path.clone()));
        let again = ConfigFile::load(&path).unwrap();
        assert_eq!(again.credentials_for("r:5000").unwrap(), Some(user("r:5000")));
        assert_eq!(again.content["plugins"], json!({"a": {"b": "c"}}));
        assert_eq!(again.content["auths"]["r:5000"], json!({"auth": "dTpwOnE="}));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_login_is_erased_once() {
        let (directory, mut file) = file("");
        file.store(&user(HUB)).unwrap();
        assert!(file.erase(HUB).unwrap());
        assert!(!file.erase(HUB).unwrap());
        let again = ConfigFile::load(&directory.path().join(FILE_NAME)).unwrap();
        assert_eq!(again.credentials_for(HUB).unwrap(), None);
    }

    #[test]
    fn an_older_entry_is_found_by_its_host_name() {
        let (_directory, file) = file(r#"{"auths": {"https://r.example/v1/": {"auth": "dTpw"}}}"#);
        let found = file.credentials_for("r.example").unwrap().unwrap();
        assert_eq!((found.username.as_str(), found.password.as_str()), ("u", "p"));
        assert_eq!(file.credentials_for("other.example").unwrap(), None);
    }

    #[test]
    fn an_identity_token_is_kept_without_a_password() {
        let (_directory, mut file) = file("{}");
        let token = Credentials {
            username: "u".into(),
            identity_token: "t".into(),
            server: "r".into(),
            ..Credentials::default()
        };
        file.store(&token).unwrap();
        assert_eq!(file.credentials_for("r").unwrap(), Some(token));
    }

    #[test]
    fn a_file_that_makes_no_sense_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        for text in ["[1]", "{", "null"] {
            std::fs::write(&path, text).unwrap();
            let error = ConfigFile::load(&path).err().unwrap().to_string();
            assert!(error.contains(FILE_NAME), "{error}");
        }
        let (_directory, file) = file(r#"{"auths": {"r": {"auth": "%"}, "s": {}}}"#);
        let error = file.credentials_for("r").unwrap_err().to_string();
        assert!(error.contains("the auth of r is not USER:PASSWORD"), "{error}");
        assert_eq!(file.credentials_for("s").unwrap(), None);
    }

    #[test]
    fn a_helper_that_is_not_there_is_named_with_the_fix() {
        let (_directory, file) =
            file(r#"{"credsStore": "berth-test-nowhere", "credHelpers": {"r": "../x"}}"#);
        let error = file.credentials_for("s").unwrap_err().to_string();
        assert!(error.starts_with("docker-credential-berth-test-nowhere: not found in PATH"), "{error}");
        let error = file.credentials_for("r").unwrap_err().to_string();
        assert!(error.contains("one word"), "{error}");
    }
}
