//! One template over one JSON value: parsed once, rendered for each value.

mod evaluate;
mod functions;
mod lexer;
mod parse;
#[cfg(test)]
mod tests;

use serde_json::Value;
use thiserror::Error;

pub(crate) use self::functions::FUNCTIONS;
use self::parse::{Block, Node, Operand, Pipeline};

#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum TemplateError {
    #[error(
        "template parsing error: {{{{{0}}}}} is not supported: use field paths such as {{{{.State.Status}}}}, variables, \
         if, range, with and the functions {functions}", functions = FUNCTIONS.join(", ")
    )]
    Unsupported(String),
    #[error("template parsing error: unclosed action")]
    Unclosed,
    #[error("template parsing error: unexpected {{{{{0}}}}}")]
    Unexpected(String),
    #[error("template parsing error: unexpected EOF: a block has no {{{{end}}}}")]
    NoEnd,
    #[error("template parsing error: blocks are nested too deep")]
    TooDeep,
    #[error("template parsing error: undefined variable \"${0}\"")]
    NoVariable(String),
    #[error("template parsing error: map has no entry for key \"{0}\"")]
    NoField(String),
    #[error("template parsing error: {function} cannot be applied to {value}")]
    WrongType { function: String, value: String },
}

#[derive(Debug, PartialEq)]
pub(crate) struct Template {
    nodes: Vec<Node>,
}

impl TemplateError {
    fn wrong(function: &str, value: &Value) -> Self {
        Self::WrongType { function: function.to_owned(), value: value.to_string() }
    }
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        parse::parse(text).map(|nodes| Self { nodes })
    }

    pub(crate) fn render(&self, value: &Value) -> Result<String, TemplateError> {
        evaluate::render(&self.nodes, value)
    }

    /// The fields of the value itself in the order of their use, for the header of a table.
    pub(super) fn fields(&self) -> impl Iterator<Item = &str> {
        let mut fields = Vec::new();
        collect(&self.nodes, &mut fields);
        fields.into_iter()
    }
}

fn collect<'a>(nodes: &'a [Node], fields: &mut Vec<&'a str>) {
    for node in nodes {
        match node {
            Node::Text(_) => {}
            Node::Print(pipeline) => collect_from(pipeline, fields),
            Node::Block { kind, head, body, otherwise } => {
                collect_from(head, fields);
                // Inside of the others, fields are those of something else.
                if *kind == Block::If {
                    collect(body, fields);
                }
                collect(otherwise, fields);
            }
        }
    }
}

fn collect_from<'a>(pipeline: &'a Pipeline, fields: &mut Vec<&'a str>) {
    for operand in pipeline.commands.iter().flat_map(|command| &command.operands) {
        match operand {
            Operand::Field(path) => fields.extend(path.first().map(String::as_str)),
            Operand::Group(inner, _) => collect_from(inner, fields),
            Operand::Variable(_, _) | Operand::Literal(_) => {}
        }
    }
}
