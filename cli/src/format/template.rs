//! Parses and renders one template over one JSON value.

use serde_json::Value;
use thiserror::Error;

/// What can be called, and with how many arguments.
pub(crate) const FUNCTIONS: [(&str, usize); 7] =
    [("json", 1), ("index", 2), ("join", 2), ("len", 1), ("upper", 1), ("lower", 1), ("println", 1)];

#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum TemplateError {
    #[error(
        "template parsing error: {{{{{0}}}}} is not supported: use field paths such as {{{{.State.Status}}}} and the \
         functions json, index, join, len, upper, lower, println"
    )]
    Unsupported(String),
    #[error("template parsing error: unclosed action")]
    Unclosed,
    #[error("template parsing error: map has no entry for key \"{0}\"")]
    NoField(String),
    #[error("template parsing error: {function} cannot be applied to {value}")]
    WrongType { function: String, value: String },
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Operand(Operand),
    Call { function: String, arguments: Vec<Operand> },
}

#[derive(Debug, PartialEq, Eq)]
enum Operand {
    /// Empty for `.` itself.
    Field(Vec<String>),
    Text(String),
    Number(usize),
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            push_text(&mut pieces, before);
            let (action, after) = after.split_once("}}").ok_or(TemplateError::Unclosed)?;
            pieces.push(parse_action(action)?);
            rest = after;
        }
        push_text(&mut pieces, rest);
        Ok(Self { pieces })
    }

    pub(crate) fn render(&self, value: &Value) -> Result<String, TemplateError> {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Operand(operand) => out.push_str(&print(&operand.evaluate(value)?)),
                Piece::Call { function, arguments } => out.push_str(&call(function, arguments, value)?),
            }
        }
        Ok(out)
    }

    /// The first-level fields in the order of their use, for the header of a table.
    pub(super) fn fields(&self) -> impl Iterator<Item = &str> {
        self.pieces
            .iter()
            .flat_map(|piece| match piece {
                Piece::Text(_) => [].iter(),
                Piece::Operand(operand) => std::slice::from_ref(operand).iter(),
                Piece::Call { arguments, .. } => arguments.iter(),
            })
            .filter_map(|operand| match operand {
                Operand::Field(path) => path.first().map(String::as_str),
                Operand::Text(_) | Operand::Number(_) => None,
            })
    }
}

/// Shells make it hard to type a tab: `\t` and `\n` mean what they look like.
fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.replace("\\t", "\t").replace("\\n", "\n")));
    }
}

fn parse_action(action: &str) -> Result<Piece, TemplateError> {
    let unsupported = || TemplateError::Unsupported(action.to_owned());
    let mut words = split_words(action).ok_or_else(unsupported)?;
    if words.is_empty() {
        return Err(unsupported());
    }
    let first = words.remove(0);
    let arguments = words.iter().map(|word| parse_operand(word));
    let arguments = arguments.collect::<Option<Vec<_>>>().ok_or_else(unsupported)?;
    if let Some(operand) = parse_operand(&first) {
        return if arguments.is_empty() { Ok(Piece::Operand(operand)) } else { Err(unsupported()) };
    }
    if FUNCTIONS.contains(&(first.as_str(), arguments.len())) {
        return Ok(Piece::Call { function: first, arguments });
    }
    Err(unsupported())
}

/// Words separated by spaces; quoted text stays one word, its first quote included to tell it from a name.
fn split_words(action: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = action.trim();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (text, after) = quoted.split_once('"')?;
                // Escapes inside quotes are not worth their parser here.
                if text.contains('\\') {
                    return None;
                }
                (format!("\"{text}"), after)
            }
            None => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        words.push(word);
        rest = after.trim_start();
    }
    Some(words)
}

fn parse_operand(word: &str) -> Option<Operand> {
    if let Some(text) = word.strip_prefix('"') {
        return Some(Operand::Text(text.to_owned()));
    }
    if let Ok(number) = word.parse() {
        return Some(Operand::Number(number));
    }
    let path = word.strip_prefix('.')?;
    if path.is_empty() {
        return Some(Operand::Field(Vec::new()));
    }
    let names = path.split('.').map(|name| {
        let plain = name.chars().all(|c| c.is_alphanumeric() || c == '_');
        (plain && !name.is_empty()).then(|| name.to_owned())
    });
    names.collect::<Option<_>>().map(Operand::Field)
}

