//! Makes a template's text a tree: text, what is printed, and blocks (`if`, `range`, `with`).

use serde_json::Value;

use super::TemplateError;
use super::functions;
use super::lexer::{Token, tokens};

/// Blocks and parentheses within each other.
const MAX_DEPTH: usize = 64;

#[derive(Debug, PartialEq)]
pub(super) enum Node {
    Text(String),
    Print(Pipeline),
    Block { kind: Block, head: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Block {
    If,
    Range,
    With,
}

/// Commands, each of which has the result of the one before as its last argument.
#[derive(Debug, PartialEq)]
pub(super) struct Pipeline {
    /// The variables that get its value.
    pub(super) variables: Vec<String>,
    /// They are new ones.
    pub(super) declares: bool,
    pub(super) commands: Vec<Command>,
}

/// A value, or a function in front of its arguments.
#[derive(Debug, PartialEq)]
pub(super) struct Command {
    pub(super) function: Option<String>,
    pub(super) operands: Vec<Operand>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Operand {
    Field(Vec<String>),
    /// The one without a name is the whole value.
    Variable(String, Vec<String>),
    Literal(Value),
    Group(Box<Pipeline>, Vec<String>),
}

/// A piece of a template: text, or the inside of an action.
enum Piece<'a> {
    Text(&'a str),
    Action(&'a str),
}

pub(super) fn parse(text: &str) -> Result<Vec<Node>, TemplateError> {
    let pieces = pieces(text)?;
    let mut parser = Parser { pieces: pieces.into_iter(), depth: 0 };
    let (nodes, end) = parser.nodes()?;
    match end {
        End::OfText => Ok(nodes),
        End::Word(action) => Err(TemplateError::Unexpected(action)),
    }
}

/// `{{-` takes the white space in front of it away, and `-}}` what is behind it.
fn pieces(text: &str) -> Result<Vec<Piece<'_>>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (action, mut after) = split_action(after).ok_or(TemplateError::Unclosed)?;
        let trims = action.strip_prefix('-').filter(|inside| inside.starts_with(char::is_whitespace));
        pieces.push(Piece::Text(if trims.is_some() { before.trim_end() } else { before }));
        let mut inside = trims.unwrap_or(action);
        if let Some(shorter) = inside.strip_suffix('-').filter(|inside| inside.ends_with(char::is_whitespace))
        {
            inside = shorter;
            after = after.trim_start();
        }
        pieces.push(Piece::Action(inside));
        rest = after;
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

/// An action ends at the first `}}` that is in no quotes.
fn split_action(text: &str) -> Option<(&str, &str)> {
    let mut quote = None;
    let mut is_escaped = false;
    for (at, character) in text.char_indices() {
        match quote {
            _ if is_escaped => is_escaped = false,
            Some('"') if character == '\\' => is_escaped = true,
            Some(mark) if character == mark => quote = None,
            Some(_) => {}
            None if matches!(character, '"' | '`') => quote = Some(character),
            None if text[at..].starts_with("}}") => return Some((&text[..at], &text[at + 2..])),
            None => {}
        }
    }
    None
}

struct Parser<'a> {
    pieces: std::vec::IntoIter<Piece<'a>>,
    depth: usize,
}

/// What ended a list of nodes.
enum End {
    OfText,
    /// `end`, or an `else` with what follows it.
    Word(String),
}

impl Parser<'_> {
    fn nodes(&mut self) -> Result<(Vec<Node>, End), TemplateError> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let action = match piece {
                // Shells make it hard to type a tab: `\t` and `\n` mean what they look like.
                Piece::Text("") => continue,
                Piece::Text(text) => {
                    nodes.push(Node::Text(text.replace("\\t", "\t").replace("\\n", "\n")));
                    continue;
                }
                Piece::Action(action) => action.trim(),
            };
            let (word, rest) = action.split_once(char::is_whitespace).unwrap_or((action, ""));
            match word {
                "end" | "else" => return Ok((nodes, End::Word(action.to_owned()))),
                "if" => nodes.push(self.block(Block::If, rest)?),
                "range" => nodes.push(self.block(Block::Range, rest)?),
                "with" => nodes.push(self.block(Block::With, rest)?),
                _ if is_comment(action) => {}
                _ => nodes.push(Node::Print(pipeline(action)?)),
            }
        }
        Ok((nodes, End::OfText))
    }

