//! What went wrong in one exchange, before anybody says what it was about: is it worth another try, and what did the
//! other side say?

use std::error::Error;
use std::fmt;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use serde::Deserialize;

use super::challenge::{self, Challenge};

/// A registry's own words are shown up to here.
const MAX_SHOWN_CHARS: usize = 400;

/// Why an exchange gave nothing.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Failure {
    /// No whole answer arrived.
    Broken { reason: String, cause: Cause },
    /// An answer that says no.
    Refused(Box<Refusal>),
    /// An answer that breaks the protocol; the same question gets the same answer.
    Invalid(String),
}

/// What broke an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A connection that was not made, ended early or stood still: may go better next time.
    Connection,
    /// A token that ended while a stream, which cannot be sent twice, was under way; there is a new one.
    Token,
    /// Nobody answers there, which was tried often enough.
    Absent,
    /// Time does not heal a certificate, and plain text is no answer to it.
    Certificate,
    /// A file of the host's settings.
    Settings,
}

/// A status that is no success, with what the body says about it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// The token server that said it, if it was not the registry.
    pub(super) token_server: Option<String>,
    pub(super) reported: Option<Reported>,
    pub(super) retry_after: Option<Duration>,
}

/// An error as registries report it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reported {
    /// `MANIFEST_UNKNOWN` and the like; empty if the body has none.
    pub(super) code: String,
    pub(super) message: String,
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    errors: Vec<ErrorItem>,
    #[serde(default, alias = "error_description", alias = "message")]
    details: Option<String>,
}

#[derive(Deserialize)]
struct ErrorItem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Failure {
    pub(super) fn broken(reason: impl Into<String>) -> Self {
        Self::Broken { reason: reason.into(), cause: Cause::Connection }
    }

    pub(super) fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid(reason.into())
    }

    /// The client's failure, without the URL: redirects to storage carry signatures in theirs.
    pub(super) fn of(error: reqwest::Error, connect_deadline: Duration) -> Self {
        let error = error.without_url();
        let root = root(&error);
        match certificate_fault(&error) {
            Some(reason) => Self::Broken { reason, cause: Cause::Certificate },
            None if error.is_connect() && error.is_timeout() => {
                Self::broken(format!("no connection within {connect_deadline:?}"))
            }
            None if error.is_connect() => Self::broken(format!("cannot connect: {root}")),
            None => Self::broken(format!("the connection broke: {root}")),
        }
    }

    pub(super) fn is_worth_retrying(&self) -> bool {
        match self {
            Self::Broken { cause, .. } => matches!(cause, Cause::Connection | Cause::Token),
            Self::Refused(refusal) => {
                let status = refusal.status;
                status == StatusCode::TOO_MANY_REQUESTS
                    || status == StatusCode::REQUEST_TIMEOUT
                    || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED)
            }
            Self::Invalid(_) => false,
        }
    }

    /// The same, not to be tried again.
    pub(super) fn finally(self) -> Self {
        match self {
            Self::Broken { reason, .. } => Self::Broken { reason, cause: Cause::Absent },
            other => other,
        }
    }

    pub(super) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused(refusal) if refusal.token_server.is_none() => Some(refusal.status),
            _ => None,
        }
    }

    /// As said by a token server instead of the registry.
    pub(super) fn at_token_server(self, host: &str) -> Self {
        match self {
            Self::Broken { reason, cause } => {
                Self::Broken { reason: format!("token server {host}: {reason}"), cause }
            }
            Self::Refused(mut refusal) => {
                refusal.token_server = Some(host.to_owned());
                Self::Refused(refusal)
            }
            Self::Invalid(reason) => Self::Invalid(format!("token server {host}: {reason}")),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken { reason, .. } | Self::Invalid(reason) => f.write_str(reason),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl Refusal {
    pub(super) fn new(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let is_page = text(headers, CONTENT_TYPE.as_str()).is_some_and(|kind| kind.starts_with("text/html"));
        let reported = match is_page {
            true => Some(Reported { code: String::new(), message: "a web page, no registry's error".into() }),
            false => Reported::read(body),
        };
        let reported = about_the_token(headers).or(reported);
        let retry_after = text(headers, RETRY_AFTER.as_str()).and_then(retry_after);
        Self { status, token_server: None, reported, retry_after }
    }

    pub(super) fn code(&self) -> &str {
        self.reported.as_ref().map_or("", |reported| &reported.code)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(host) = &self.token_server {
            write!(f, "token server {host}: ")?;
        }
        match &self.reported {
            Some(reported) if !reported.code.is_empty() => reported.fmt(f),
            Some(reported) => write!(f, "answered {}: {reported}", self.status),
            None => write!(f, "answered {}", self.status),
        }
    }
}

impl Reported {
    fn read(body: &[u8]) -> Option<Self> {
        match serde_json::from_slice::<ErrorBody>(body) {
            Ok(ErrorBody { errors, details }) => match (errors.into_iter().next(), details) {
                (Some(first), _) => {
                    Some(Self { code: shown(&first.code).to_uppercase(), message: shown(&first.message) })
                }
                (None, Some(details)) => Some(Self { code: String::new(), message: shown(&details) }),
                (None, None) => None,
            },
            Err(_) => {
                let message = shown(&String::from_utf8_lossy(body));
                (!message.is_empty()).then_some(Self { code: String::new(), message })
            }
        }
    }
}

/// `manifest unknown: no such manifest`, as Docker shows it.
impl fmt::Display for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.code.is_empty() {
            write!(f, "{}: ", self.code.to_lowercase().replace('_', " "))?;
        }
        f.write_str(&self.message)
    }
}