impl Operand {
    fn evaluate(&self, value: &Value) -> Result<Value, TemplateError> {
        let path = match self {
            Self::Text(text) => return Ok(Value::String(text.clone())),
            Self::Number(number) => return Ok(Value::from(*number)),
            Self::Field(path) => path,
        };
        let mut value = value;
        for name in path {
            value = value.get(name).ok_or_else(|| TemplateError::NoField(name.clone()))?;
        }
        Ok(value.clone())
    }
}

fn call(function: &str, arguments: &[Operand], value: &Value) -> Result<String, TemplateError> {
    let arguments = arguments.iter().map(|argument| argument.evaluate(value));
    let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
    let wrong =
        |value: &Value| TemplateError::WrongType { function: function.to_owned(), value: value.to_string() };
    Ok(match (function, arguments.as_slice()) {
        ("json", [value]) => value.to_string(),
        ("println", [value]) => format!("{}\n", print(value)),
        ("upper", [Value::String(text)]) => text.to_uppercase(),
        ("lower", [Value::String(text)]) => text.to_lowercase(),
        ("len", [Value::String(text)]) => text.len().to_string(),
        ("len", [Value::Array(items)]) => items.len().to_string(),
        ("len", [Value::Object(fields)]) => fields.len().to_string(),
        ("len", [Value::Null]) => "0".to_owned(),
        ("join", [Value::Array(items), Value::String(separator)]) => {
            items.iter().map(print).collect::<Vec<_>>().join(separator)
        }
        // Go gives the zero value for a key that a map of strings does not have.
        ("index", [Value::Object(fields), Value::String(key)]) => {
            fields.get(key).map(print).unwrap_or_default()
        }
        ("index", [Value::Null, _]) => String::new(),
        ("index", [items @ Value::Array(list), Value::Number(index)]) => {
            let index = index.as_u64().and_then(|index| usize::try_from(index).ok());
            index.and_then(|index| list.get(index)).map(print).ok_or_else(|| wrong(items))?
        }
        (_, arguments) => return Err(wrong(arguments.first().unwrap_or(&Value::Null))),
    })
}

/// A value as Go's templates print it.
fn print(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(print).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| format!("{key}:{}", print(value)));
            format!("map[{}]", fields.collect::<Vec<_>>().join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(template: &str) -> Result<String, TemplateError> {
        let value = json!({
            "Id": "abc", "State": {"Status": "running", "Pid": 7, "Paused": false},
            "Config": {"Env": ["A=1", "B=2"], "Labels": {"com.x": "y"}, "Cmd": null}
        });
        Template::parse(template)?.render(&value)
    }

    #[test]
    fn fields_print_as_in_go() {
        for (template, text) in [
            ("{{.Id}}", "abc"),
            ("{{ .State.Status }} {{.State.Pid}}/{{.State.Paused}}", "running 7/false"),
            ("{{.Config.Env}}", "[A=1 B=2]"),
            ("{{.Config.Labels}}", "map[com.x:y]"),
            ("{{.Config.Cmd}}", "<no value>"),
            (r"a\tb", "a\tb"),
        ] {
            assert_eq!(render(template).as_deref(), Ok(text), "{template}");
        }
    }

    #[test]
    fn functions_take_fields_and_quoted_text() {
        for (template, text) in [
            ("{{json .State}}", r#"{"Paused":false,"Pid":7,"Status":"running"}"#),
            (r#"{{index .Config.Labels "com.x"}}"#, "y"),
            (r#"{{index .Config.Labels "none"}}"#, ""),
            ("{{index .Config.Env 1}}", "B=2"),
            (r#"{{join .Config.Env ", "}}"#, "A=1, B=2"),
            ("{{len .Config.Env}}{{upper .Id}}", "2ABC"),
        ] {
            assert_eq!(render(template).as_deref(), Ok(text), "{template}");
        }
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for action in
            ["range .Mounts", "if .Id", ".Id | upper", "end", "- .Id -", "json", "", "$x", ".A b", "json \"a"]
        {
            let error = render(&format!("{{{{{action}}}}}")).unwrap_err();
            assert_eq!(error, TemplateError::Unsupported(action.to_owned()));
            assert!(error.to_string().contains(&format!("{{{{{action}}}}} is not supported")), "{error}");
        }
        assert_eq!(render("{{.Id"), Err(TemplateError::Unclosed));
    }

    #[test]
    fn a_field_that_is_not_there_and_a_wrong_argument_are_errors() {
        assert_eq!(render("{{.State.Nope}}"), Err(TemplateError::NoField("Nope".to_owned())));
        assert!(matches!(render("{{upper .State}}"), Err(TemplateError::WrongType { .. })));
        assert!(matches!(render("{{index .Config.Env 9}}"), Err(TemplateError::WrongType { .. })));
    }
}
