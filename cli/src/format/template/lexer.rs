//! Cuts the inside of one action into tokens. Knows no grammar.

use serde_json::Number;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// `range`, `json`, `true`.
    Word(String),
    /// The names after the points; empty for `.` itself.
    Field(Vec<String>),
    /// A name without its `$`, and the names after it.
    Variable(String, Vec<String>),
    Text(String),
    Number(Number),
    Open,
    /// With the names after it, as in `(index .Mounts 0).Source`.
    Close(Vec<String>),
    Pipe,
    Comma,
    Declare,
    Assign,
}

/// `None` if something is no token.
pub(super) fn tokens(action: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = action.trim();
    while let Some(first) = rest.chars().next() {
        let (token, after) = match first {
            '(' => (Token::Open, &rest[1..]),
            ')' => {
                let (path, after) = path(&rest[1..])?;
                (Token::Close(path), after)
            }
            '|' => (Token::Pipe, &rest[1..]),
            ',' => (Token::Comma, &rest[1..]),
            ':' => (Token::Declare, rest.strip_prefix(":=")?),
            '=' => (Token::Assign, &rest[1..]),
            '"' => quoted(&rest[1..])?,
            '`' => {
                let (text, after) = rest[1..].split_once('`')?;
                (Token::Text(text.to_owned()), after)
            }
            '.' => field(rest)?,
            '$' => {
                let (name, after) = name(&rest[1..]);
                let (path, after) = path(after)?;
                (Token::Variable(name.to_owned(), path), after)
            }
            _ => word_or_number(rest)?,
        };
        tokens.push(token);
        rest = after.trim_start();
    }
    Some(tokens)
}

/// Text behind its first quote, with Go's escapes.
fn quoted(rest: &str) -> Option<(Token, &str)> {
    let mut text = String::new();
    let mut characters = rest.char_indices();
    loop {
        match characters.next()? {
            (end, '"') => return Some((Token::Text(text), &rest[end + 1..])),
            (_, '\\') => text.push(match characters.next()?.1 {
                'n' => '\n',
                't' => '\t',
                same @ ('"' | '\\' | '\'') => same,
                _ => return None,
            }),
            (_, other) => text.push(other),
        }
    }
}

fn field(rest: &str) -> Option<(Token, &str)> {
    let (path, after) = path(rest)?;
    if path.is_empty() {
        return Some((Token::Field(path), &rest[1..]));
    }
    Some((Token::Field(path), after))
}

/// `.A.B`, or nothing.
fn path(mut rest: &str) -> Option<(Vec<String>, &str)> {
    let mut names = Vec::new();
    while let Some(behind) = rest.strip_prefix('.') {
        let (name, after) = name(behind);
        if name.is_empty() {
            // A point alone is the value itself, but only in front.
            return if names.is_empty() { Some((names, rest)) } else { None };
        }
        names.push(name.to_owned());
        rest = after;
    }
    Some((names, rest))
}

fn name(rest: &str) -> (&str, &str) {
    rest.split_at(rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len()))
}

fn word_or_number(rest: &str) -> Option<(Token, &str)> {
    let is_inside = |c: char| c.is_alphanumeric() || "_.-+".contains(c);
    let end = rest.find(|c: char| !is_inside(c)).unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    if word.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+') {
        return Some((Token::Number(word.trim_start_matches('+').parse().ok()?), after));
    }
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    (!word.is_empty() && word.chars().all(is_name)).then(|| (Token::Word(word.to_owned()), after))
}
