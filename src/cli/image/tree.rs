//! `images --tree`: every name with the images of all its platforms.

use serde_json::{Value, json};

use crate::cli::format::{Column, print_rows};

const COLUMNS: [Column; 3] = [
    Column {
        heading: "IMAGE",
        field: "Image",
    },
    Column {
        heading: "ID",
        field: "ID",
    },
    Column {
        heading: "SIZE",
        field: "Size",
    },
];

/// Prints the rows of `images`, those of one name below it.
pub fn print(rows: &[Value]) -> anyhow::Result<()> {
    let mut names: Vec<String> = Vec::new();
    for name in rows.iter().map(name) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut lines = Vec::new();
    for wanted in names {
        let of_name: Vec<&Value> = rows.iter().filter(|row| name(row) == wanted).collect();
        lines.push(json!({"Image": wanted, "ID": "", "Size": ""}));
        for (number, row) in of_name.iter().enumerate() {
            let branch = match number + 1 == of_name.len() {
                true => "└─",
                false => "├─",
            };
            let platform = row["Platform"].as_str().unwrap_or_default();
            lines.push(json!({
                "Image": format!("{branch} {platform}"),
                "ID": row["ID"],
                "Size": row["Size"],
            }));
        }
    }
    print_rows(None, &COLUMNS, &lines)
}

fn name(row: &Value) -> String {
    let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
    format!("{}:{}", text("Repository"), text("Tag"))
}
