//! `layers`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use crate::arch::Platform;
use crate::cli::context::Context;
use crate::cli::format::print;
use crate::human;
use crate::image;
use crate::image::digest::Digest;
use crate::layers::{self, Line, Open, Stack, What, shown};
use crate::page::{self, Script};
use crate::store::Found;

/// Lines about the files of a layer where nobody asks for all.
const LINES: usize = 12;

/// Options of `layers`.
#[derive(Debug, Args)]
pub struct Layers {
    /// Show every path of every layer
    #[arg(short, long)]
    all: bool,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
    /// Write a page for a browser: one file that works offline
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Which image, where the name stands for several platforms'
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// An image, or a container, whose writable layer then lies on top
    #[arg(value_name = "IMAGE|CONTAINER")]
    name: String,
    /// Tell every version of this path, and which one a container sees
    #[arg(value_name = "PATH", conflicts_with_all = ["html", "all"])]
    path: Option<String>,
}

/// `layers`.
pub fn run(args: &Layers, context: &Context) -> anyhow::Result<ExitCode> {
    let open = open(args, context)?;
    if let Some(path) = &args.path {
        return tell(args, &open, path);
    }
    if let Some(file) = &args.html {
        let value = serde_json::to_value(&open.stack)?;
        let title = format!("Layers of {}", open.stack.name);
        let page = page::page(&title, Script::Layers, &value);
        std::fs::write(file, page).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if args.json {
        print(&(serde_json::to_string_pretty(&open.stack)? + "\n"))?;
    } else if args.html.is_none() {
        print(&picture(&open.stack, args.all))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn open(args: &Layers, context: &Context) -> anyhow::Result<Open> {
    let store = &context.store;
    if args.platform.is_none()
        && let Found::One(container) = store.find_container(&args.name)?
    {
        return Ok(layers::open_container(
            store,
            &context.settings,
            &container,
        )?);
    }
    let image = image::get(store, &args.name, args.platform.as_ref())?;
    let name = layers::name_of(&image, &args.name);
    Ok(layers::open_image(store, &name, &image)?)
}

fn tell(args: &Layers, open: &Open, path: &str) -> anyhow::Result<ExitCode> {
    let (resolved, versions) = layers::versions(open, path)?;
    if args.json {
        let value = json!({"path": resolved, "versions": versions});
        print(&format!("{value:#}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = format!("{resolved} in {}\n", shown(open.stack.name.as_bytes()));
    for version in versions.iter().rev() {
        let layer = &open.stack.layers[version.layer - 1];
        let mark = if version.seen { '>' } else { ' ' };
        let mut about = vec![word(version.what).to_owned()];
        if let Some(directory) = &version.through {
            about.push(format!("with {directory}"));
        }
        if let Some(file) = version.file {
            about.push(format!("{file} of {}", human::size(version.size)));
            about.push(format!(
                "{:04o} {}:{}",
                version.mode, version.uid, version.gid
            ));
        }
        if let Some(content) = &version.content {
            about.push(format!("content {}", content.short()));
        }
        if let Some(target) = &version.target {
            about.push(format!("to {target}"));
        }
        let step = step(&layer.step);
        let _ = writeln!(
            text,
            "{mark} {:>3}  {}\n       {step}",
            version.layer,
            about.join(", ")
        );
    }
    let end = match versions.last() {
        Some(last) if last.what == What::Hidden => "A container does not see it.\n",
        _ => "A container sees the version marked with >.\n",
    };
    print(&(text + end))?;
    Ok(ExitCode::SUCCESS)
}

/// The whole stack, the topmost layer first.
fn picture(stack: &Stack, all: bool) -> String {
    let mut text = format!(
        "{}  {}  {}\n{} {}, {} of files, {} of them never seen; a container sees {} paths\n",
        shown(stack.name.as_bytes()),
        stack.id.short(),
        stack.platform,
        stack.layers.len(),
        if stack.layers.len() == 1 {
            "layer"
        } else {
            "layers"
        },
        human::size(stack.size),
        human::size(stack.wasted),
        stack.visible,
    );
    for other in &stack.shared {
        let size = human::size(other.size);
        let name = shown(other.image.as_bytes());
        let _ = writeln!(
            text,
            "in common with {name}: {} of the layers, {size}",
            other.layers
        );
    }
    for layer in stack.layers.iter().rev() {
        let (corner, side) = match layer.number {
            1 if stack.layers.len() == 1 => ('─', ' '),
            1 => ('╰', ' '),
            top if top == stack.layers.len() => ('╭', '│'),
            _ => ('├', '│'),
        };
        for then in layer.settings.iter().rev() {
            let _ = writeln!(
                text,
                "{}       then {}",
                if layer.number == stack.layers.len() {
                    ' '
                } else {
                    '│'
                },
                step(then)
            );
        }
        let _ = writeln!(text, "{corner} {:>3}  {}", layer.number, step(&layer.step));
        let mut facts = vec![human::size(layer.size)];
        facts.push(
            layer
                .digest
                .as_ref()
                .map_or_else(|| "writable".to_owned(), Digest::short),
        );
        for (count, word) in [
            (layer.added, "added"),
            (layer.changed, "changed"),
            (layer.hidden, "hidden"),
        ] {
            if count > 0 {
                facts.push(format!("{count} {word}"));
            }
        }
        if layer.wasted > 0 {
            facts.push(format!("{} never seen", human::size(layer.wasted)));
        }
        let _ = writeln!(text, "{side}      {}", facts.join(", "));
        let limit = if all { usize::MAX } else { LINES };
        let (lines, rest) = layers::outline(&layer.changes, limit);
        for line in &lines {
            let _ = writeln!(text, "{side}      {}", file(line));
        }
        if rest > 0 {
            let _ = writeln!(text, "{side}      … and {rest} more, --all shows them");
        }
    }
    text
}

fn file(line: &Line) -> String {
    let sign = match line.what {
        What::Added => '+',
        What::Changed => '~',
        What::Hidden => '-',
    };
    let mut notes = Vec::new();
    if line.count > 1 {
        notes.push(format!("{} paths", line.count));
    }
    if line.size > 0 {
        notes.push(human::size(line.size));
    }
    if line.opaque {
        notes.push("opaque".to_owned());
    }
    if line.hides > 0 {
        notes.push(format!("hides {}", line.hides));
    }
    match notes.is_empty() {
        true => format!("{sign} {}", line.path),
        false => format!("{sign} {}  {}", line.path, notes.join(", ")),
    }
}

fn word(what: What) -> &'static str {
    match what {
        What::Added => "added",
        What::Changed => "changed",
        What::Hidden => "hidden",
    }
}

/// A step of a Dockerfile in one line.
fn step(text: &str) -> String {
    let text = shown(text.replace(['\n', '\t'], " ").as_bytes());
    match text.is_empty() {
        true => "(no step in the history)".to_owned(),
        false => text,
    }
}
