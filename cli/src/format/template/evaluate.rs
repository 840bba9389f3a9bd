//! Walks a template's tree over one JSON value, with Go's ideas of what is true and what has fields.

use serde_json::Value;

use super::TemplateError;
use super::functions::{self, print};
use super::parse::{Block, Command, Node, Operand, Pipeline};

pub(super) fn render(nodes: &[Node], value: &Value) -> Result<String, TemplateError> {
    let mut evaluation = Evaluation { out: String::new(), variables: vec![(String::new(), value.clone())] };
    evaluation.nodes(nodes, value)?;
    Ok(evaluation.out)
}

struct Evaluation {
    out: String,
    /// The innermost last. The first, without a name, is the whole value.
    variables: Vec<(String, Value)>,
}

impl Evaluation {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<(), TemplateError> {
        for node in nodes {
            match node {
                Node::Text(text) => self.out.push_str(text),
                Node::Print(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    self.bind(pipeline, std::slice::from_ref(&value))?;
                    if pipeline.variables.is_empty() {
                        self.out.push_str(&print(&value));
                    }
                }
                Node::Block { kind, head, body, otherwise } => {
                    // Variables of a block end with it.
                    let outside = self.variables.len();
                    self.block(*kind, head, body, otherwise, dot)?;
                    self.variables.truncate(outside);
                }
            }
        }
        Ok(())
    }

    fn block(
        &mut self,
        kind: Block,
        head: &Pipeline,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<(), TemplateError> {
        let value = self.pipeline(head, dot)?;
        if kind == Block::Range {
            return self.range(head, body, otherwise, (&value, dot));
        }
        self.bind(head, std::slice::from_ref(&value))?;
        match (functions::is_true(&value), kind) {
            (false, _) => self.nodes(otherwise, dot),
            (true, Block::With) => self.nodes(body, &value),
            (true, _) => self.nodes(body, dot),
        }
    }

    fn range(
        &mut self,
        head: &Pipeline,
        body: &[Node],
        otherwise: &[Node],
        (over, dot): (&Value, &Value),
    ) -> Result<(), TemplateError> {
        let items: Vec<(Value, &Value)> = match over {
            Value::Array(items) => {
                items.iter().enumerate().map(|(number, item)| (Value::from(number), item)).collect()
            }
            Value::Object(fields) => {
                fields.iter().map(|(name, field)| (Value::from(name.as_str()), field)).collect()
            }
            Value::Null => Vec::new(),
            other => return Err(TemplateError::wrong("range", other)),
        };
        if items.is_empty() {
            return self.nodes(otherwise, dot);
        }
        let outside = self.variables.len();
        for (key, item) in items {
            match head.variables.len() {
                2 => self.bind(head, &[key, item.clone()])?,
                _ => self.bind(head, std::slice::from_ref(item))?,
            }
            self.nodes(body, item)?;
            self.variables.truncate(outside);
        }
        Ok(())
    }

    fn bind(&mut self, head: &Pipeline, values: &[Value]) -> Result<(), TemplateError> {
        for (name, value) in head.variables.iter().zip(values) {
            if head.declares {
                self.variables.push((name.clone(), value.clone()));
            } else {
                let known = self.variables.iter_mut().rfind(|(known, _)| known == name);
                known.ok_or_else(|| TemplateError::NoVariable(name.clone()))?.1 = value.clone();
            }
        }
        Ok(())
    }

    fn pipeline(&self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let mut result = None;
        for command in &pipeline.commands {
            result = Some(self.command(command, result, dot)?);
        }
        Ok(result.unwrap_or(Value::Null))
    }

    fn command(&self, command: &Command, piped: Option<Value>, dot: &Value) -> Result<Value, TemplateError> {
        let mut operands = command.operands.iter().map(|operand| self.operand(operand, dot));
        let Some(function) = &command.function else {
            return operands.next().unwrap_or(Ok(Value::Null));
        };
        if piped.is_none() && matches!(function.as_str(), "and" | "or") {
            return decisive(function == "and", operands);
        }
        let arguments = operands.chain(piped.map(Ok)).collect::<Result<Vec<_>, _>>()?;
        functions::call(function, &arguments)
    }

    fn operand(&self, operand: &Operand, dot: &Value) -> Result<Value, TemplateError> {
        match operand {
            Operand::Literal(value) => Ok(value.clone()),
            Operand::Field(path) => follow(dot, path),
            Operand::Variable(name, path) => {
                let known = self.variables.iter().rfind(|(known, _)| known == name);
                follow(&known.ok_or_else(|| TemplateError::NoVariable(name.clone()))?.1, path)
            }
            Operand::Group(pipeline, path) => follow(&self.pipeline(pipeline, dot)?, path),
        }
    }
}

/// The first operand that decides, or the last: what follows it is not looked at.
fn decisive(
    all: bool,
    operands: impl Iterator<Item = Result<Value, TemplateError>>,
) -> Result<Value, TemplateError> {
    let mut last = Value::Null;
    for operand in operands {
        last = operand?;
        if functions::is_true(&last) != all {
            break;
        }
    }
    Ok(last)
}

fn follow(value: &Value, path: &[String]) -> Result<Value, TemplateError> {
    let mut value = value;
    for name in path {
        value = value.get(name).ok_or_else(|| TemplateError::NoField(name.clone()))?;
    }
    Ok(value.clone())
}
