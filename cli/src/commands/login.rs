//! `berth login`: have the daemon check who the user is at a registry, and keep it for pulls and pushes.

use std::io::{self, BufRead, IsTerminal, Read};

use clap::Args;

use crate::client::{Client, ClientError};
use crate::credentials::{ConfigFile, Credentials, HUB, Kept, hostname, server_key};
use crate::outcome::{Failure, Outcome};
use crate::output::{note, print};
use crate::session::SessionError;
use crate::signals::Signals;
use crate::terminal::NoEcho;

/// Longer than any password or token.
const MAX_SECRET_BYTES: u64 = 64 << 10;

/// Authenticate to a registry
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth login                                                   Docker Hub; asks for user and password
  berth login -u me localhost:5000
  berth login -u me --password-stdin registry.example < token   For scripts

Logins are kept where Docker's client keeps them: $DOCKER_CONFIG/config.json, or a credential helper named there.")]
pub(crate) struct Arguments {
    /// Username
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// Password or access token; other users of this computer may see it in the list of processes
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Take the password or access token from standard input
    #[arg(long)]
    password_stdin: bool,
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let server = server_key(arguments.server.as_deref().unwrap_or(HUB));
    let mut file = ConfigFile::of_user()?;
    if arguments.username.is_none()
        && arguments.password.is_none()
        && !arguments.password_stdin
        && let Some(stored) = file.credentials_for(server)?
        && log_in_again(client, &mut file, stored).await?
    {
        return Ok(0);
    }
    let credentials = ask(arguments, server).await?;
    log_in(client, &mut file, credentials).await?;
    Ok(0)
}

/// Tries what is kept from an earlier login; false if it is not good any more.
async fn log_in_again(client: &Client, file: &mut ConfigFile, stored: Credentials) -> Result<bool, Failure> {
    let user = if stored.username.is_empty() { "<token>" } else { &stored.username };
    note(&format!("Authenticating with existing credentials... [Username: {user}]"));
    match log_in(client, file, stored).await {
        Ok(()) => Ok(true),
        Err(Failure::Client(ClientError::Refused { status: 401, .. })) => {
            note("Login did not succeed: the stored credentials are invalid or expired");
            Ok(false)
        }
        Err(failure) => Err(failure),
    }
}

async fn log_in(client: &Client, file: &mut ConfigFile, mut credentials: Credentials) -> Result<(), Failure> {
    let login = client.check_login(&credentials).await?;
    if !login.identity_token.is_empty() {
        credentials.password = String::new();
        credentials.identity_token = login.identity_token;
    }
    if let Kept::InFile(path) = file.store(&credentials)? {
        note(&format!(
            "WARNING! Your credentials are stored unencrypted in '{}'.\n\
             Name a credential helper in its credsStore to have them kept better.",
            path.display()
        ));
    }
    let status = if login.status.is_empty() { "Login Succeeded" } else { &login.status };
    print(&format!("{status}\n"))
}

/// The user's name and password, from flags, standard input or the user.
async fn ask(arguments: &Arguments, server: &str) -> Result<Credentials, Failure> {
    let password = if arguments.password_stdin {
        if arguments.username.is_none() {
            return Err(Failure::Usage("Must provide --username with --password-stdin".to_owned()));
        }
        Some(from_stdin()?)
    } else if arguments.password.is_some() {
        note("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        arguments.password.clone()
    } else {
        None
    };
    if (arguments.username.is_none() || password.is_none()) && !io::stdin().is_terminal() {
        return Err(Failure::Usage(
            "cannot ask for a user and a password: standard input is no terminal; use -u and --password-stdin"
                .to_owned(),
        ));
    }
    let username = match &arguments.username {
        Some(username) => username.trim().to_owned(),
        None => prompt(&format!("Username for {}: ", hostname(server)), Echo::On).await?,
    };
    if username.is_empty() {
        return Err(Failure::Usage("username is required".to_owned()));
    }
    let password = match password {
        Some(password) => password,
        None => prompt("Password: ", Echo::Off).await?,
    };
    if password.is_empty() {
        return Err(Failure::Usage("password is required".to_owned()));
    }
    Ok(Credentials { username, password, server: server.to_owned(), ..Credentials::default() })
}

/// All of standard input but the line's end.
fn from_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    io::stdin()
        .take(MAX_SECRET_BYTES)
        .read_to_string(&mut text)
        .map_err(|source| Failure::File { object: "reading the password".to_owned(), source })?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Echo {
    On,
    Off,
}

/// A line from the user. An interrupt leaves the terminal as it was.
async fn prompt(text: &str, echo: Echo) -> Result<String, Failure> {
    let failed = |source| Failure::File { object: "reading from the terminal".to_owned(), source };
    let mut signals = Signals::that_end_us();
    let hidden = (echo == Echo::Off).then(NoEcho::enter).transpose().map_err(failed)?;
    print(text)?;
    // A read from a terminal cannot be called off: its thread ends with the process.
    let reading = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().lock().take(MAX_SECRET_BYTES).read_line(&mut line).map(|_| line)
    });
    let line = tokio::select! {
        line = reading => line.map_err(io::Error::other).and_then(|line| line).map_err(failed)?,
        signal = signals.next() => return Err(SessionError::Interrupted(signal).into()),
    };
    if hidden.is_some() {
        print("\n")?;
    }
    let line = line.trim_end_matches(['\n', '\r']);
    Ok(if echo == Echo::On { line.trim() } else { line }.to_owned())
}
