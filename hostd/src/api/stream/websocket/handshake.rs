//! The request that turns a connection into a WebSocket, and what is answered (RFC 6455, section 4.2).

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::api::error::{ApiError, ApiResult};

/// Section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Section 4.1.
const KEY_BYTES: usize = 16;

/// What is said to a client that asked rightly.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Accept {
    key: HeaderValue,
    protocol: Option<HeaderValue>,
}

impl Accept {
    /// # Errors
    /// A request for something else, or in another version.
    pub(super) fn check(headers: &HeaderMap) -> ApiResult<Self> {
        let wrong = |what: &str| ApiError::invalid(format!("not websocket protocol: {what}"));
        if !lists(headers, &header::CONNECTION, "upgrade") || !lists(headers, &header::UPGRADE, "websocket") {
            return Err(wrong("it takes the headers Connection: Upgrade and Upgrade: websocket"));
        }
        if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Err(wrong("Sec-WebSocket-Version must be 13"));
        }
        let key = headers.get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
        if STANDARD.decode(key).map_or(0, |key| key.len()) != KEY_BYTES {
            return Err(wrong("Sec-WebSocket-Key must be 16 bytes in base64"));
        }
        let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
        let key = HeaderValue::try_from(STANDARD.encode(digest)).expect("base64 is ASCII");
        Ok(Self { key, protocol: first_protocol(headers) })
    }

    pub(super) fn write(self, headers: &mut HeaderMap) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.key);
        if let Some(protocol) = self.protocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
    }
}

fn lists(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|listed| listed.trim().eq_ignore_ascii_case(word))
}

/// The streams are the same whatever the client calls them: it gets the first name that it asks for.
fn first_protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let first = asked.split(',').map(str::trim).find(|name| !name.is_empty())?;
    HeaderValue::from_str(first).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let usual = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            // Section 1.3.
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let all = usual
            .iter()
            .chain(pairs)
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        // Of several the last is kept.
        let mut headers = HeaderMap::new();
        all.for_each(|(name, value)| drop(headers.insert(name, value)));
        headers
    }

    #[test]
    fn the_key_is_answered_as_in_the_specification() {
        let mut answer = HeaderMap::new();
        Accept::check(&headers(&[("sec-websocket-protocol", " chat, other")])).unwrap().write(&mut answer);
        assert_eq!(answer["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(answer["sec-websocket-protocol"], "chat");
        assert_eq!(
            (&answer["connection"], &answer["upgrade"]),
            (&HeaderValue::from_static("Upgrade"), &HeaderValue::from_static("websocket"))
        );
    }

    #[test]
    fn what_asks_for_something_else_is_refused() {
        for (header, words) in [
            (("connection", "close"), "Connection: Upgrade"),
            (("upgrade", "tcp"), "Upgrade: websocket"),
            (("sec-websocket-version", "8"), "must be 13"),
            (("sec-websocket-key", "short"), "16 bytes"),
            (("sec-websocket-key", "dGhlIHNhbXBsZQ=="), "16 bytes"),
        ] {
            let error = Accept::check(&headers(&[header])).unwrap_err();
            assert!(error.status == 400 && error.message.contains(words), "{}", error.message);
        }
    }
}
