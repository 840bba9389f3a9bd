//! Lays JSON out over lines without touching a byte of it: order of keys and spelling of numbers stay the daemon's.

/// `json` with four spaces per level, as `inspect` prints it. What is not JSON comes out as some text, never a panic.
pub(crate) fn indent(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0_usize;
    let mut rest = json.trim();
    while let Some(character) = rest.chars().next() {
        if character == '"' {
            let (text, after) = rest.split_at(string_length(rest));
            out.push_str(text);
            rest = after;
            continue;
        }
        rest = &rest[character.len_utf8()..];
        match character {
            '{' | '[' => {
                out.push(character);
                rest = rest.trim_start();
                // An empty object stays on its line.
                if let Some(after) = rest.strip_prefix(if character == '{' { '}' } else { ']' }) {
                    out.push(if character == '{' { '}' } else { ']' });
                    rest = after;
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(character);
            }
            ',' => {
                out.push(',');
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            space if space.is_ascii_whitespace() => {}
            other => out.push(other),
        }
    }
    out
}

/// The length of the string at the front, its quotes included.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("    ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_numbers_and_strings_stay_as_they_came() {
        let json = r#"[{"b":1.50,"a":"x,{\"é\\"},{"e":{},"l":[ ],"n":[1, null]}]"#;
        let expected = concat!(
            "[\n    {\n        \"b\": 1.50,\n        \"a\": \"x,{\\\"é\\\\\"\n    },\n",
            "    {\n        \"e\": {},\n        \"l\": [],\n        \"n\": [\n            1,\n            null\n        ]\n    }\n]"
        );
        assert_eq!(indent(json), expected);
    }

    #[test]
    fn broken_json_is_no_reason_to_panic() {
        for json in ["}}}}", "\"abc", "{\"a", "\\", "\"\\"] {
            indent(json);
        }
    }
}
