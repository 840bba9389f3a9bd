//! A list of things as a table, as JSON lines, or through a template: what `ps`, `images` and their like print.

use serde_json::{Map, Value};
use thiserror::Error;

use super::template::{Template, TemplateError};
use crate::table;

/// A field of a row and the header of its column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) field: &'static str,
    pub(crate) header: &'static str,
}

/// Rows of the same fields; the fields hold text, ready to be shown.
#[derive(Debug)]
pub(crate) struct Listing {
    /// Every field that a template may name.
    pub(crate) columns: &'static [Column],
    /// The fields of the table that is printed when no format is given.
    pub(crate) default: &'static [&'static str],
    /// One value for each of `columns`.
    pub(crate) rows: Vec<Vec<String>>,
}

/// What `--format` asked for.
#[derive(Debug)]
pub(crate) enum Format {
    Table(Option<Template>),
    Json,
    Template(Template),
}

#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum ListError {
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error("template parsing error: there is no field .{field} here; the fields are {known}")]
    UnknownField { field: String, known: String },
}

impl Format {
    /// Reads `table`, `table TEMPLATE`, `json` or `TEMPLATE`.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        match text.strip_prefix("table") {
            Some("") => Ok(Self::Table(None)),
            Some(template) if template.starts_with(char::is_whitespace) => {
                Template::parse(template.trim_start()).map(|template| Self::Table(Some(template)))
            }
            _ if text == "json" => Ok(Self::Json),
            _ => Template::parse(text).map(Self::Template),
        }
    }
}

impl Listing {
    /// All lines.
    pub(crate) fn render(&self, format: &Format) -> Result<String, ListError> {
        match format {
            Format::Table(None) => Ok(self.default_table()),
            Format::Table(Some(template)) => self.template_table(template),
            Format::Json => Ok(self.objects().map(|object| format!("{object}\n")).collect()),
            Format::Template(template) => {
                self.check_fields(template)?;
                self.objects().map(|object| Ok(format!("{}\n", template.render(&object)?))).collect()
            }
        }
    }

    fn default_table(&self) -> String {
        let columns: Vec<_> = self.columns.iter().enumerate().collect();
        let shown: Vec<_> = self
            .default
            .iter()
            .filter_map(|field| columns.iter().find(|(_, column)| column.field == *field))
            .collect();
        let header = shown.iter().map(|(_, column)| column.header.to_owned()).collect();
        let rows = self.rows.iter().map(|row| shown.iter().map(|(index, _)| row[*index].clone()).collect());
        table::align(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
    }

    /// A row's text is cut into cells at its tabs; the header is the same template over the columns' names.
    fn template_table(&self, template: &Template) -> Result<String, ListError> {
        self.check_fields(template)?;
        let headers = self.columns.iter().map(|c| (c.field.to_owned(), Value::from(c.header))).collect();
        let mut rows = vec![cells(&template.render(&Value::Object(headers))?)];
        for object in self.objects() {
            rows.push(cells(&template.render(&object)?));
        }
        Ok(table::align(&rows))
    }

    fn objects(&self) -> impl Iterator<Item = Value> {
        self.rows.iter().map(|row| {
            let fields = self.columns.iter().zip(row);
            let fields = fields.map(|(column, text)| (column.field.to_owned(), Value::from(text.as_str())));
            Value::Object(fields.collect::<Map<_, _>>())
        })
    }

    /// A misspelt field is told even when the list is empty.
    fn check_fields(&self, template: &Template) -> Result<(), ListError> {
        let unknown = template.fields().find(|field| !self.columns.iter().any(|c| c.field == *field));
        let Some(field) = unknown else { return Ok(()) };
        let known = self.columns.iter().map(|column| format!(".{}", column.field)).collect::<Vec<_>>();
        Err(ListError::UnknownField { field: field.to_owned(), known: known.join(" ") })
    }
}

fn cells(line: &str) -> Vec<String> {
    line.split('\t').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(rows: &[[&str; 3]]) -> Listing {
        Listing {
            columns: &[
                Column { field: "ID", header: "CONTAINER ID" },
                Column { field: "Names", header: "NAMES" },
                Column { field: "Image", header: "IMAGE" },
            ],
            default: &["ID", "Names"],
            rows: rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect(),
        }
    }

    fn render(format: &str) -> Result<String, ListError> {
        listing(&[["1", "a", "x"], ["2", "b", "y"]]).render(&Format::parse(format).unwrap())
    }

    #[test]
    fn the_table_shows_the_default_columns() {
        assert_eq!(render("table").unwrap(), "CONTAINER ID   NAMES\n1              a\n2              b\n");
    }

    #[test]
    fn a_table_template_brings_its_own_header() {
        assert_eq!(
            render(r"table {{.Image}}\t{{.ID}}").unwrap(),
            "IMAGE     CONTAINER ID\nx         1\ny         2\n"
        );
    }

    #[test]
    fn json_and_plain_templates_have_no_header() {
        assert_eq!(render("{{.ID}}:{{.Names}}").unwrap(), "1:a\n2:b\n");
        assert!(render("json").unwrap().starts_with("{\"ID\":\"1\",\"Image\":\"x\",\"Names\":\"a\"}\n"));
    }

    #[test]
    fn a_misspelt_field_is_told_even_for_an_empty_list() {
        let error = listing(&[]).render(&Format::parse("{{.Nmaes}}").unwrap()).unwrap_err().to_string();
        assert!(error.contains(".Nmaes") && error.contains(".Names"), "{error}");
    }
}
