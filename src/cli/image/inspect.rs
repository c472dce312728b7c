//! `image inspect`, in the shape of docker's.

use std::process::ExitCode;

use serde_json::Value;

use crate::arch::Platform;
use crate::cli::context::Context;
use crate::cli::format::print_objects;
use crate::image;

/// Options of `image inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Format output using a custom template: 'json' or a Go template
    #[arg(short, long)]
    format: Option<String>,
    /// Which image, where the name stands for several platforms'
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// The images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// `image inspect`.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    let mut found = Vec::new();
    for name in &args.images {
        match image::get(&context.store, name, args.platform.as_ref()) {
            Ok(image) => found.push(image::inspect_value(&context.store, &image)),
            Err(error) => {
                eprintln!("hull: {error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    print_objects(args.format.as_deref(), &found)?;
    Ok(code)
}

/// What `inspect` shows of the image of this name, if there is one.
pub fn inspect_value(context: &Context, name: &str) -> anyhow::Result<Option<Value>> {
    Ok(image::find(&context.store, name, None)?
        .map(|image| image::inspect_value(&context.store, &image)))
}
