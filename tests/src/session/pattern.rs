//! Lines with holes: `<id>`, `<ago>` and the like stand for what differs from run to run, two or more spaces for the
//! gap between two columns, and `<...>`, alone on a line, for any number of lines. All else stands for itself.

/// Whether a text may stand in a hole.
type Takes = fn(&str) -> bool;

/// What a hole takes, by its name.
const HOLES: [(&str, Takes); 8] = [
    ("id", |text| is_hex(text, 64)),
    ("short", |text| is_hex(text, 12)),
    ("digest", |text| text.strip_prefix("sha256:").is_some_and(|hex| is_hex(hex, 64))),
    ("time", is_time),
    ("ago", is_span),
    ("n", is_number),
    ("size", is_size),
    ("any", |text| !text.is_empty()),
];
const ANY_LINES: &str = "<...>";

/// Whether that is what was to be printed, white space at the ends of lines aside, and empty lines.
pub(super) fn lines_match(expected: &[String], seen: &str) -> bool {
    let expected: Vec<&str> = expected.iter().map(|line| line.trim_end()).collect();
    let seen: Vec<&str> = seen.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    all_match(&expected, &seen)
}

fn all_match(expected: &[&str], seen: &[&str]) -> bool {
    match expected.split_first() {
        None => seen.is_empty(),
        Some((&ANY_LINES, rest)) => (0..=seen.len()).any(|skipped| all_match(rest, &seen[skipped..])),
        Some((line, rest)) => seen
            .split_first()
            .is_some_and(|(first, others)| matches(&pieces(line), first) && all_match(rest, others)),
    }
}

/// A part of an expected line.
enum Piece<'a> {
    Text(&'a str),
    Hole(Takes),
    Gap,
}

fn pieces(mut line: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    while !line.is_empty() {
        let (piece, rest) = first_piece(line);
        pieces.push(piece);
        line = rest;
    }
    pieces
}

fn first_piece(line: &str) -> (Piece<'_>, &str) {
    for (name, takes) in HOLES {
        let rest = line.strip_prefix('<').and_then(|rest| rest.strip_prefix(name)?.strip_prefix('>'));
        if let Some(rest) = rest {
            return (Piece::Hole(takes), rest);
        }
    }
    if line.starts_with("  ") {
        return (Piece::Gap, line.trim_start_matches(' '));
    }
    // Up to what may be the next hole or gap; at least one character.
    let first = line.chars().next().map_or(0, char::len_utf8);
    let rest = &line[first..];
    let end = [rest.find('<'), rest.find("  ")].into_iter().flatten().min().unwrap_or(rest.len());
    (Piece::Text(&line[..first + end]), &rest[end..])
}

fn matches(pieces: &[Piece<'_>], text: &str) -> bool {
    let Some((piece, rest)) = pieces.split_first() else { return text.is_empty() };
    match piece {
        Piece::Text(literal) => text.strip_prefix(literal).is_some_and(|text| matches(rest, text)),
        Piece::Gap => text.starts_with("  ") && matches(rest, text.trim_start_matches(' ')),
        Piece::Hole(takes) => {
            let mut ends: Vec<usize> = text.char_indices().map(|(index, _)| index).skip(1).collect();
            ends.push(text.len());
            ends.into_iter().rev().any(|end| takes(&text[..end]) && matches(rest, &text[end..]))
        }
    }
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// "2025-01-31T10:00:00.123Z", "2025-01-31 10:00:00 +0000 UTC".
fn is_time(text: &str) -> bool {
    let mut date = text.splitn(3, '-');
    date.next().is_some_and(|year| year.len() == 4 && is_number(year))
        && date.next().is_some_and(|month| month.len() == 2 && is_number(month))
        && date.next().is_some_and(|rest| {
            rest.len() >= 11 && rest.chars().all(|c| c.is_ascii_digit() || "T:.Z+ UC".contains(c))
        })
}

/// "3 seconds", "About a minute", "Less than a second".
fn is_span(text: &str) -> bool {
    let units = ["second", "minute", "hour", "day", "week", "month", "year"];
    let is_unit =
        |word: &str| units.contains(&word) || units.contains(&word.strip_suffix('s').unwrap_or(word));
    match text.rsplit_once(' ') {
        Some(("Less than a", "second") | ("About a", "minute") | ("About an", "hour")) => true,
        Some((count, unit)) => is_number(count) && is_unit(unit),
        None => false,
    }
}

/// "12", "0.05".
fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(text),
    }
}

/// "0B", "1.98MB", "23.5MiB".
fn is_size(text: &str) -> bool {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    is_number(number) && ["B", "kB", "KB", "MB", "GB", "KiB", "MiB", "GiB"].contains(&&text[number.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(expected: &str, seen: &str) -> bool {
        let expected: Vec<String> = expected.lines().map(str::to_owned).collect();
        lines_match(&expected, seen)
    }

    #[test]
    fn a_line_without_holes_stands_for_itself() {
        assert!(fits("a <none> b", "a <none> b\n"));
        assert!(!fits("a", "a\nb\n") && !fits("a\nb", "a\n") && !fits("", "a\n") && !fits("a", ""));
    }

    #[test]
    fn holes_take_what_they_say_and_nothing_else() {
        assert!(fits("x <short> \"sh\"   Up <ago>  box", "x 0123456789ab \"sh\"     Up 3 seconds     box\n"));
        assert!(fits("Exited (0) <ago> ago", "Exited (0) Less than a second ago\n"));
        assert!(fits("<size> (virtual <size>)", "0B (virtual 1.98MB)\n"));
        assert!(fits("<time> tail", "2025-01-31T10:00:00.123456789Z tail\n"));
        for (expected, seen) in [
            ("<short>", "0123456789AB"),
            ("<id>", "0123456789ab"),
            ("<ago>", "3 moments"),
            ("<n>", "x"),
            ("<size>", "3 MB"),
            ("<time>", "yesterday"),
            ("<any>x", "y"),
            ("a  b", "a b"),
        ] {
            assert!(!fits(expected, seen), "{expected} took {seen}");
        }
    }

    #[test]
    fn any_number_of_lines_may_be_left_out() {
        assert!(fits("a\n<...>\nz", "a\nz\n") && fits("a\n<...>\nz", "a\nb\nc\nz\n"));
        assert!(!fits("a\n<...>\nz", "a\nb\n"));
    }
}
