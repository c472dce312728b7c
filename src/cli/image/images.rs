//! `images`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::tree;
use crate::cli::context::Context;
use crate::cli::format::{Column, print, print_rows};
use crate::human;
use crate::image::{self, Filter, Image, Reference};

/// Options of `images`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show all images, also those of builds' steps
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// Show the images of all platforms below their name
    #[arg(long, conflicts_with_all = ["quiet", "format", "digests"])]
    tree: bool,
    /// Images of this name only
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

const NONE: &str = "<none>";

const COLUMNS: [Column; 6] = [
    Column {
        heading: "REPOSITORY",
        field: "Repository",
    },
    Column {
        heading: "TAG",
        field: "Tag",
    },
    Column {
        heading: "DIGEST",
        field: "Digest",
    },
    Column {
        heading: "IMAGE ID",
        field: "ID",
    },
    Column {
        heading: "CREATED",
        field: "CreatedSince",
    },
    Column {
        heading: "SIZE",
        field: "Size",
    },
];

/// `images`.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let rows = rows(args, context)?;
    let format = args.format.as_deref();
    if args.quiet && format.is_none_or(|format| format.starts_with("table")) {
        let mut ids: Vec<&str> = rows.iter().filter_map(|row| row["ID"].as_str()).collect();
        ids.dedup();
        print(&ids.iter().map(|id| format!("{id}\n")).collect::<String>())?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.tree {
        tree::print(&rows)?;
        return Ok(ExitCode::SUCCESS);
    }
    let columns: Vec<Column> = COLUMNS
        .into_iter()
        .filter(|it| args.digests || it.field != "Digest")
        .collect();
    print_rows(format, &columns, &rows)?;
    Ok(ExitCode::SUCCESS)
}

/// The rows of the list.
pub fn rows(args: &Args, context: &Context) -> anyhow::Result<Vec<Value>> {
    let known = ["dangling", "label", "before", "since", "until", "reference"];
    let mut filter = Filter::parse(&context.store, &args.filter, &known)?;
    if let Some(name) = &args.name {
        filter.add_reference(name);
    }
    let mut rows = Vec::new();
    for image in image::shown(&context.store, &filter, args.all)? {
        rows.extend(rows_of(&image, &filter, args));
    }
    Ok(rows)
}

/// A row for each name of the image, and for digests that no name stands beside.
fn rows_of(image: &Image, filter: &Filter, args: &Args) -> Vec<Value> {
    let mut repositories: BTreeMap<String, (Vec<String>, Vec<String>)> = BTreeMap::new();
    for name in image
        .names
        .iter()
        .chain(&image.digests)
        .filter(|name| filter.matches_name(name))
    {
        let Ok(reference) = name.parse::<Reference>() else {
            continue;
        };
        let (tags, digests) = repositories.entry(reference.familiar_name()).or_default();
        tags.extend(reference.tag().map(str::to_owned));
        digests.extend(reference.digest().map(|digest| digest.to_string()));
    }
    let mut rows = Vec::new();
    for (repository, (tags, digests)) in &repositories {
        let or_none = |list: &[String]| match list {
            [] => vec![NONE.to_owned()],
            list => list.to_vec(),
        };
        let digests = match args.digests {
            true => or_none(digests),
            false => vec![digests.first().cloned().unwrap_or_else(|| NONE.to_owned())],
        };
        for tag in or_none(tags) {
            for digest in &digests {
                rows.push(row(image, args, repository, &tag, digest));
            }
        }
    }
    if rows.is_empty() && !filter.has_references() {
        rows.push(row(image, args, NONE, NONE, NONE));
    }
    rows
}

fn row(image: &Image, args: &Args, repository: &str, tag: &str, digest: &str) -> Value {
    let created = image::created(image);
    let size = human::size(image.size);
    json!({
        "Containers": "N/A",
        "CreatedAt": created.map(human::local_time).unwrap_or_default(),
        "CreatedSince": created.map_or_else(|| "N/A".to_owned(), human::ago),
        "Digest": digest,
        "ID": if args.no_trunc { image.id.to_string() } else { image.id.short() },
        "Platform": image.platform.to_string(),
        "Repository": repository,
        "SharedSize": "N/A",
        "Size": size,
        "Tag": tag,
        "UniqueSize": "N/A",
        "VirtualSize": size,
    })
}
