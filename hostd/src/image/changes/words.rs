//! The words of an instruction: quotes and backslashes keep them together, and variables stand for their values, as in a
//! Dockerfile.

use std::iter::Peekable;
use std::str::Chars;

/// What variables become together: `${A}${A}…` could make gigabytes of a few kilobytes.
const MAX_BYTES: usize = 1 << 20;

/// Reads words where these variables are set, each "NAME=value".
pub(super) struct Words<'a> {
    pub(super) variables: &'a [String],
}

impl Words<'_> {
    /// Split at spaces.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn split(&self, text: &str) -> Result<Vec<String>, &'static str> {
        self.read(text, true)
    }

    /// All of it as one word.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn whole(&self, text: &str) -> Result<String, &'static str> {
        Ok(self.read(text, false)?.pop().unwrap_or_default())
    }

    fn read(&self, text: &str, splits: bool) -> Result<Vec<String>, &'static str> {
        let mut words = Vec::new();
        let mut word: Option<String> = None;
        let mut quote = None;
        let mut bytes = 0;
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            match (quote, character) {
                (Some(open), close) if open == close => quote = None,
                (None, '"' | '\'') => {
                    quote = Some(character);
                    word.get_or_insert_default();
                }
                (None | Some('"'), '\\') => {
                    let next = characters.next().ok_or("a backslash stands at its end")?;
                    let word = word.get_or_insert_default();
                    // Between quotes it is there for itself before most.
                    if quote.is_some() && !matches!(next, '"' | '\\' | '$') {
                        word.push('\\');
                    }
                    word.push(next);
                }
                (None | Some('"'), '$') => {
                    let value = self.variable(&mut characters)?;
                    bytes += value.len();
                    if bytes > MAX_BYTES {
                        return Err("its variables stand for more than 1 MiB");
                    }
                    word.get_or_insert_default().push_str(&value);
                }
                (None, space) if splits && space.is_whitespace() => words.extend(word.take()),
                (_, other) => word.get_or_insert_default().push(other),
            }
        }
        words.extend(word);
        if quote.is_some() { Err("a quote is not closed") } else { Ok(words) }
    }

    /// What follows a dollar: `NAME`, `{NAME}`, `{NAME:-instead}`, `{NAME:+if set}`.
    fn variable(&self, characters: &mut Peekable<Chars<'_>>) -> Result<String, &'static str> {
        if characters.next_if_eq(&'{').is_none() {
            let name = name(characters);
            return Ok(if name.is_empty() { "$".to_owned() } else { self.value(&name).to_owned() });
        }
        let name = name(characters);
        let value = self.value(&name);
        let rest: String = characters.by_ref().take_while(|character| *character != '}').collect();
        let instead = |text: &str| self.whole(text);
        match rest.split_at_checked(2) {
            _ if name.is_empty() => Err("a variable has no name"),
            _ if rest.is_empty() => Ok(value.to_owned()),
            Some((":-", text)) if value.is_empty() => instead(text),
            Some((":-", _)) => Ok(value.to_owned()),
            Some((":+", text)) if !value.is_empty() => instead(text),
            Some((":+", _)) => Ok(String::new()),
            _ => Err("a variable has a modifier other than :- and :+"),
        }
    }

    fn value(&self, name: &str) -> &str {
        let assigned = self.variables.iter().filter_map(|entry| entry.split_once('='));
        let mut of_this_name = assigned.filter(|(assigned, _value)| *assigned == name);
        of_this_name.next_back().map_or("", |(_name, value)| value)
    }
}

fn name(characters: &mut Peekable<Chars<'_>>) -> String {
    let mut name = String::new();
    while let Some(next) = characters.next_if(|next| next.is_ascii_alphanumeric() || *next == '_') {
        name.push(next);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Result<Vec<String>, &'static str> {
        let variables = ["HOME=/root", "EMPTY=", "A=one two"].map(str::to_owned);
        Words { variables: &variables }.split(text)
    }

    #[test]
    fn quotes_keep_together_and_variables_have_values() {
        for (text, words) in [
            ("a  b", vec!["a", "b"]),
            (r#""a b" 'c d' e\ f "" "#, vec!["a b", "c d", "e f", ""]),
            ("$HOME/x ${HOME}x $HOMEx", vec!["/root/x", "/rootx", ""]),
            ("'$HOME' \\$HOME \"$A\" $A", vec!["$HOME", "$HOME", "one two", "one two"]),
            (
                "${EMPTY:-x} ${HOME:-x} ${NO:-$HOME} ${HOME:+set} ${NO:+set}",
                vec!["x", "/root", "/root", "set", ""],
            ),
            (r#"$ $1 "a\nb" "a\"b""#, vec!["$", "", r"a\nb", "a\"b"]),
        ] {
            let expected: Vec<String> = words.into_iter().map(str::to_owned).collect();
            assert_eq!(split(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_closed_is_refused() {
        for (text, problem) in [
            ("'a", "a quote is not closed"),
            ("a\\", "a backslash stands at its end"),
            ("${}", "a variable has no name"),
            ("${HOME:?x}", "a variable has a modifier other than :- and :+"),
        ] {
            assert_eq!(split(text), Err(problem), "{text}");
        }
        let variables = [format!("A={}", "x".repeat(1 << 16))];
        let words = Words { variables: &variables };
        assert_eq!(words.split(&"$A".repeat(100)), Err("its variables stand for more than 1 MiB"));
    }
}
