//! `rmi`.

use std::process::ExitCode;

use crate::arch::Platform;
use crate::cli::context::Context;
use crate::cli::format::print;
use crate::image;

/// Options of `rmi`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Force removal of the image
    #[arg(short, long)]
    force: bool,
    /// Changes nothing: steps of builds stay until builder prune, and layers that nothing needs go
    #[arg(long)]
    no_prune: bool,
    /// Which image, where the name stands for several platforms'
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// The images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// `rmi`: every image is tried; the exit code tells whether one failed.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    let users = |id: &_| context.users_of_image(id);
    for name in &args.images {
        match image::remove(
            &context.store,
            name,
            args.platform.as_ref(),
            args.force,
            &users,
        ) {
            Ok(removed) => {
                let lines: String = removed.iter().map(|what| format!("{what}\n")).collect();
                print(&lines)?;
            }
            Err(image::ImageError::NotFound(_)) if args.force => {}
            Err(error) => {
                eprintln!("hull: {error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}
