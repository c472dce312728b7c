//! `history`.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::arch::Platform;
use crate::cli::context::Context;
use crate::cli::format::{Column, print, print_rows};
use crate::human;
use crate::image;

/// Options of `history`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Print sizes and dates in human readable format
    #[arg(short = 'H', long, default_value_t = true, num_args = 0..=1,
          default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    human: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// Which image, where the name stands for several platforms'
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// The image
    #[arg(value_name = "IMAGE")]
    image: String,
}

const CREATED_BY_WIDTH: usize = 45;

/// `history`.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let image = image::get(&context.store, &args.image, args.platform.as_ref())?;
    let rows: Vec<Value> = image::history(&context.store, &image)?
        .iter()
        .map(|step| {
            let id = match step.image {
                Some(id) if args.no_trunc => id.to_string(),
                Some(id) => id.short(),
                None => "<missing>".to_owned(),
            };
            let since = step.created.map_or_else(|| "N/A".to_owned(), human::ago);
            let at = step.created.map(human::rfc3339_local).unwrap_or_default();
            let by = step.created_by.replace(['\t', '\n'], " ");
            json!({
                "ID": id,
                "CreatedAt": at,
                "CreatedSince": if args.human { since } else { at.clone() },
                "CreatedBy": if args.no_trunc { by } else { ellipsis(&by, CREATED_BY_WIDTH) },
                "Size": if args.human { human::size(step.size) } else { step.size.to_string() },
                "Comment": step.comment,
            })
        })
        .collect();
    if args.quiet {
        let ids = rows.iter().filter_map(|row| row["ID"].as_str());
        print(&ids.map(|id| format!("{id}\n")).collect::<String>())?;
        return Ok(ExitCode::SUCCESS);
    }
    let columns = [
        Column {
            heading: "IMAGE",
            field: "ID",
        },
        Column {
            heading: if args.human { "CREATED" } else { "CREATED AT" },
            field: "CreatedSince",
        },
        Column {
            heading: "CREATED BY",
            field: "CreatedBy",
        },
        Column {
            heading: "SIZE",
            field: "Size",
        },
        Column {
            heading: "COMMENT",
            field: "Comment",
        },
    ];
    print_rows(args.format.as_deref(), &columns, &rows)?;
    Ok(ExitCode::SUCCESS)
}

/// At most `width` characters, the last of which says that there were more.
fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars()
        .take(width.saturating_sub(1))
        .chain(['…'])
        .collect()
}
