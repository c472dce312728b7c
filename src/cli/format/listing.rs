//! Lists as docker prints them: a table, one template per row, or JSON lines.

use serde_json::{Map, Value};

use super::{Template, TemplateError};

/// A column that a listing can have: the field's name and its title.
pub type Column = (&'static str, &'static str);

/// What a command can list.
#[derive(Debug, Clone, Copy)]
pub struct Listing<'a> {
    /// Every field that a row has and the title over it.
    pub columns: &'a [Column],
    /// The template of the default table, after the word `table`.
    pub table: &'a str,
    /// The field that `--quiet` prints.
    pub quiet: &'a str,
}

impl Listing<'_> {
    /// All rows as text. `format` is the user's `--format`, if any.
    pub fn render(
        &self,
        format: Option<&str>,
        quiet: bool,
        rows: &[Value],
    ) -> Result<String, TemplateError> {
        let format = format
            .map(str::trim_start)
            .filter(|format| !format.is_empty());
        let (format, is_table) = match format.unwrap_or("table") {
            "json" => return Ok(rows.iter().map(|row| format!("{row}\n")).collect()),
            _ if quiet && format.is_none_or(|format| format.starts_with("table")) => {
                (format!("{{{{.{}}}}}", self.quiet), false)
            }
            "raw" => (self.raw(), false),
            "table" => (self.table.to_owned(), true),
            format => match format.strip_prefix("table ") {
                Some(format) => (escapes(format.trim()), true),
                None => (escapes(format), false),
            },
        };
        let template = Template::parse(&format)?;
        let mut lines = Vec::with_capacity(rows.len() + 1);
        if is_table {
            let titles = self
                .columns
                .iter()
                .map(|(field, title)| ((*field).to_owned(), Value::from(*title)));
            lines.push(template.render_titles(&Value::Object(titles.collect::<Map<_, _>>()))?);
        }
        for row in rows {
            lines.push(template.render(row)?);
        }
        if is_table {
            return Ok(write_table(&lines));
        }
        Ok(lines.into_iter().map(|line| line + "\n").collect())
    }

    /// Every field on a line of its own.
    fn raw(&self) -> String {
        let lines = self.columns.iter().map(|(field, title)| {
            format!(
                "{}: {{{{.{field}}}}}\n",
                title.to_lowercase().replace(' ', "_")
            )
        });
        lines.collect()
    }
}

/// Shells hand `\t` and `\n` over as they are written.
fn escapes(format: &str) -> String {
    format.replace("\\t", "\t").replace("\\n", "\n")
}

/// Lines whose cells end in tabs, aligned: cells at least ten wide, three spaces between.
pub fn write_table(lines: &[String]) -> String {
    const LEAST: usize = 10;
    const GAP: usize = 3;
    let width = |text: &str| text.chars().count();
    let cells: Vec<Vec<&str>> = lines
        .iter()
        .flat_map(|line| line.split('\n'))
        .map(|line| line.split('\t').collect())
        .collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in &cells {
        for (column, cell) in row.iter().rev().skip(1).rev().enumerate() {
            if column == widths.len() {
                widths.push(LEAST);
            }
            widths[column] = widths[column].max(width(cell) + GAP);
        }
    }
    let mut output = String::new();
    for row in &cells {
        for (column, cell) in row.iter().enumerate() {
            output.push_str(cell);
            if column + 1 < row.len() {
                let padding = widths
                    .get(column)
                    .map_or(0, |all| all.saturating_sub(width(cell)));
                output.extend(std::iter::repeat_n(' ', padding));
            }
        }
        output.push('\n');
    }
    output
}
