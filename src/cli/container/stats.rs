//! `stats`.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::format::{Column, print, render_rows};
use crate::container::record::Container;
use crate::container::stats::{self, Sample, Stats as Used};
use crate::container::{Status, lifecycle};
use crate::human;

/// Between two looks, docker's.
const INTERVAL: Duration = Duration::from_secs(1);

/// Options of `stats`.
#[derive(Debug, Args)]
pub struct Stats {
    /// Show containers that do not run too
    #[arg(short, long)]
    all: bool,
    /// A Go template, table and a template, or json
    #[arg(long)]
    format: Option<String>,
    /// Show one look and end
    #[arg(long)]
    no_stream: bool,
    /// Do not shorten
    #[arg(long)]
    no_trunc: bool,
    /// Names or ids; all that run where there are none
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

const COLUMNS: [Column; 8] = [
    column("CONTAINER ID", "ID"),
    column("NAME", "Name"),
    column("CPU %", "CPUPerc"),
    column("MEM USAGE / LIMIT", "MemUsage"),
    column("MEM %", "MemPerc"),
    column("NET I/O", "NetIO"),
    column("BLOCK I/O", "BlockIO"),
    column("PIDS", "PIDs"),
];

const fn column(heading: &'static str, field: &'static str) -> Column {
    Column { heading, field }
}

/// `stats`.
pub fn run(args: &Stats, context: &Context) -> anyhow::Result<ExitCode> {
    let mut before: HashMap<String, Sample> = HashMap::new();
    let clears = std::io::stdout().is_terminal() && !args.no_stream;
    // What was used in a while takes two looks to tell.
    let mut show = false;
    loop {
        let containers = chosen(args, context)?;
        let mut rows = Vec::with_capacity(containers.len());
        let mut now = HashMap::new();
        for container in &containers {
            let running = container.state.status == Status::Running
                || container.state.status == Status::Paused;
            // One that ends at this moment uses nothing.
            let sample = running
                .then(|| stats::sample(&context.store, container).ok())
                .flatten();
            let used = sample
                .as_ref()
                .map(|sample| sample.since(before.get(&container.id), container));
            rows.push(row(container, used.as_ref(), args.no_trunc));
            if let Some(sample) = sample {
                now.insert(container.id.clone(), sample);
            }
        }
        before = now;
        if show {
            let text = render_rows(args.format.as_deref(), &COLUMNS, &rows)?;
            if clears {
                print(&format!("\x1b[H\x1b[J{text}"))?;
            } else {
                print(&text)?;
            }
            std::io::stdout().flush()?;
            if args.no_stream {
                return Ok(ExitCode::SUCCESS);
            }
        }
        show = true;
        std::thread::sleep(INTERVAL);
    }
}

fn chosen(args: &Stats, context: &Context) -> anyhow::Result<Vec<Container>> {
    if args.containers.is_empty() {
        let mut all = context.store.containers()?;
        all.retain(|container| args.all || container.state.status.is_live());
        return Ok(all);
    }
    let find = |name: &String| Ok(lifecycle::find(&context.store, name)?);
    args.containers.iter().map(find).collect()
}

fn row(container: &Container, used: Option<&Used>, whole: bool) -> Value {
    let id = if whole {
        &container.id
    } else {
        container.short_id()
    };
    let none = Used::default();
    let used_or_none = used.unwrap_or(&none);
    let pair = |a: u64, b: u64| format!("{} / {}", human::size(a), human::size(b));
    json!({
        "Container": id,
        "ID": id,
        "Name": container.name,
        "CPUPerc": format!("{:.2}%", used_or_none.cpu_percent),
        "MemUsage": format!(
            "{} / {}",
            human::binary_size(used_or_none.memory),
            human::binary_size(used_or_none.memory_limit)
        ),
        "MemPerc": format!("{:.2}%", used_or_none.memory_percent()),
        "NetIO": pair(used_or_none.received, used_or_none.sent),
        "BlockIO": pair(used_or_none.read, used_or_none.written),
        "PIDs": used_or_none.pids.to_string(),
    })
}
