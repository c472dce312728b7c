//! Lists as docker prints them: a table, one template per row, or JSON lines.

use std::io::{self, Write};

use serde_json::{Map, Value};

use super::{Template, TemplateError};

/// A column of a command's default table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// What stands over it.
    pub heading: &'static str,
    /// The field of a row that stands in it.
    pub field: &'static str,
}

/// Prints rows as the user's `--format` has it, by default as a table of these columns.
pub fn print_rows(format: Option<&str>, columns: &[Column], rows: &[Value]) -> anyhow::Result<()> {
    print(&render_rows(format, columns, rows)?)
}

/// Prints what `inspect` found: a JSON array, or the template applied to each.
pub fn print_objects(format: Option<&str>, values: &[Value]) -> anyhow::Result<()> {
    match format.filter(|format| !format.is_empty()) {
        None => print(&(indented(&Value::from(values.to_vec()))? + "\n")),
        Some("json") => print(&(Value::from(values.to_vec()).to_string() + "\n")),
        Some(format) => {
            let template = Template::parse(&escapes(format))?;
            for value in values {
                print(&(template.render(value)? + "\n"))?;
            }
            Ok(())
        }
    }
}

/// Prints one value through a template; `json` prints it whole.
pub fn print_object(template: &str, value: &Value) -> anyhow::Result<()> {
    match template {
        "json" => print(&format!("{value}\n")),
        template => print(&(Template::parse(&escapes(template))?.render(value)? + "\n")),
    }
}

/// Writes to the standard output; a reader that has seen enough is no error.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    match output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
    {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// All rows as text.
pub fn render_rows(
    format: Option<&str>,
    columns: &[Column],
    rows: &[Value],
) -> Result<String, TemplateError> {
    let format = format
        .map(str::trim_start)
        .filter(|format| !format.is_empty());
    let (format, is_table) = match format.unwrap_or("table") {
        "json" => return Ok(rows.iter().map(|row| format!("{row}\n")).collect()),
        "table" => {
            let cells: Vec<String> = columns
                .iter()
                .map(|column| format!("{{{{.{}}}}}", column.field))
                .collect();
            (cells.join("\t"), true)
        }
        format => match format.strip_prefix("table ") {
            Some(format) => (escapes(format.trim()), true),
            None => (escapes(format), false),
        },
    };
    let template = Template::parse(&format)?;
    let mut lines = Vec::with_capacity(rows.len() + 1);
    if is_table {
        let titles = columns
            .iter()
            .map(|column| (column.field.to_owned(), Value::from(column.heading)));
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

/// JSON with the four spaces of docker's `inspect`.
fn indented(value: &Value) -> anyhow::Result<String> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    serde::Serialize::serialize(value, &mut serializer)?;
    Ok(String::from_utf8(text)?)
}

/// Shells hand `\t` and `\n` over as they are written.
pub fn escapes(format: &str) -> String {
    format.replace("\\t", "\t").replace("\\n", "\n")
}

/// The heading of a field that is in no default table: `CreatedAt` has `CREATED AT`.
pub(super) fn heading(field: &str) -> String {
    let mut text = String::new();
    let mut before = ' ';
    for character in field.chars() {
        if character.is_uppercase() && before.is_lowercase() {
            text.push(' ');
        }
        text.extend(character.to_uppercase());
        before = character;
    }
    text
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
