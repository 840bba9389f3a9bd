//! A record as a line of the file, written: what serde makes of a [`RecordLine`], but with what is alike in all records of
//! one piece of output made once. A container that says much says it in millions of short lines.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;

use super::OutputStream;
use super::record::RecordLine;

/// What lines of one stream and one moment have in common.
#[derive(Debug)]
pub(super) struct LineForm {
    /// Between the text and the number of its offset.
    before_offset: String,
    after_offset: String,
}

const BEGINNING: &str = "{\"log\":";
const OFFSET: &str = "\"offset\":";

impl LineForm {
    pub(super) fn new(
        stream: OutputStream,
        time: Timestamp,
        run: u64,
        attributes: &BTreeMap<String, String>,
    ) -> Self {
        let empty = RecordLine {
            log: Cow::Borrowed(""),
            stream,
            time,
            offset: 0,
            run,
            attributes: Cow::Borrowed(attributes),
        };
        let json = serde_json::to_string(&empty).expect("plain data is always JSON");
        let after_text = &json[BEGINNING.len() + "\"\"".len()..];
        // Stream and time come before it, and neither has quotes in it.
        let offset = after_text.find(OFFSET).expect("every record says its offset") + OFFSET.len();
        let (before_offset, after_offset) = after_text.split_at(offset);
        Self {
            before_offset: before_offset.to_owned(),
            after_offset: format!("{}\n", after_offset.trim_start_matches('0')),
        }
    }

    /// Appends the line of `text`, which ends at that offset. Bytes that are no UTF-8 are replaced.
    pub(super) fn write(&self, text: &[u8], offset: u64, lines: &mut Vec<u8>) {
        lines.extend_from_slice(BEGINNING.as_bytes());
        write_string(text, lines);
        lines.extend_from_slice(self.before_offset.as_bytes());
        write_json(&offset, lines);
        lines.extend_from_slice(self.after_offset.as_bytes());
    }
}

/// The text as a JSON string.
fn write_string(text: &[u8], lines: &mut Vec<u8>) {
    let (line, end) = match text.strip_suffix(b"\n") {
        Some(line) => (line, "\\n\""),
        None => (text, "\""),
    };
    if is_plain(line) && std::str::from_utf8(line).is_ok() {
        lines.push(b'"');
        lines.extend_from_slice(line);
        lines.extend_from_slice(end.as_bytes());
    } else {
        write_json(&String::from_utf8_lossy(text), lines);
    }
}

fn write_json(value: &impl serde::Serialize, lines: &mut Vec<u8>) {
    serde_json::to_writer(lines, value).expect("plain data is always JSON, and a Vec grows as needed");
}

/// Whether no byte has to be escaped in a JSON string (RFC 8259, 7): eight bytes at a time, since a log is mostly that.
fn is_plain(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().all(|word| !has_special(u64::from_le_bytes(*word)))
        && rest.iter().all(|byte| *byte >= b' ' && *byte != b'"' && *byte != b'\\')
}

/// Whether one of the eight bytes is a control character, a quote or a backslash. A subtraction borrows beyond a byte only
/// where that byte is special itself.
const fn has_special(word: u64) -> bool {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH_BITS: u64 = ONES << 7;
    let control = word.wrapping_sub(ONES * b' ' as u64) & !word;
    let quote = word ^ (ONES * b'"' as u64);
    let quote = quote.wrapping_sub(ONES) & !quote;
    let backslash = word ^ (ONES * b'\\' as u64);
    let backslash = backslash.wrapping_sub(ONES) & !backslash;
    (control | quote | backslash) & HIGH_BITS != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn as_serde_does(text: &[u8], offset: u64, run: u64, attributes: &BTreeMap<String, String>) -> Vec<u8> {
        let line = RecordLine {
            log: String::from_utf8_lossy(text),
            stream: OutputStream::Stderr,
            time: Timestamp::UNIX_EPOCH,
            offset,
            run,
            attributes: Cow::Borrowed(attributes),
        };
        let mut json = serde_json::to_vec(&line).unwrap();
        json.push(b'\n');
        json
    }

    fn check(text: &[u8], offset: u64, run: u64, attributes: &BTreeMap<String, String>) {
        let form = LineForm::new(OutputStream::Stderr, Timestamp::UNIX_EPOCH, run, attributes);
        let mut written = Vec::new();
        form.write(text, offset, &mut written);
        assert_eq!(
            String::from_utf8_lossy(&written),
            String::from_utf8_lossy(&as_serde_does(text, offset, run, attributes))
        );
    }

    #[test]
    fn every_byte_is_written_as_serde_writes_it_wherever_it_stands() {
        for byte in 0..=255_u8 {
            for place in 0..9 {
                let mut text = [b'x'; 17];
                text[place] = byte;
                check(&text, 17, 0, &BTreeMap::new());
            }
        }
    }

    #[test]
    fn what_stands_beside_a_record_may_look_like_its_offset() {
        let attributes = BTreeMap::from([("\"offset\":0".to_owned(), "\"offset\":00".to_owned())]);
        check(b"hi\n", 0, 0, &attributes);
        check(b"hi\n", 300, u64::MAX, &attributes);
    }

    proptest! {
        #[test]
        fn any_line_is_what_serde_makes_of_it(
            text in prop::collection::vec(any::<u8>(), 0..60),
            line in "[ -~é]{0,40}\n?",
            offset in any::<u64>(),
        ) {
            check(&text, offset, 0, &BTreeMap::new());
            check(line.as_bytes(), offset, 7, &BTreeMap::new());
        }
    }
}
