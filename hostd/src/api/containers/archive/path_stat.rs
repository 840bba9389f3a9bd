//! The header that tells what is at a path: JSON in base64, with the file's mode as Go's `os.FileMode` has it.

use axum::http::{HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::engine::PathStat;

const NAME: HeaderName = HeaderName::from_static("x-docker-container-path-stat");

/// Kinds of stat(2), `S_IFMT` and below, with Go's bits for them. A regular file has none.
const KINDS: [(u32, u32); 6] = [
    (0o040_000, 1 << 31),
    (0o120_000, 1 << 27),
    (0o060_000, 1 << 26),
    (0o010_000, 1 << 25),
    (0o140_000, 1 << 24),
    // A character device is a device, too.
    (0o020_000, 1 << 26 | 1 << 21),
];
/// Set-user-ID, set-group-ID and sticky.
const SPECIALS: [(u32, u32); 3] = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    name: String,
    size: u64,
    mode: u32,
    mtime: String,
    link_target: String,
}

pub(super) fn header(stat: &PathStat) -> (HeaderName, HeaderValue) {
    let header = Header {
        name: String::from_utf8_lossy(&stat.name).into_owned(),
        size: stat.size_bytes,
        mode: go_mode(stat.mode),
        mtime: stat.modified_at.to_string(),
        link_target: String::from_utf8_lossy(&stat.link_target).into_owned(),
    };
    let json = serde_json::to_vec(&header).expect("text and numbers");
    (NAME, HeaderValue::try_from(STANDARD.encode(json)).expect("base64 is printable"))
}

fn go_mode(mode: u32) -> u32 {
    let kind = KINDS.iter().find(|(kind, _)| mode & 0o170_000 == *kind).map_or(0, |(_, bits)| *bits);
    let specials = SPECIALS.iter().filter(|(special, _)| mode & special != 0).map(|(_, bits)| *bits);
    mode & 0o777 | kind | specials.fold(0, |all, bits| all | bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Docker Engine 20.10 answered for such files.
    #[test]
    fn modes_are_gos() {
        for (mode, expected) in [
            (0o040_755, 2_147_484_141),
            (0o104_755, 8_389_101),
            (0o120_777, 134_218_239),
            (0o010_644, 33_554_852),
            (0o100_644, 420),
            (0o020_666, 1 << 26 | 1 << 21 | 0o666),
            (0o041_777, 1 << 31 | 1 << 20 | 0o777),
        ] {
            assert_eq!(go_mode(mode), expected, "{mode:o}");
        }
    }

    #[test]
    fn the_header_is_json_in_base64() {
        let stat = PathStat {
            name: b"f\xff".to_vec(),
            size_bytes: 3,
            mode: 0o100_644,
            modified_at: jiff::Timestamp::new(1_000_000_000, 5).unwrap(),
            link_target: Vec::new(),
        };
        let (name, value) = header(&stat);
        assert_eq!(name, "x-docker-container-path-stat");
        let json = String::from_utf8(STANDARD.decode(value.as_bytes()).unwrap()).unwrap();
        assert_eq!(
            json,
            r#"{"name":"f�","size":3,"mode":420,"mtime":"2001-09-09T01:46:40.000000005Z","linkTarget":""}"#
        );
    }
}
