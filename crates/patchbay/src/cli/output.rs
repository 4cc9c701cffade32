//! How commands print: tables for people, JSON for programs.

use std::io::{self, Write};

use serde::Serialize;

use super::args::Format;

/// Where a command writes. Its log lines go elsewhere.
pub struct Output<'a> {
    writer: &'a mut (dyn Write + Send),
}

impl std::fmt::Debug for Output<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Output")
    }
}

impl<'a> Output<'a> {
    /// Writes to `writer`.
    pub fn new(writer: &'a mut (dyn Write + Send)) -> Self {
        Self { writer }
    }

    /// A line.
    pub fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        writeln!(self.writer, "{}", text.as_ref())
    }

    /// Text as it is.
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        self.writer.write_all(text.as_bytes())
    }

    /// Pretty JSON.
    pub fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> io::Result<()> {
        let text = serde_json::to_string_pretty(value)?;
        self.line(text)
    }

    /// The rows as JSON or as a table of `columns`, or `empty` if there are none.
    pub fn table<T: Serialize>(
        &mut self,
        format: Format,
        rows: &[T],
        columns: &[&str],
        cells: impl Fn(&T) -> Vec<String>,
        empty: &str,
    ) -> io::Result<()> {
        if format.json {
            return self.json(rows);
        }
        if rows.is_empty() {
            return self.line(empty);
        }
        let cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
        let width = |column: usize| {
            let heading = columns[column].chars().count();
            cells
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
                .max(heading)
        };
        let widths: Vec<usize> = (0..columns.len()).map(width).collect();
        let headings: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
        self.row(&headings, &widths)?;
        cells.iter().try_for_each(|row| self.row(row, &widths))
    }

    fn row(&mut self, cells: &[String], widths: &[usize]) -> io::Result<()> {
        let last = cells.len().saturating_sub(1);
        let mut line = String::new();
        for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
            line.push_str(cell);
            if index < last {
                let padding = width.saturating_sub(cell.chars().count()) + 2;
                line.extend(std::iter::repeat_n(' ', padding));
            }
        }
        self.line(line.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(format: Format, rows: &[(&str, u8)]) -> String {
        let mut buffer = Vec::new();
        let cells = |row: &(&str, u8)| vec![row.0.to_owned(), row.1.to_string()];
        Output::new(&mut buffer)
            .table(format, rows, &["NAME", "N"], cells, "nothing")
            .unwrap();
        String::from_utf8(buffer).unwrap()
    }

    #[test]
    fn tables_line_up_and_json_is_whole() {
        let text = Format { json: false };
        assert_eq!(printed(text, &[]), "nothing\n");
        assert_eq!(
            printed(text, &[("développement", 1), ("b", 2)]),
            "NAME           N\ndéveloppement  1\nb              2\n"
        );
        assert_eq!(printed(Format { json: true }, &[]), "[]\n");
    }
}
