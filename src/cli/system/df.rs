//! `system df`.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use crate::cli::container::row as container_row;
use crate::cli::context::Context;
use crate::cli::format::{self, Column, print, render_rows};
use crate::human;
use crate::image;
use crate::system::usage::{self, ImageUsage, Total, Usage};

/// Options of `system df`.
#[derive(Debug, Args)]
pub struct Df {
    /// A Go template, table and a template, or json
    #[arg(long)]
    format: Option<String>,
    /// Show each image, container and volume
    #[arg(short, long)]
    verbose: bool,
}

const fn column(heading: &'static str, field: &'static str) -> Column {
    Column { heading, field }
}

const COLUMNS: [Column; 5] = [
    column("TYPE", "Type"),
    column("TOTAL", "TotalCount"),
    column("ACTIVE", "Active"),
    column("SIZE", "Size"),
    column("RECLAIMABLE", "Reclaimable"),
];

const IMAGES: [Column; 8] = [
    column("REPOSITORY", "Repository"),
    column("TAG", "Tag"),
    column("IMAGE ID", "ID"),
    column("CREATED", "CreatedSince"),
    column("SIZE", "Size"),
    column("SHARED SIZE", "SharedSize"),
    column("UNIQUE SIZE", "UniqueSize"),
    column("CONTAINERS", "Containers"),
];

const CONTAINERS: [Column; 8] = [
    column("CONTAINER ID", "ID"),
    column("IMAGE", "Image"),
    column("COMMAND", "Command"),
    column("LOCAL VOLUMES", "LocalVolumes"),
    column("SIZE", "Size"),
    column("CREATED", "RunningFor"),
    column("STATUS", "Status"),
    column("NAMES", "Names"),
];

const VOLUMES: [Column; 3] = [
    column("VOLUME NAME", "Name"),
    column("LINKS", "Links"),
    column("SIZE", "Size"),
];

/// `system df`.
pub fn run(args: &Df, context: &Context) -> anyhow::Result<ExitCode> {
    let used = usage::measure(&context.store)?;
    let format = args.format.as_deref();
    if !args.verbose {
        let rows = [
            row("Images", used.image_total),
            row("Containers", used.container_total),
            row("Local Volumes", used.volume_total),
        ];
        format::print_rows(format, &COLUMNS, &rows)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (images, containers, volumes) = verbose(&used, context)?;
    match format {
        None => {
            let section = |title: &str, columns: &[Column], rows: &[Value]| {
                let table = render_rows(None, columns, rows)?;
                anyhow::Ok(format!("{title} space usage:\n\n{table}"))
            };
            let text = [
                section("Images", &IMAGES, &images)?,
                section("Containers", &CONTAINERS, &containers)?,
                section("Local Volumes", &VOLUMES, &volumes)?,
            ];
            print(&text.join("\n"))?;
        }
        Some(template) if !template.starts_with("table") => {
            let value = json!({"Images": images, "Containers": containers, "Volumes": volumes});
            format::print_object(template, &value)?;
        }
        Some(_) => bail!("the verbose output has three tables: use a template for all, or json"),
    }
    Ok(ExitCode::SUCCESS)
}

fn row(kind: &str, total: Total) -> Value {
    let percent = (total.reclaimable * 100).checked_div(total.size);
    let share = percent.map_or(String::new(), |percent| format!(" ({percent}%)"));
    json!({
        "Type": kind,
        "TotalCount": total.count.to_string(),
        "Active": total.active.to_string(),
        "Size": human::size(total.size),
        "Reclaimable": human::size(total.reclaimable) + &share,
    })
}

fn verbose(
    used: &Usage,
    context: &Context,
) -> anyhow::Result<(Vec<Value>, Vec<Value>, Vec<Value>)> {
    let containers = used.containers.iter().map(|(container, size)| {
        let mut row = container_row(container, false, context)?;
        row["Size"] = human::size(*size).into();
        anyhow::Ok(row)
    });
    let volumes = used.volumes.iter().map(|(volume, size, links)| {
        json!({
            "Name": volume.name,
            "Driver": "local",
            "Links": links.to_string(),
            "Size": human::size(*size),
        })
    });
    Ok((
        used.images.iter().map(image_row).collect(),
        containers.collect::<Result<_, _>>()?,
        volumes.collect(),
    ))
}

fn image_row(used: &ImageUsage) -> Value {
    let image = &used.image;
    let name = image.names.first().map_or("<none>:<none>", String::as_str);
    let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "<none>"));
    json!({
        "Repository": repository,
        "Tag": tag,
        "ID": image.id.short(),
        "CreatedSince": image::created(image).map_or_else(|| "N/A".to_owned(), human::ago),
        "Size": human::size(used.shared + used.unique),
        "SharedSize": human::size(used.shared),
        "UniqueSize": human::size(used.unique),
        "Containers": used.containers.to_string(),
    })
}
