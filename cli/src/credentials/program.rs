//! Programs that keep credentials (`docker-credential-NAME`): one word as argument, one document in, one out.
//!
//! They are the user's own choice, named in the user's own configuration; what they print is bounded all the same.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::{Credentials, CredentialsError};

const PREFIX: &str = "docker-credential-";
/// More than any secret needs.
const MAX_ANSWER_BYTES: u64 = 1 << 20;
/// How all helpers say that they know nothing of a server.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// The user's name that marks the secret as an identity token.
const TOKEN_USER: &str = "<token>";

/// A helper by its full name.
pub(super) struct Helper {
    program: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Secret<'a> {
    #[serde(rename = "ServerURL")]
    server: &'a str,
    username: &'a str,
    secret: &'a str,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Found {
    username: String,
    secret: String,
}

impl Helper {
    /// # Errors
    /// A name that would lead to another place than the user's PATH.
    pub(super) fn named(name: &str) -> Result<Self, CredentialsError> {
        let program = format!("{PREFIX}{name}");
        if name.is_empty() || name.contains(['/', '\\']) {
            let problem = "the name of a credential helper is one word".to_owned();
            return Err(CredentialsError::Helper { program, problem });
        }
        Ok(Self { program })
    }

    pub(super) fn get(&self, server: &str) -> Result<Option<Credentials>, CredentialsError> {
        let Some(answer) = self.ask("get", server.as_bytes())? else { return Ok(None) };
        let found: Found = self.parse(&answer)?;
        let mut credentials = Credentials { server: server.to_owned(), ..Credentials::default() };
        if found.username == TOKEN_USER {
            credentials.identity_token = found.secret;
        } else {
            (credentials.username, credentials.password) = (found.username, found.secret);
        }
        Ok(Some(credentials))
    }

    pub(super) fn store(&self, credentials: &Credentials) -> Result<(), CredentialsError> {
        let (username, secret) = if credentials.identity_token.is_empty() {
            (credentials.username.as_str(), credentials.password.as_str())
        } else {
            (TOKEN_USER, credentials.identity_token.as_str())
        };
        let secret = Secret { server: &credentials.server, username, secret };
        let json = serde_json::to_vec(&secret).expect("a structure of texts is JSON");
        self.ask("store", &json).map(drop)
    }

    /// Whether there was anything to erase.
    pub(super) fn erase(&self, server: &str) -> Result<bool, CredentialsError> {
        let known = self.list()?.keys().any(|known| known == server);
        self.ask("erase", server.as_bytes())?;
        Ok(known)
    }

    /// The servers that it knows, each with its user's name.
    pub(super) fn list(&self) -> Result<BTreeMap<String, String>, CredentialsError> {
        match self.ask("list", b"")? {
            Some(answer) => self.parse(&answer),
            None => Ok(BTreeMap::new()),
        }
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, answer: &[u8]) -> Result<T, CredentialsError> {
        serde_json::from_slice(answer).map_err(|error| self.failed(format!("its answer is no JSON: {error}")))
    }

    /// `None`: it knows nothing of that server.
    fn ask(&self, action: &str, input: &[u8]) -> Result<Option<Vec<u8>>, CredentialsError> {
        let (succeeded, answer) = self.run(action, input).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.failed(
                "not found in PATH; install it, or take it out of credsStore and credHelpers in config.json"
                    .to_owned(),
            ),
            _ => self.failed(error.to_string()),
        })?;
        if succeeded {
            return Ok(Some(answer));
        }
        let said = String::from_utf8_lossy(&answer).trim().to_owned();
        if said == NOT_FOUND { Ok(None) } else { Err(self.failed(format!("{action} failed: {said}"))) }
    }

    fn run(&self, action: &str, input: &[u8]) -> io::Result<(bool, Vec<u8>)> {
        // Its questions to the user, if it has any, go to the terminal.
        let mut child =
            Command::new(&self.program).arg(action).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input));
        let mut answer = Vec::new();
        let read =
            child.stdout.take().map_or(Ok(0), |out| out.take(MAX_ANSWER_BYTES).read_to_end(&mut answer));
        let status = child.wait()?;
        read?;
        match written {
            // One that ends without listening says why by its status.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok((status.success(), answer)),
        }
    }

    fn failed(&self, problem: String) -> CredentialsError {
        CredentialsError::Helper { program: self.program.clone(), problem }
    }
}