    fn block(&mut self, kind: Block, head: &str) -> Result<Node, TemplateError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(TemplateError::TooDeep);
        }
        let head = pipeline(head)?;
        let (body, end) = self.nodes()?;
        let otherwise = self.otherwise(end)?;
        self.depth -= 1;
        Ok(Node::Block { kind, head, body, otherwise })
    }

    /// What is behind an `else`, up to the block's end.
    fn otherwise(&mut self, end: End) -> Result<Vec<Node>, TemplateError> {
        let End::Word(action) = end else { return Err(TemplateError::NoEnd) };
        if action == "end" {
            return Ok(Vec::new());
        }
        let behind = action.strip_prefix("else").unwrap_or_default().trim_start();
        if behind.is_empty() {
            let (nodes, end) = self.nodes()?;
            return match end {
                End::Word(action) if action == "end" => Ok(nodes),
                End::Word(action) => Err(TemplateError::Unexpected(action)),
                End::OfText => Err(TemplateError::NoEnd),
            };
        }
        // `else if` shares its `end` with the block it is in.
        match behind.split_once(char::is_whitespace) {
            Some(("if", head)) => Ok(vec![self.block(Block::If, head)?]),
            Some(("with", head)) => Ok(vec![self.block(Block::With, head)?]),
            _ => Err(TemplateError::Unexpected(action)),
        }
    }
}

fn is_comment(action: &str) -> bool {
    action.starts_with("/*") && action.ends_with("*/") && action.len() >= 4
}

fn pipeline(action: &str) -> Result<Pipeline, TemplateError> {
    let unsupported = || TemplateError::Unsupported(action.trim().to_owned());
    let tokens = tokens(action).ok_or_else(unsupported)?;
    let mut words = Words { tokens: &tokens, depth: 0 };
    let read = words.pipeline().filter(|_| words.tokens.is_empty());
    read.ok_or_else(unsupported)
}

struct Words<'a> {
    tokens: &'a [Token],
    depth: usize,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a Token> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first)
    }

    /// Up to the end, or to the parenthesis that closes it. `None` if it is none.
    fn pipeline(&mut self) -> Option<Pipeline> {
        let (variables, declares) = self.variables();
        let mut commands = vec![self.command()?];
        while self.tokens.first() == Some(&Token::Pipe) {
            self.next();
            let command = self.command()?;
            // Only a function has a place for what comes through a pipe.
            command.function.as_ref()?;
            commands.push(command);
        }
        Some(Pipeline { variables, declares, commands })
    }

    /// `$a, $b :=`, if that is what is there.
    fn variables(&mut self) -> (Vec<String>, bool) {
        let plain = |token: &Token| match token {
            Token::Variable(name, path) if path.is_empty() => Some(name.clone()),
            _ => None,
        };
        let (names, rest) = match self.tokens {
            [first, Token::Comma, second, rest @ ..] => (vec![plain(first), plain(second)], rest),
            [first, rest @ ..] => (vec![plain(first)], rest),
            [] => return (Vec::new(), false),
        };
        let names: Option<Vec<String>> = names.into_iter().collect();
        match (names, rest.split_first()) {
            (Some(names), Some((sign @ (Token::Declare | Token::Assign), rest))) => {
                self.tokens = rest;
                (names, *sign == Token::Declare)
            }
            _ => (Vec::new(), false),
        }
    }

    fn command(&mut self) -> Option<Command> {
        let mut command = Command { function: None, operands: Vec::new() };
        loop {
            let operand = match self.tokens.first() {
                None | Some(Token::Pipe | Token::Close(_)) => break,
                Some(Token::Word(word)) => {
                    self.next();
                    match word.as_str() {
                        "true" => Operand::Literal(Value::Bool(true)),
                        "false" => Operand::Literal(Value::Bool(false)),
                        "nil" => Operand::Literal(Value::Null),
                        name if command.operands.is_empty() && functions::exists(name) => {
                            command.function.replace(name.to_owned()).is_none().then_some(())?;
                            continue;
                        }
                        _ => return None,
                    }
                }
                Some(_) => self.operand()?,
            };
            command.operands.push(operand);
        }
        let is_whole = command.function.is_some() || command.operands.len() == 1;
        is_whole.then_some(command)
    }

    fn operand(&mut self) -> Option<Operand> {
        Some(match self.next()? {
            Token::Field(path) => Operand::Field(path.clone()),
            Token::Variable(name, path) => Operand::Variable(name.clone(), path.clone()),
            Token::Text(text) => Operand::Literal(Value::String(text.clone())),
            Token::Number(number) => Operand::Literal(Value::Number(number.clone())),
            Token::Open => {
                self.depth += 1;
                (self.depth <= MAX_DEPTH).then_some(())?;
                let pipeline = self.pipeline()?;
                self.depth -= 1;
                let Token::Close(path) = self.next()? else { return None };
                Operand::Group(Box::new(pipeline), path.clone())
            }
            Token::Word(_)
            | Token::Close(_)
            | Token::Pipe
            | Token::Comma
            | Token::Declare
            | Token::Assign => return None,
        })
    }
}
