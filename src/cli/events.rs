//! `events`.

use std::io;
use std::process::ExitCode;

use clap::Args;

use super::context::Context;
use super::format::{self, Template};
use crate::container::record::now_ns;
use crate::events::{self, Event, Filter, FollowError};
use crate::time::parse_time;

/// Options of `events`.
#[derive(Debug, Args)]
pub struct Events {
    /// Show only what matches: container, event, image, label, network, scope, type, volume
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// A Go template, or json
    #[arg(long)]
    format: Option<String>,
    /// Show what happened since this time: 2026-01-02T15:04:05Z, seconds since 1970, or 10m ago
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Show what happened until this time, and end then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

/// `events`.
pub fn run(args: &Events, context: &Context) -> anyhow::Result<ExitCode> {
    let filter = Filter::parse(&args.filter)?;
    let until = args.until.as_deref().map(parse_time).transpose()?;
    // As docker: without a beginning, what happens from now on.
    let since = match args.since.as_deref() {
        Some(text) => parse_time(text)?,
        None => now_ns(),
    };
    let template = match args.format.as_deref() {
        None | Some("" | "json") => None,
        Some(text) => Some(Template::parse(&format::escapes(text))?),
    };
    let as_json = args.format.as_deref() == Some("json");
    let line = |event: &Event| match &template {
        Some(template) => template.render(&event.value()).map_err(io::Error::other),
        None if as_json => Ok(event.value().to_string()),
        None => Ok(event.line()),
    };
    let followed = events::follow(&context.store, since, until, |event| {
        if filter.matches(event) {
            let text = line(event)? + "\n";
            return io::Write::write_all(&mut io::stdout().lock(), text.as_bytes());
        }
        Ok(())
    });
    match followed {
        // Whoever read has seen enough.
        Err(FollowError::Taker(error)) if error.kind() == io::ErrorKind::BrokenPipe => {}
        followed => followed?,
    }
    Ok(ExitCode::SUCCESS)
}
