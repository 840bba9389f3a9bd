//! `--format`: the part of Go's templates that scripts use on Docker's output.
//!
//! Field paths, variables, pipes, `if`, `range` and `with`, and the functions in [`template::FUNCTIONS`]. What there is not is
//! refused by name instead of printed wrong: templates within templates, `break`, and most verbs of `printf`.

mod indent;
mod listing;
mod template;

pub(crate) use indent::indent;
pub(crate) use listing::{Column, Format, ListError, Listing};
pub(crate) use template::{Template, TemplateError};

use serde_json::Value;

/// What a verb that prints one object does with its `--format`.
#[derive(Debug)]
pub(crate) enum ObjectFormat {
    Json,
    Template(Template),
}

impl ObjectFormat {
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        if text == "json" { Ok(Self::Json) } else { Template::parse(text).map(Self::Template) }
    }

    /// One line, with its line feed.
    pub(crate) fn render(&self, value: &Value) -> Result<String, TemplateError> {
        let mut line = match self {
            Self::Json => value.to_string(),
            Self::Template(template) => template.render(value)?,
        };
        line.push('\n');
        Ok(line)
    }
}
