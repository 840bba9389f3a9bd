//! Columns under each other, as Docker aligns them: at least ten wide, three spaces between.

use std::fmt::Write;

const MIN_WIDTH: usize = 10;
const PADDING: usize = 3;

/// One line per row; the last cell of a row is not padded.
pub(crate) fn align(rows: &[Vec<String>]) -> String {
    let widths = widths(rows);
    let mut out = String::new();
    for row in rows {
        for (index, cell) in row.iter().enumerate() {
            if index + 1 == row.len() {
                out.push_str(cell);
            } else {
                // A String never refuses a write.
                let _ = write!(out, "{cell:<width$}", width = widths[index]);
            }
        }
        out.push('\n');
    }
    out
}

/// The width of each column, its padding included. A row's last cell does not widen its column.
fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter(|row| column + 1 < row.len()).map(|row| row[column].chars().count());
        (cells.max().unwrap_or(0) + PADDING).max(MIN_WIDTH)
    };
    (0..columns).map(width).collect()
}

/// `text` cut to `length` characters, the last of them an ellipsis.
pub(crate) fn ellipsis(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    text.chars().take(length.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn columns_are_aligned_as_dockers_are() {
        let rows =
            [row(&["CONTAINER ID", "PORTS", "NAMES"]), row(&["0123456789ab", "", "very_long_name_here"])];
        assert_eq!(
            align(&rows),
            "CONTAINER ID   PORTS     NAMES\n\
             0123456789ab             very_long_name_here\n"
        );
    }

    #[test]
    fn long_text_ends_in_an_ellipsis() {
        assert_eq!(ellipsis("twenty characters ok", 20), "twenty characters ok");
        assert_eq!(ellipsis("twenty-one characters", 20), "twenty-one characte…");
    }
}
