//! `hash`.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use crate::arch::Platform;
use crate::cli::context::Context;
use crate::cli::format::print;
use crate::hash::{self, Comparison, Difference, Source, Subject};
use crate::human;
use crate::layers::shown;

/// Differences that are shown where nobody asks for all.
const LINES: usize = 40;

/// Options of `hash`.
#[derive(Debug, Args)]
pub struct Hash {
    /// Print the text whose digest the content hash is
    #[arg(long, conflicts_with_all = ["json", "other", "recipe"])]
    list: bool,
    /// Print the text that the recipe with sha1sum makes
    #[arg(long, conflicts_with_all = ["json", "other"])]
    recipe: bool,
    /// Show every difference
    #[arg(short, long, requires = "other")]
    all: bool,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
    /// Which image, where the name stands for several platforms'
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// A directory or file (begin it with / or . where it could be an image), an image, or the
    /// digest of a layer
    #[arg(value_name = "PATH|IMAGE|LAYER")]
    name: String,
    /// What to compare it with; the exit code is 1 where the content differs
    #[arg(value_name = "PATH|IMAGE|LAYER")]
    other: Option<String>,
}

/// `hash`.
pub fn run(args: &Hash, context: &Context) -> anyhow::Result<ExitCode> {
    let open = |name: &str| hash::open(&context.store, name, args.platform.as_ref());
    let first = open(&args.name)?;
    if args.list {
        print(&first.listing.text())?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.recipe {
        let (text, _) = hash::recipe(&first.listing, first.directory());
        print(&String::from_utf8_lossy(&text))?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(other) = &args.other else {
        match args.json {
            true => print(&format!("{:#}\n", value(&first)))?,
            false => print(&about(&first))?,
        }
        return Ok(ExitCode::SUCCESS);
    };
    let second = open(other)?;
    let comparison = hash::compare(&first, &second);
    if args.json {
        print(&format!("{:#}\n", both(&first, &second, &comparison)))?;
    } else {
        let limit = if args.all { usize::MAX } else { LINES };
        print(&told(&first, &second, &comparison, limit))?;
    }
    Ok(match comparison.same {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn about(subject: &Subject) -> String {
    let (files, bytes) = subject.listing.files();
    let (_, recipe) = hash::recipe(&subject.listing, subject.directory());
    let mut text = format!("content  {}\n", subject.listing.digest());
    match &subject.source {
        Source::Path => {}
        Source::Image(image) => {
            let _ = writeln!(text, "image    {}", image.id);
            for layer in &image.layers {
                let _ = writeln!(text, "layer    {layer}");
            }
        }
        Source::Layer(digest) => {
            let _ = writeln!(text, "layer    {digest}");
        }
    }
    let _ = writeln!(text, "recipe   {recipe}");
    let _ = writeln!(
        text,
        "{} in {files} files, {} paths",
        human::size(bytes),
        subject.listing.0.len()
    );
    let directory = shown(subject.directory());
    let _ = writeln!(
        text,
        "content: paths, kinds and contents, no times, owners or permissions (--list shows what is hashed)\n\
         recipe:  find {directory} -type f -exec sha1sum {{}} + | LC_ALL=C sort -k 2 | sha1sum"
    );
    text
}

fn told(a: &Subject, b: &Subject, comparison: &Comparison, limit: usize) -> String {
    let mut text = String::new();
    for subject in [a, b] {
        let name = shown(subject.name.as_bytes());
        let _ = writeln!(text, "{}  {name}", subject.listing.digest());
    }
    for (path, difference) in comparison.differences.iter().take(limit) {
        let line = match difference {
            Difference::OnlyFirst => format!("< {path}"),
            Difference::OnlySecond => format!("> {path}"),
            Difference::Content => format!("~ {path}"),
            Difference::Attributes(words) => format!("= {path}: {words}"),
        };
        let _ = writeln!(text, "{line}");
    }
    let rest = comparison.differences.len().saturating_sub(limit);
    if rest > 0 {
        let _ = writeln!(text, "… and {rest} more, --all shows them");
    }
    if comparison.times > 0 {
        let _ = writeln!(text, "only the times of {} paths differ", comparison.times);
    }
    for reason in &comparison.reasons {
        let _ = writeln!(text, "{reason}");
    }
    text
}

fn value(subject: &Subject) -> Value {
    let (files, bytes) = subject.listing.files();
    let (_, recipe) = hash::recipe(&subject.listing, subject.directory());
    let mut value = json!({
        "name": subject.name,
        "content": subject.listing.digest(),
        "recipe": recipe,
        "files": files,
        "bytes": bytes,
    });
    match &subject.source {
        Source::Path => {}
        Source::Image(image) => {
            value["image"] = json!(image.id);
            value["layers"] = json!(image.layers);
        }
        Source::Layer(digest) => value["layer"] = json!(digest),
    }
    value
}

fn both(a: &Subject, b: &Subject, comparison: &Comparison) -> Value {
    let differences = comparison.differences.iter().map(|(path, difference)| {
        let (what, how) = match difference {
            Difference::OnlyFirst => ("only-first", None),
            Difference::OnlySecond => ("only-second", None),
            Difference::Content => ("content", None),
            Difference::Attributes(words) => ("attributes", Some(words)),
        };
        json!({"path": path, "what": what, "how": how})
    });
    json!({
        "first": value(a),
        "second": value(b),
        "same": comparison.same,
        "differences": differences.collect::<Vec<_>>(),
        "times": comparison.times,
        "reasons": comparison.reasons,
    })
}