/// What was wrong with our token, which says more than the body (RFC 6750, section 3.1).
fn about_the_token(headers: &HeaderMap) -> Option<Reported> {
    let Some(Challenge::Bearer(bearer)) = challenge::preferred(headers) else { return None };
    let (code, usual) = match bearer.error.as_deref()? {
        "insufficient_scope" => ("DENIED", "requested access to the resource is denied"),
        "invalid_token" => ("UNAUTHORIZED", "authentication required"),
        _ => return None,
    };
    let message =
        bearer.error_description.map_or_else(|| usual.to_owned(), |description| shown(&description));
    Some(Reported { code: code.to_owned(), message })
}

/// A header's text, if it has any.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Others' words on one line, without what terminals obey.
pub(super) fn shown(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().filter(|c| !c.is_control()).take(MAX_SHOWN_CHARS).collect()
}

/// Seconds, or the time of day in the form of HTTP.
fn retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
    Some(Duration::try_from(then.duration_since(jiff::Timestamp::now())).unwrap_or_default())
}

/// Why TLS was not agreed on, if certificates are why.
fn certificate_fault(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        match error.downcast_ref::<rustls::Error>() {
            Some(rustls::Error::InvalidCertificate(fault)) => {
                return Some(format!(
                    "its certificate is not accepted: {fault}; put the authority that signed it into the \
                     certificates directory as HOST[:PORT]/ca.crt, or list the registry as insecure"
                ));
            }
            Some(rustls::Error::AlertReceived(alert)) => {
                return Some(format!(
                    "it does not accept us: TLS alert {alert:?}; a certificate of ours belongs into the \
                     certificates directory as HOST[:PORT]/client.cert and client.key"
                ));
            }
            _ => {}
        }
        // What an I/O error wraps is not among its sources.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(fault) = wrapped.and_then(|wrapped| certificate_fault(wrapped)) {
            return Some(fault);
        }
        next = error.source();
    }
    None
}

/// The innermost cause: the client's own sentences around it say nothing more.
fn root(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    shown(&innermost.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(content_type: &str, body: &str) -> Refusal {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
        Refusal::new(StatusCode::FORBIDDEN, &headers, body.as_bytes())
    }

    #[test]
    fn errors_are_shown_in_dockers_words() {
        for (body, expected) in [
            (r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such"}]}"#, "manifest unknown: no such"),
            (r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow"}]}"#, "toomanyrequests: slow"),
            (r#"{"details":"wrong password"}"#, "answered 403 Forbidden: wrong password"),
            (r#"{"error":"x","error_description":"y"}"#, "answered 403 Forbidden: y"),
            ("plain\n\n text\u{1b}[2J", "answered 403 Forbidden: plain text[2J"),
            ("{}", "answered 403 Forbidden"),
            ("", "answered 403 Forbidden"),
            (r#"{"errors":[{"code":7}]}"#, r#"answered 403 Forbidden: {"errors":[{"code":7}]}"#),
        ] {
            assert_eq!(refusal("application/json", body).to_string(), expected);
        }
        let page = refusal("text/html; charset=utf-8", "<html>log in to the hotel</html>").to_string();
        assert_eq!(page, "answered 403 Forbidden: a web page, no registry's error");
        let long = refusal("text/plain", &"x".repeat(10_000)).to_string();
        assert!(long.len() < 2 * MAX_SHOWN_CHARS);
    }

    #[test]
    fn waiting_is_asked_for_in_seconds_or_by_date() {
        assert_eq!(retry_after("17"), Some(Duration::from_secs(17)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert!(retry_after("Sat, 21 Oct 2215 07:28:00 GMT").unwrap() > Duration::from_secs(1 << 30));
        assert_eq!(retry_after("-1"), None);
        assert_eq!(retry_after("soon"), None);
    }
}
